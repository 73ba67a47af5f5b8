"""`benchmark checkpoint`: how long a save holds up training, beside a step.

The loop is held until the arrays may be overwritten; what is left, writing and checking, goes on in
the background. On a CPU that has the same cores as the steps, so they are timed meanwhile as well.
"""

from __future__ import annotations

import functools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from maxlite.config import Architecture, Config
from maxlite.console import say
from maxlite.model import llama
from maxlite.state.checkpoint import Checkpoints
from maxlite.state.claims import claim
from maxlite.state.ready import default_dtype
from maxlite.training import optim
from maxlite.training import step as step_lib
from tools.benchmarks.batches import random_batch
from tools.benchmarks.stepping import MIB

BATCH, LENGTH, STEPS = 4, 256, 3
ARCH = Architecture(
    vocab_size=32000,
    hidden_size=768,
    intermediate_size=2048,
    num_hidden_layers=12,
    num_attention_heads=12,
)


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Saves a model that trains, with its moments, after every few steps; prints a table.

    Args:
      settings: `runs` (saves), `dir` (where, or a temporary folder), `dry_run` as attributes.

    Returns:
      One row: name, ours (seconds that a save holds up the loop) and peer (of a step with nothing
      in the background), ratio, unit, runs, peak_mib (None), and checkpoint_mib, written (seconds
      until it is verified) and while_writing (of a step meanwhile, over one without).
    """
    if settings.dry_run:
        say(f"would save a model of random weights {settings.runs} times")
        return None
    claims, key = claim("everything", ARCH), jax.random.key(0)
    params = {n: llama.initialize(ARCH, n, s, key, np.float32) for n, s in claims.whole.items()}
    optimizer = optim.make_optimizer(Config(steps=10**6))
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / MIB
    bind = functools.partial(llama.bind, ARCH, dtype=default_dtype())
    step = jax.jit(step_lib.make_step(bind, optimizer), donate_argnums=0)
    batch, flag = random_batch((1, BATCH, LENGTH), range(ARCH.vocab_size)), np.zeros(1, np.int32)
    told: dict[str, list[float]] = {"step": [], "held": [], "written": [], "meanwhile": []}

    def stepped() -> float:
        nonlocal state
        began = time.monotonic()
        state, figures = step(state, {}, batch, flag)
        jax.block_until_ready((state, figures))
        return time.monotonic() - began

    stepped()
    place = Path(settings.dir).expanduser() if settings.dir else None
    with tempfile.TemporaryDirectory(prefix="maxlite-benchmark-", dir=place) as scratch:
        verified: list[float] = []
        saves = Checkpoints(Path(scratch), 1, 0, lambda _: verified.append(time.monotonic()))
        for number in tqdm(range(settings.runs), desc="saving"):
            told["step"] += [stepped() for _ in range(STEPS)]
            began = time.monotonic()
            rest = {"opt": state.opt, "counters": state.counters}
            saves.save(number, state.params, rest, {"step": number})
            told["held"].append(time.monotonic() - began)
            told["meanwhile"].append(stepped())
            saves.wait()
            told["written"].append(verified[-1] - began)
        saves.close()
    held, one, written, meanwhile = (
        statistics.median(told[key]) for key in ("held", "step", "written", "meanwhile")
    )
    row = {"name": f"a save of {size:.0f} MiB", "ours": held, "peer": one, "ratio": held / one}
    row |= {"unit": "seconds", "runs": settings.runs, "peak_mib": None, "checkpoint_mib": size}
    row |= {"written": written, "while_writing": meanwhile / one}
    print(
        f"{row['name']}: it holds up the loop for {held:.3f} s, {held / one:.1%} of a step of "
        f"{one:.2f} s;\nit is written and verified after {written:.2f} s, and a step meanwhile "
        f"takes {meanwhile / one:.2f} times as long"
    )
    return [row]
