"""Runs that differ in their seed alone, as one: NAME-0, NAME-1 and so on are the runs of NAME."""

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from maxlite.report.comparison import sets

Figures = dict[str, Any]


def spread(runs: Sequence[Figures]) -> list[dict[str, Any]]:
    """What the runs of each name came to, by evaluation set.

    Returns:
      For each name and set that its runs have `name`, `set`, `runs`, and of bits per byte `first`
      and `last` (means of what the runs measured first and last), `first_spread` and `last_spread`
      (half of the range), `first_step` and `last_step`; those with the fewest bits at the end
      first.
    """
    named: dict[str, list[Figures]] = defaultdict(list)
    for run in runs:
        named[re.sub(r"-\d+$", "", run["name"])].append(run)
    found = []
    for name, several in named.items():
        for each in sets(several):
            curves = [run["curves"][each] for run in several if each in run["curves"]]
            row: dict[str, Any] = {"name": name, "set": each, "runs": len(curves)}
            for when, at in (("first", 0), ("last", -1)):
                bits = [curve[at][1] for curve in curves]
                row[when] = statistics.fmean(bits)
                row[f"{when}_spread"] = (max(bits) - min(bits)) / 2
                row[f"{when}_step"] = max(curve[at][0] for curve in curves)
            found.append(row)
    return sorted(found, key=lambda row: (row["set"], row["last"]))


def spread_table(runs: Sequence[Figures]) -> str:
    """The same as text.

    Returns:
      Lines, without the last one's end.
    """
    rows = spread(runs)
    width = max(len(row["name"]) for row in rows) if rows else 4
    lines = []
    for name in sets(runs):
        lines.append(f"bits per byte of {name}")
        for row in rows:
            if row["set"] == name:
                said = [
                    f"{row[when]:.4f} ± {row[f'{when}_spread']:.4f} at step {row[f'{when}_step']}"
                    for when in ("first", "last")
                ]
                lines.append(f"  {row['name']:<{width}}  {'  '.join(said)}  ({row['runs']} runs)")
    return "\n".join(lines)
