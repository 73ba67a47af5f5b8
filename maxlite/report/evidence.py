"""Tables of evidence: what the runs of an experiment came to, an arm a row, its seeds together."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maxlite.console import human
from maxlite.errors import InputError

Figures = dict[str, Any]
Table = list[list[str]]  # its first row is the head
SETS = {"corpus": "new", "keep": "known"}  # what experiments evaluate, as tables call it


@dataclass(frozen=True)
class Arm:
    """One way of training.

    Attributes:
      label: what a reader is told that it is.
      runs: names of its runs without the seed, in order, each from the one before.
    """

    label: str
    runs: tuple[str, ...]


def several(values: Sequence[float], digits: int = 3) -> str:
    """A mean, and half of the range if there are several values."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {(max(values) - min(values)) / 2:.{digits}f}"


def chains(runs: Sequence[Figures], arm: Arm) -> list[list[Figures]]:
    """The runs of an arm, those of each seed in order.

    Args:
      runs: figures of `maxlite.report.runs`; a run is called NAME-SEED.
      arm: the arm.

    Raises:
      InputError: a run is not there, or is not finished.
    """
    known = {run["name"]: run for run in runs}
    seeds = [name.removeprefix(f"{arm.runs[0]}-") for name in known]
    found = []
    for seed in [seed for seed in seeds if seed.isdecimal()]:
        names = [f"{name}-{seed}" for name in arm.runs]
        for name in names:
            if name not in known or known[name]["status"] != "finished":
                raise InputError(f"the run {name} is not finished; start again to go on")
        found.append([known[name] for name in names])
    if not found:
        raise InputError(f"there is no run {arm.runs[0]}-0; start again to go on")
    return found


def outcomes(runs: Sequence[Figures], arms: Sequence[Arm]) -> Table:
    """What each arm comes to, in bits per byte, and what it costs, all its runs together."""
    head = ["", "parameters"]
    for name in SETS.values():
        head += [f"{name}, before", f"{name}, after"]
    rows = [[*head, "tokens", "FLOPs"]]
    for arm in arms:
        seeds = chains(runs, arm)
        cells = [arm.label, human(seeds[0][0]["parameters"])]
        for name in SETS:
            cells.append(several([_curve(chain[0], name)[0][1] for chain in seeds]))
            cells.append(several([_curve(chain[-1], name)[-1][1] for chain in seeds]))
        for key in ("tokens", "flops"):
            cells.append(human(statistics.fmean(sum(run[key] for run in c) for c in seeds)))
        rows.append(cells)
    return rows


def recovery(runs: Sequence[Figures], arms: Sequence[Arm], shares: Sequence[float]) -> Table:
    """Bits per byte on the way: after shares of the steps, at the evaluation that is nearest."""
    told = [f"{share:.0%}" for share in shares]
    head = [f"{set_}, {share}" for set_ in SETS.values() for share in told]
    rows = [["", "parameters", *head]]
    for arm in arms:
        seeds = [chain[-1] for chain in chains(runs, arm)]
        cells = [arm.label, human(seeds[0]["parameters"])]
        for name in SETS:
            for share in shares:
                cells.append(several([_at(run, name, share) for run in seeds]))
        rows.append(cells)
    return rows


def stages(runs: Sequence[Figures], arms: Sequence[Arm], beside: Mapping[str, str]) -> Table:
    """Bits per byte after each stage of one chain, beside what else is known of a stage.

    Args:
      runs: as for `chains`.
      arms: the last is the whole chain, whose stages get a row each; those before one each.
      beside: by a run's name, what is told of it in the last column, whose head is under "".
    """
    rows = [["", *(f"{name}, after" for name in SETS.values()), beside[""]]]
    *others, last = arms
    before = [c[0] for c in chains(runs, last)]
    rows.append(["before", *(several([_curve(r, s)[0][1] for r in before]) for s in SETS), ""])
    each = [Arm(f"{last.label}: {name}", (name,)) for name in last.runs]
    for arm in [*each, *others]:
        ended = [chain[-1] for chain in chains(runs, arm)]
        cells = [several([_curve(run, name)[-1][1] for run in ended]) for name in SETS]
        rows.append([arm.label, *cells, beside[arm.runs[-1]]])
    return rows


def markdown(table: Table) -> str:
    """A table as Markdown, its first column's cells as they are, the others to the right."""
    head, *rows = [f"| {' | '.join(cells)} |" for cells in table]
    rule = f"| --- |{' ---: |' * (len(table[0]) - 1)}"
    return "\n".join([head, rule, *rows])


def _curve(run: Figures, name: str) -> list[list[float]]:
    if not run["curves"].get(name):
        raise InputError(f"the run {run['name']} has no evaluation of {name}; start again to go on")
    return run["curves"][name]


def _at(run: Figures, name: str, share: float) -> float:
    return min(_curve(run, name), key=lambda point: abs(point[0] - share * run["steps"]))[1]
