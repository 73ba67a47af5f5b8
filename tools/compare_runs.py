"""Compares runs: shapes, cost, what they came to, and curves, as a table and a page.

Example: python -m tools.compare_runs --runs='runs/deep,runs/wide' --out=compared.html

Bits per byte are those that each run measured last of what it evaluates, under the names it has for
that. Of three runs or more, rank correlations with depth, width and so on are told. Runs that are
still at work can be compared, too; it is said how far they are.
"""

from typing import Any

from absl import flags

from maxlite import outputs
from maxlite.console import say
from maxlite.report.comparison import comparison_table, correlations, differing, page
from maxlite.report.runs import figures
from maxlite.report.spread import spread, spread_table
from tools import cli

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", [], "Run folders, with commas between them.")
flags.DEFINE_string("out", "", "The page to write, such as compared.html; empty: none.")
flags.DEFINE_bool(
    "spread", False, "Take NAME-0, NAME-1, ... for runs of NAME: mean and half the range of each."
)


def main() -> dict[str, Any] | None:
    cli.require("runs")
    out = cli.file_of("out")
    runs = figures(FLAGS.runs)
    if FLAGS.dry_run:
        say(f"would compare {len(runs)} runs" + (f", and write {out}" if out else ""))
        return None
    print(comparison_table(runs))
    if FLAGS.spread:
        print(f"\n{spread_table(runs)}")
    if out:
        outputs.write_text(out, page(runs))
        say(f"wrote {out}")
    told = {"runs": runs, "correlations": correlations(runs), "different": differing(runs)}
    return told | ({"spread": spread(runs)} if FLAGS.spread else {})


if __name__ == "__main__":
    cli.run(main)
