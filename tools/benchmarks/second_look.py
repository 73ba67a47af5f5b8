"""`benchmark second_look`: a second round of training on what was hard, beside a random half.

For each seed a model is trained on the text for some steps, round one. It then scores what it has
read, and goes on from there over half of it, once: of batches drawn evenly, of batches drawn by
their losses as is published, and of single sequences drawn so. All have the same steps, settings
and start, and the losses are of documents that no round has read.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from maxlite.config import Checkpoint, Config, Data, Eval, Optimizer, Source, resolve
from maxlite.console import say
from maxlite.data.corpus import load_corpus
from maxlite.data.losses import Scored, read_losses
from maxlite.data.losses_work import Work
from maxlite.data.orders import read_order, write_order
from maxlite.data.resample import resample
from maxlite.errors import InputError
from maxlite.hf.signature import signature
from maxlite.sequence_losses import score
from maxlite.state.ready import every_device, ready_model
from maxlite.training import loop

BATCH, LENGTH, DOCUMENTS = 8, 256, 1000
RATE, FRACTION, HELD_OUT = 1e-3, 0.5, 0.02
FIRST, EVEN = "round one", "random half"
DRAWS = {  # level, temperature
    EVEN: ("batch", math.inf),
    "hard half, batches": ("batch", 1.0),
    "hard half, sequences": ("sequence", 1.0),
}


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Trains all rounds of all seeds and prints a table.

    Args:
      settings: `model`, `text` (globs with commas, each a source of the same weight), `steps` of
        round one, `runs` (seeds), `dry_run` as attributes.

    Returns:
      For each draw by losses and each set of documents a row: name, ours and peer (the random half;
      losses in nats a token, means over the seeds), ratio, unit, runs, ours_deviation and
      peer_deviation, difference and difference_deviation (of the same seed), before (after round
      one), share (of the sequences kept that are of this source).

    Raises:
      InputError: a flag is missing, or the model or text cannot be used.
    """
    if not (settings.model and settings.text):
        raise InputError("benchmark second_look needs --model=FOLDER and --text=GLOB[,GLOB]")
    if settings.steps < 4:
        raise InputError(f"--steps={settings.steps} must be at least 4")
    if settings.dry_run:
        say(
            f"would train {settings.model} for {settings.steps} steps of {BATCH} x {LENGTH} tokens "
            f"and {len(DRAWS)} times {_second(settings.steps)} steps more, {settings.runs} times"
        )
        return None
    told: dict[str, list[dict[str, dict[str, float]]]] = {name: [] for name in (FIRST, *DRAWS)}
    total = settings.runs * (len(DRAWS) + 1)
    with tempfile.TemporaryDirectory() as here, tqdm(total=total, desc="training") as bar:
        for seed in range(settings.runs):
            for name, found in _rounds(settings, Path(here), seed):
                told[name].append(found)
                bar.update()
    rows = [row for name in list(DRAWS)[1:] for row in _rows(name, told)]
    _print(told)
    return rows


def _second(steps: int) -> int:
    """Steps of the second round: what it keeps, once."""
    return max(1, math.floor(steps * FRACTION + 0.5))


