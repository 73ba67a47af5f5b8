"""Scores every sequence of an order with a frozen model, for a later round of training.

Example: python -m tools.score_batches --model=runs/one --order=runs/one --out=one.scores

An order is a run, or a folder with order.json in it. Chunks are kept in OUT.work as they are done:
the same command goes on there. Several processes of one job share its devices as in training;
machines that know nothing of each other, but see one file system, each take --part=I of --parts,
and whichever comes last joins them. tools.resample draws the next round from the scores.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from maxlite.config import Data
from maxlite.console import human, say
from maxlite.data.corpus import load_corpus
from maxlite.data.losses import Scored, read_losses
from maxlite.data.losses_work import Work
from maxlite.data.orders import read_order
from maxlite.errors import InputError
from tools import cli, hub, orders

FLAGS = flags.FLAGS
_QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)

flags.DEFINE_string("model", "", "A Hugging Face folder, a run folder, or a hub id.")
flags.DEFINE_string("order", "", "An order's folder, or a run.")
flags.DEFINE_string("out", "", "Folder of the scores to write.")
flags.DEFINE_integer(
    "steps", 0, "Score so many; 0: the run's, or as long as nothing is read twice.", 0
)
flags.DEFINE_integer("batch_size", 0, "Sequences a step of the order; 0: the run's, or 8.", 0)
flags.DEFINE_integer("part", -1, "Which of --parts to score, from 0; -1: all of them.", -1)
flags.DEFINE_integer("parts", 1, "Equal parts that the order is divided into.", 1)
flags.DEFINE_integer("rows", 8, "Sequences at a time, for each device.", 1)
flags.DEFINE_enum("dtype", "auto", ["auto", "float32", "bfloat16"], "Of the computation.")


def main() -> dict[str, Any] | None:
    cli.require("model", "order", "out")
    if FLAGS.part >= FLAGS.parts:
        raise InputError(f"--part={FLAGS.part} must be below --parts={FLAGS.parts}")
    out, path = (Path(FLAGS[name].value).expanduser() for name in ("out", "order"))
    file, began = read_order(path), orders.config(path)
    if FLAGS.part < 0:
        cli.check_out(out)  # before any work

    import jax

    from maxlite import distributed
    from maxlite.hf.signature import signature
    from maxlite.sequence_losses import score
    from maxlite.state.ready import every_device, ready_model

    distributed.initialize()
    first = jax.process_index() == 0
    ready = ready_model(hub.model(), FLAGS.dtype, weights=not FLAGS.dry_run, spread=every_device)
    if file.seq_len > (context := ready.architecture.max_position_embeddings):
        raise InputError(
            f"the order in {path} has sequences of {file.seq_len} tokens, but the context of "
            f"{ready.where} is {context}"
        )
    settings = Data(order=str(path))
    size = FLAGS.batch_size or began["batch_size"]
    corpus = load_corpus(settings, ready.tokenizer, file.seed, file.seq_len, size, progress=first)
    own = began["steps"] if orders.is_run(path) else 0
    of = Scored(
        order=corpus.file.fingerprint,
        model=signature(ready.source.tensors),
        dtype=str(np.dtype(ready.dtype)),
        steps=FLAGS.steps or own or corpus.order.once(),
        batch_size=size,
    )
    if not of.steps:
        raise InputError(f"the order in {path} has no step of {size} sequences; give --batch_size")
    if file.kept and of.sequences > len(file.kept.numbers):
        raise InputError(
            f"{of.steps:,} steps of {size} are more than the {len(file.kept.numbers):,} sequences "
            f"that the order in {path} keeps; score {corpus.order.once():,} steps"
        )
    work = Work(out, of, ready.where)
    if FLAGS.part >= 0 and work.is_made() and not FLAGS.overwrite:
        say(f"{out} is there already", first)
        return _told(out) if first else None
    cli.check_out(out)
    if FLAGS.dry_run:
        chunks = len(work.todo(FLAGS.part, FLAGS.parts))
        say(
            f"would score {chunks} of {work.count} chunks of the {of.sequences:,} sequences of "
            f"{path} with {ready.where}, in {of.dtype}, and write {out}",
            first,
        )
        return None
    if score(ready, corpus, work, FLAGS.rows, FLAGS.part, FLAGS.parts, FLAGS.overwrite):
        say(f"wrote {out}", first)
        return _told(out) if first else None
    say(f"part {FLAGS.part} of {FLAGS.parts} is done; {work.missing()}", first)
    return {"out": "", **asdict(of), "missing": len(work.todo())} if first else None


def _told(out: Path) -> dict[str, Any]:
    """Prints what was found, and returns it."""
    losses = read_losses(out)
    of = losses.of
    figures: dict[str, Any] = {"out": str(out), "scored_with": losses.model, **asdict(of)}
    figures |= {"sequences": of.sequences, "tokens": int(losses.weights.sum(dtype=np.float64))}
    figures["loss"] = float(losses.nll.sum(dtype=np.float64) / max(1, figures["tokens"]))
    figures["losses"] = spreads = {}
    print(
        f"{of.sequences:,} sequences, {human(figures['tokens'])} tokens, loss "
        f"{figures['loss']:.4f} a token\n"
    )
    ranks = [f"{share:.0%}" for share in _QUANTILES]
    print(f"{'losses of':<12}{'deviation':>10}" + "".join(f"{rank:>9}" for rank in ranks))
    for name, group in (("batches", of.batch_size), ("sequences", 1)):
        means = losses.means(group)
        spread = np.quantile(means, _QUANTILES).tolist()
        spreads[name] = {"deviation": float(means.std()), **dict(zip(ranks, spread, strict=True))}
        values = "".join(f"{value:>9.4f}" for value in spread)
        print(f"{name:<12}{means.std():>10.4f}{values}")
    return figures


if __name__ == "__main__":
    cli.run(main)
