"""Draws the sequences of the next round of training, hard ones more often, and writes its order.

Example: python -m tools.resample --scores=one.scores --order=runs/one --out=two.order

The scores are of tools.score_batches. Of N units, N times --fraction are drawn without putting
back, each with a chance in proportion to exp(loss / temperature). Published is the batch as a unit
and a temperature of 1 (arXiv 2402.02791); as means over batches differ little, that can be nearly
an even draw, and then says so. Train on the result with --config.data.order=ORDER, and score that
order again for a third round.
"""

from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.data.losses import Scored, read_losses
from maxlite.data.orders import OrderFile, read_order, write_order
from maxlite.data.resample import chances, kept_shares, resample
from maxlite.report import rounds
from tools import cli, hub

FLAGS = flags.FLAGS

flags.DEFINE_string("scores", "", "Folder of scores of the order.")
flags.DEFINE_string("order", "", "The order that was scored: its folder, or a run.")
flags.DEFINE_string("out", "", "Folder of the order to write.")
flags.DEFINE_float("fraction", 0.5, "Of the units to keep, above 0 and at most 1.")
flags.DEFINE_float("temperature", 1.0, "0: the hardest; inf: evenly.")
flags.DEFINE_enum("level", "batch", ["batch", "sequence"], "What is drawn as one.")
flags.DEFINE_integer("batch_size", 0, "Sequences of a batch; 0: as the order was scored.", 0)
flags.DEFINE_integer("seed", 0, "Of the drawing, and of the order of what is kept.", 0)
flags.DEFINE_string("model", "", "If given: refuse scores of another model than this.")
flags.DEFINE_string("plot", "", "Write a page (.html) that shows what was kept, by loss.")


def main() -> dict[str, Any] | None:
    cli.require("scores", "order", *([] if FLAGS.dry_run else ["out"]))
    out, plot = Path(FLAGS.out).expanduser(), cli.file_of("plot", ".html")
    if FLAGS.out:
        cli.check_out(out)
    order, losses = read_order(FLAGS.order), read_losses(FLAGS.scores)
    losses.check(order, FLAGS.scores, _signature())
    size = 1 if FLAGS.level == "sequence" else FLAGS.batch_size or losses.of.batch_size
    means = losses.means(size)
    kept = resample(means, FLAGS.fraction, FLAGS.temperature, FLAGS.seed)
    numbers = (kept[:, None] * size + np.arange(size)).reshape(-1)
    settings = {key: FLAGS[key].value for key in ("fraction", "temperature", "level", "seed")}
    if np.isinf(FLAGS.temperature):
        settings["temperature"] = "inf"  # JSON has no such number
    notes = {"tool": "resample", "model": losses.model, "signature": losses.of.model}
    notes |= {"scored": losses.of.sequences, **settings, "batch_size": size}
    made = order.keeping(numbers, FLAGS.seed, losses.of.batch_size, notes)
    likely = chances(means, FLAGS.fraction, FLAGS.temperature)
    figures = notes | {
        "scores": FLAGS.scores,
        "order": FLAGS.order,
        "fingerprint": made.fingerprint,
        "units": len(means),
        "kept": len(kept),
        "sequences": len(numbers),
        "loss": float(means.mean()),
        "loss_kept": float(means[kept].mean()),
        "deviation": float(means.std()),
        "parts": kept_shares(means, kept, likely),
        "sources": _sources(order, numbers, losses.of),
    }
    print(rounds.kept_table(figures))
    if said := rounds.evenness(figures):
        say(said)
    if FLAGS.dry_run:
        say(f"would write {FLAGS.out or 'the order'}")
        return figures
    write_order(out, made, FLAGS.overwrite)
    if plot:
        outputs.write_text(plot, rounds.page(figures))
    say(f"wrote {out}")
    return figures


def _sources(order: OrderFile, kept: np.ndarray, of: Scored) -> list[dict[str, Any]]:
    """The share of the sequences that each source has, before and after."""
    sources = order.source_of(np.arange(of.sequences), of.batch_size)
    before, after = (np.bincount(x, minlength=len(order.sources)) for x in (sources, sources[kept]))
    return [
        {
            "name": listed.source.name,
            "scored": float(b / len(sources)),
            "kept": float(a / len(kept)),
        }
        for listed, b, a in zip(order.sources, before, after, strict=True)
    ]


def _signature() -> str:
    if not FLAGS.model:
        return ""
    from maxlite.hf.signature import signature
    from maxlite.state.host import open_lazy

    return signature(open_lazy(hub.model()).tensors)


if __name__ == "__main__":
    cli.run(main)
