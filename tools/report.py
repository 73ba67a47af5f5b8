"""Draws up one page on how a model came to be: what trained when, what it learned, what it cost.

Example: python -m tools.report --recipe=runs/mine --out=report.html

Of a recipe the page tells of every stage that led to the model, of the corpus, the evaluations and
the texts it writes; of a run, of that and of the runs before it. It is one file that loads nothing,
and can be made while training is at work.
"""

from typing import Any

from absl import flags

from maxlite import outputs
from maxlite.console import human, say
from maxlite.errors import InputError
from maxlite.report import story
from maxlite.report.story_page import page
from tools import cli

FLAGS = flags.FLAGS

flags.DEFINE_string("run", "", "A run folder.")
flags.DEFINE_string("recipe", "", "A recipe's folder.")
flags.DEFINE_string("out", "report.html", "The page to write.")
flags.DEFINE_float("price", 0.0, "Of an hour on the machine, in any currency; 0: not told.", 0.0)


def main() -> dict[str, Any] | None:
    if bool(FLAGS.run) == bool(FLAGS.recipe):
        raise InputError("give either --run or --recipe; --help says what they mean")
    out = outputs.new_path("out", FLAGS.out, FLAGS.overwrite)
    figures = story.of_run(FLAGS.run) if FLAGS.run else story.of_recipe(FLAGS.recipe)
    figures |= {"price": FLAGS.price} if FLAGS.price else {}
    stages = ", ".join(stage["name"] for stage in figures["stages"])
    if FLAGS.dry_run:
        say(f"would report on {stages}, and write {out}")
        return None
    _print(figures)
    outputs.write_text(out, page(figures))
    say(f"wrote {out}")
    return figures


def _print(figures: dict[str, Any]) -> None:
    for stage in figures["stages"]:
        scored = [f"{name} {of['bits_per_byte']:.4f}" for name, of in stage["evaluation"].items()]
        print(
            f"{stage['name']}: {human(stage['tokens'])} tokens, {stage['trained']:,} of"
            f" {stage['parameters']:,} parameters; bits per byte: {', '.join(scored) or '–'}"
        )


if __name__ == "__main__":
    cli.run(main)