def _rounds(
    settings: Any, here: Path, seed: int
) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Trains one seed; yields what each round came to, by set of documents."""
    one = here / f"{seed}"
    texts = tuple(Source(pattern) for pattern in settings.text.split(","))
    data = Data(train=texts, held_out=HELD_OUT)
    yield FIRST, _trained(_stage(settings.model, one, data, settings.steps, seed))
    order = read_order(one)
    losses = _scored(one, here / f"{seed}.scores")
    for number, (name, (level, temperature)) in enumerate(DRAWS.items()):
        size = BATCH if level == "batch" else 1
        kept = resample(losses.means(size), FRACTION, temperature, seed)
        sequences = (kept[:, None] * size + np.arange(size)).reshape(-1)
        path = here / f"{seed}-{number}.order"
        write_order(path, order.keeping(sequences, seed, BATCH, {}))
        again = Data(order=str(path))
        stage = _stage(str(one), here / f"{seed}-{number}", again, _second(settings.steps), seed)
        found = _trained(stage)
        shares = np.bincount(order.source_of(sequences, BATCH), minlength=len(texts))
        for source, share in zip(order.sources, shares / len(sequences), strict=True):
            found[source.source.name]["share"] = float(share)
        yield name, found


def _stage(model: str, out: Path, data: Data, steps: int, seed: int) -> Config:
    config = Config(
        model=model,
        out=str(out),
        steps=steps,
        batch_size=BATCH,
        seq_len=LENGTH,
        seed=seed,
        data=data,
        optimizer=Optimizer(learning_rate=RATE),
        checkpoint=Checkpoint(every=steps, keep=1),
        eval=Eval(every=steps, documents=DOCUMENTS, sample_tokens=0),
    )
    return resolve(config)


def _trained(config: Config) -> dict[str, dict[str, float]]:
    """Runs a stage; returns the loss of each set of documents at its end."""
    with contextlib.redirect_stderr(io.StringIO()):
        loop.train(config)
    lines = (Path(config.out) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    evaluated = [entry for entry in map(json.loads, lines) if "loss" not in entry]
    return {
        key.split("/")[1]: {"loss": value}
        for key, value in evaluated[-1].items()
        if key.startswith("eval/") and key.endswith("/loss")
    }


def _scored(run: Path, out: Path) -> Any:
    """The losses of all that a run has read, under its last model."""
    ready = ready_model(str(run), spread=every_device)
    settings = Data(order=str(run))
    steps = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["steps"]
    corpus = load_corpus(settings, ready.tokenizer, 0, LENGTH, BATCH, progress=False)
    model = signature(ready.source.tensors)
    of = Scored(corpus.file.fingerprint, model, str(np.dtype(ready.dtype)), steps, BATCH)
    score(ready, corpus, Work(out, of, ready.where), BATCH)
    return read_losses(out)


def _rows(name: str, told: dict[str, list[dict[str, dict[str, float]]]]) -> list[dict[str, Any]]:
    rows = []
    for what in told[name][0]:
        ours, peer, before = (
            [run[what]["loss"] for run in told[key]] for key in (name, EVEN, FIRST)
        )
        gaps = [a - b for a, b in zip(ours, peer, strict=True)]
        rows.append(
            {
                "name": f"{name}: {what}",
                "ours": statistics.mean(ours),
                "peer": statistics.mean(peer),
                "ratio": statistics.mean(ours) / statistics.mean(peer),
                "unit": "nats a token",
                "runs": len(ours),
                "peak_mib": None,
                "ours_deviation": _deviation(ours),
                "peer_deviation": _deviation(peer),
                "difference": statistics.mean(gaps),
                "difference_deviation": _deviation(gaps),
                "before": statistics.mean(before),
                "share": statistics.mean(run[what]["share"] for run in told[name]),
            }
        )
    return rows


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _print(told: dict[str, list[dict[str, dict[str, float]]]]) -> None:
    runs = len(told[FIRST])
    print(f"loss in nats a token on documents held out, mean and deviation of {runs} seeds\n")
    sets = list(told[FIRST][0])
    print(f"{'':<24}" + "".join(f"{what[:26]:>28}" for what in sets))
    for name, found in told.items():
        cells = []
        for what in sets:
            losses = [run[what]["loss"] for run in found]
            cells.append(f"{statistics.mean(losses):.4f} ± {_deviation(losses):.4f}")
        print(f"{name:<24}" + "".join(f"{cell:>28}" for cell in cells))
    print("\nagainst the random half of the same seed, and the share of what was kept\n")
    for name in list(DRAWS)[1:]:
        cells = []
        for row in _rows(name, told):
            gap = f"{row['difference']:+.4f} ± {row['difference_deviation']:.4f}"
            cells.append(f"{gap}, {row['share']:.1%}")
        print(f"{name:<24}" + "".join(f"{cell:>28}" for cell in cells))
