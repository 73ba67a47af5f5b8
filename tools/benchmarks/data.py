"""`benchmark data`: packed sequences read a second, beside those that a train step consumes.

The reader is all that training has of it: `loader.batches` over a corpus that is tokenised already.
The step is that of a model of 24M parameters, small enough that reading could hold it up. Both may
use the same cores, and neither runs while the other is measured. Beside that, how fast text is
tokenised by one process, by two, and so on to as many as there are cores, and each step of a
cleaning.

  python -m tools.benchmarks.data read TEXT TOKENIZER FOLDER LENGTH BATCH   one run, told as JSON
  python -m tools.benchmarks.data step ARCHITECTURE LENGTH BATCH            one run of that
  python -m tools.benchmarks.data tokenize TEXT TOKENIZER FOLDER WORKERS    one run of that
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite.config import Architecture, Config, Data, Optimizer, Source
from maxlite.console import say
from maxlite.data.making import Making, make, stamps
from maxlite.data.sources import expand
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.workers import cores
from tools.benchmarks import cleaning, worker
from tools.benchmarks.tokenize import largest

LENGTH, BATCH = 512, 8
SHAPE = {  # 24.3M parameters, two thirds of them vocabulary
    "vocab_size": 32000,
    "hidden_size": 256,
    "intermediate_size": 688,
    "num_hidden_layers": 10,
    "num_attention_heads": 4,
}
STEPS = 3  # of the model, after one that is not timed
SEQUENCES = 20_000  # read, after those that are read ahead


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures reading, the step and tokenising; prints a table.

    Args:
      settings: `text` (globs with commas), `tokenizer`, `runs`, `dry_run` as attributes.

    Returns:
      A row for reading, with sequences a second of the reader (ours) and of the step (peer), and
      one for each number of processes that tokenise, in 10^6 bytes a second, which have no peer:
      name, ours, peer, ratio, unit, runs, peak_mib (of the largest process) and seconds.

    Raises:
      InputError: a flag is missing, or a file cannot be read or encoded.
    """
    if not settings.text or not settings.tokenizer:
        raise InputError("--text and --tokenizer must be given; --help says what they mean")
    files = [f for pattern in settings.text.split(",") for f in expand(Source(glob=pattern))]
    load_tokenizer(settings.tokenizer)  # refused here, not in a process of ours
    size = sum(file.stat().st_size for file in files)
    counts = [1 << i for i in range(cores().bit_length())]
    if settings.dry_run:
        say(f"would tokenise {size / 1e6:.1f} MB with up to {counts[-1]} processes, and read them")
        return None
    shape = (str(LENGTH), str(BATCH))
    told: dict[str, list[dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory() as here,
        tqdm(total=settings.runs * (len(counts) + 3), desc="measuring") as bar,
    ):
        text = (settings.text, settings.tokenizer, here)
        for _ in range(settings.runs):  # in turn, so that a slow minute hits all alike
            for name, arguments in (
                *((f"tokenize {n}", ("tokenize", *text, str(n))) for n in counts),
                ("read", ("read", *text, *shape)),
                ("step", ("step", json.dumps(SHAPE), *shape)),
            ):
                told.setdefault(name, []).append(_run(*arguments))
                bar.update()
        cleaned = cleaning.measure(settings.text, settings.runs, bar.update)
    step, peak = _middle(told["step"], "rate"), max(run["peak_mib"] for run in told["step"])
    read = _row(f"reading {BATCH} x {LENGTH}", told["read"], "sequences/s")
    read |= {"peer": step, "ratio": read["ours"] / step, "peer_peak_mib": peak}
    rows = [read]
    for n in counts:
        said = f"tokenising, {n} process{'es' if n > 1 else ''}"
        rows.append(_row(said, told[f"tokenize {n}"], "MB/s"))
    _print(rows)
    return rows + cleaned


def _row(name: str, told: list[dict[str, float]], unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "ours": _middle(told, "rate"),
        "peer": None,
        "ratio": None,
        "unit": unit,
        "runs": len(told),
        "peak_mib": max(run["peak_mib"] for run in told),
        "seconds": _middle(told, "seconds"),
    }


def _middle(told: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in told)


def _run(*arguments: str) -> dict[str, float]:
    return worker.figures(arguments[0], "tools.benchmarks.data", *arguments)


def _print(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'':<28}{'ours':>12}{'step':>10}{'ratio':>9} {'unit':<12}{'seconds':>8}{'peak MiB':>10}"
    )
    for row in rows:
        peer, ratio = (f"{row[k]:.2f}" if row[k] else "-" for k in ("peer", "ratio"))
        print(
            f"{row['name']:<28}{row['ours']:>12.2f}{peer:>10}{ratio:>9} {row['unit']:<12}"
            f"{row['seconds']:>8.2f}{row['peak_mib']:>7.0f}"
        )
    print("step: what a train step of the model consumes on the same machine, all of it trained")


