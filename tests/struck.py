"""`maxlite.train` with a mishap, or watched: python -m tests.struck, with its flags and:

--strike=PHASE,N,WHAT  the Nth time that this process comes through a phase it gets the signal
                       WHAT, such as SIGTERM, or it sleeps for ever: hang
--tokens=FILE          adds a line of JSON for each shard of each step's batch: its step, global
                       rows and token ids
"""

import importlib
import json
import os
import signal
import sys
import time
from typing import Any

import numpy as np

from maxlite import console, flags, train

PHASES = {
    "prepare": ("maxlite.training.job", "load_corpus"),
    "compile": ("jax.stages", "Lowered.compile"),
    "step": ("maxlite.state.batch", "to_devices"),
    "evaluation": ("maxlite.score", "_add"),  # at each batch
    "export": ("maxlite.surgery.adapters", "beside"),  # at each tensor, in every process
}
NOTICED = 3  # seconds; jax looks once a second whether there was a SIGTERM


def strike(phase: str, count: str, what: str) -> None:
    """Patches the function of a phase."""
    module, path = PHASES[phase]
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original, calls = getattr(owner, name), []

    def struck(*arguments: Any, **settings: Any) -> Any:
        calls.append(name)
        if len(calls) == int(count):
            if what == "hang":
                time.sleep(1e6)
            os.kill(os.getpid(), signal.Signals[what])
            time.sleep(NOTICED)
        return original(*arguments, **settings)

    setattr(owner, name, struck)


def write_down(path: str) -> None:
    """Patches what brings a step's batch to the devices; evaluations must be off."""
    from maxlite.state import batch
    from maxlite.training import trainer

    batches, to_devices, steps = trainer.batches, batch.to_devices, []

    def watched(corpus: Any, start: int, *others: Any) -> Any:
        steps.append(start)
        return batches(corpus, start, *others)

    def placed(local: Any, rows: Any, sharding: Any, shape: Any) -> Any:
        found = to_devices(local, rows, sharding, shape)
        steps[0] += 1
        for shard in found["tokens"].addressable_shards:
            a, b = (
                range(*part.indices(n)) for part, n in zip(shard.index, shape[:2], strict=False)
            )
            numbers = [i * shape[1] + j for i in a for j in b]
            ids = np.asarray(shard.data).reshape(len(numbers), -1).tolist()
            with open(path, "a") as file:
                file.write(json.dumps({"step": steps[0], "rows": numbers, "tokens": ids}) + "\n")
        return found

    trainer.batches, batch.to_devices = watched, placed


def main(argv: list[str]) -> None:
    own, rest = flags.taken(argv, ("strike", "tokens"))
    if "strike" in own:
        strike(*own["strike"].split(","))
    if "tokens" in own:
        write_down(own["tokens"])
    train.main(rest)


if __name__ == "__main__":
    console.run(main)  # type: ignore[arg-type]
    sys.exit()
