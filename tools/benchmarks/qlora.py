"""`benchmark qlora`: adapters over frozen weights in nf4, beside the same over weights as stored.

One step of LoRA (rank 16 on every projection) is compiled for each and timed in turn; the loss is
the untrained model's on `--text`, so its difference is what four bits cost before any training.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from maxlite.config import Config, Data, Eval, Source, resolve
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.score import Scorer
from maxlite.state import mesh as mesh_lib
from maxlite.surgery.adapters import PROJECTIONS
from maxlite.training import optim
from maxlite.training.begin import begin
from maxlite.training.job import prepare
from maxlite.transforms import AddLora
from tools.benchmarks.batches import random_batch
from tools.benchmarks.stepping import MIB, compiled_step

BATCH, LENGTH, DOCUMENTS = 8, 256, 500


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures both and prints a table.

    Args:
      settings: `model`, `text`, `runs`, `dry_run` as attributes.

    Returns:
      One row: name, ours (nf4) and peer (as stored; seconds a step, medians), ratio, unit, runs,
      and for both weights_mib (frozen, on the devices), peak_mib (arguments and temporaries of the
      compiled step) and loss (nats a token).

    Raises:
      InputError: a flag is missing, or names something that cannot be used.
    """
    if not (settings.model and settings.text):
        raise InputError("benchmark qlora needs --model=FOLDER and --text=GLOB")
    if settings.dry_run:
        say(f"would time adapters over {settings.model} in nf4 and as it is stored")
        return None
    with tempfile.TemporaryDirectory() as here:
        ours, peer = (_prepared(settings, kind, Path(here)) for kind in ("nf4", ""))
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in tqdm(range(settings.runs), desc="stepping"):
        for name, one in (("ours", ours), ("peer", peer)):
            times[name].append(one["step"]())
    mine, theirs = (statistics.median(times[name]) for name in ("ours", "peer"))
    row = {"name": "qlora", "ours": mine, "peer": theirs, "ratio": mine / theirs}
    row |= {"unit": "seconds", "runs": settings.runs}
    for key in ("weights_mib", "peak_mib", "loss"):
        row |= {key: ours[key], f"peer_{key}": peer[key]}
    print(f"{'':<12}{'nf4':>12}{'as stored':>12}{'ratio':>8}")
    for label, a, b in (
        ("step s", mine, theirs),
        *((key, ours[key], peer[key]) for key in ("weights_mib", "peak_mib", "loss")),
    ):
        print(f"{label:<12}{a:>12.4f}{b:>12.4f}{a / b:>8.3f}")
    return [row]


def _prepared(settings: Any, frozen_dtype: str, here: Path) -> dict[str, Any]:
    """A step that can be timed, its memory, and the loss of the model it begins with."""
    config = Config(
        model=settings.model,
        init=(AddLora(rank=16, targets=",".join(PROJECTIONS)),),
        train="lora",
        out=str(here / "run"),
        frozen_dtype=frozen_dtype,
        batch_size=BATCH * jax.device_count(),
        seq_len=LENGTH,
        steps=10**6,
        data=Data(train=tuple(Source(g) for g in settings.text.split(",")), held_out=0.1),
        eval=Eval(every=0),
    )
    job = prepare(resolve(config))
    rules = {name: job.claims.rule(name) for name in job.claims.trained}
    optimizer = optim.make_optimizer(config, rules)
    with jax.set_mesh(job.mesh):
        state, frozen, _ = begin(job, optimizer)
        scorer = Scorer(job.bind, job.mesh, config.batch_size, LENGTH)
        views = job.corpus.evals.items()
        score = [scorer(state.params, frozen, v, name, DOCUMENTS) for name, v in views]
        batch = random_batch(job.batch_shape, range(3, job.tokenizer.rows))
        batch = jax.device_put(batch, mesh_lib.batch_sharding(job.mesh))
        flag = mesh_lib.flags(job.mesh)[False]
        step, peak_mib = compiled_step(job.bind, optimizer, state, frozen, batch, flag)
    return {
        "step": step,
        "loss": sum(s.nll for s in score) / sum(s.scored for s in score),
        "weights_mib": sum(x.nbytes for x in jax.tree.leaves(frozen)) / MIB,
        "peak_mib": peak_mib,
    }