def read(text: str, tokenizer: str, folder: str, length: int, batch: int) -> dict[str, float]:
    """Reads batches as training does; the first run tokenises the text before."""
    from maxlite.data.corpus import load_corpus
    from maxlite.data.loader import batches

    os.environ["MAXLITE_CACHE"] = folder
    data = Data(train=tuple(map(Source, text.split(","))))
    corpus = load_corpus(data, load_tokenizer(tokenizer), 0, length, batch, progress=False)
    ahead = 20
    steps = ahead + max(1, SEQUENCES // batch)
    stream = batches(corpus, 0, steps, range(batch))
    for _ in range(ahead):
        next(stream)
    began = time.monotonic()
    count = sum(len(rows["tokens"]) for rows in stream)
    seconds = time.monotonic() - began
    return {"rate": count / seconds, "seconds": seconds}


def step(architecture: str, length: int, batch: int) -> dict[str, float]:
    """Compiles a step in which everything trains, and takes it a few times."""
    import functools

    import jax
    import numpy as np

    from maxlite.model import llama
    from maxlite.state.claims import claim
    from maxlite.state.ready import default_dtype
    from maxlite.training import optim
    from maxlite.training.step import State, new_counters
    from tools.benchmarks.batches import random_batch
    from tools.benchmarks.stepping import compiled_step

    arch = Architecture(**json.loads(architecture))
    claims, key = claim("everything", arch), jax.random.key(0)
    params = {n: llama.initialize(arch, n, s, key, np.float32) for n, s in claims.whole.items()}
    optimizer = optim.make_optimizer(Config(steps=10**6, optimizer=Optimizer()))
    state = State(params, optimizer.init(params), new_counters())
    bind = functools.partial(llama.bind, arch, dtype=default_dtype())
    rows = random_batch((1, batch, length), range(arch.vocab_size))
    run, _ = compiled_step(bind, optimizer, state, {}, rows, np.zeros(1, np.int32))
    seconds = statistics.median(run() for _ in range(STEPS))
    return {"rate": batch / seconds, "seconds": seconds}


def tokenize(text: str, tokenizer: str, folder: str, workers: int) -> dict[str, float]:
    """Makes a token cache with as many processes as are asked for."""
    files = [f for pattern in text.split(",") for f in expand(Source(glob=pattern))]
    size = sum(file.stat().st_size for file in files)
    out = Path(folder) / "made"
    loaded = load_tokenizer(tokenizer)
    began = time.monotonic()
    # As many shards as there would be of a large text, so that all processes have work.
    share = max(1, size // (4 * cores()))
    making = Making(files, stamps(files), loaded, out.with_name("work"), shard_bytes=share)
    make(making, out, workers=workers)
    seconds = time.monotonic() - began
    shutil.rmtree(out)
    return {"rate": size / 1e6 / seconds, "seconds": seconds}


if __name__ == "__main__":
    _, _what, *_arguments = sys.argv
    _numbers = [int(a) if a.isdecimal() else a for a in _arguments]
    _told = {"read": read, "step": step, "tokenize": tokenize}[_what](*_numbers)
    print(json.dumps(_told | {"peak_mib": largest()}))
