"""Several estimates side by side, the fastest first of each stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from maxlite.console import human
from maxlite.plan.estimate import Estimate

HEAD = (
    *("stage", "machine", "mesh", "memory of a chip, GiB", "fits", "compile, s"),
    *("step, s", "MFU", "HFU", "tokens a day", "chip-hours"),
)


def rows(estimates: Mapping[str, Sequence[Estimate]]) -> list[list[str]]:
    """The cells below `HEAD`.

    Args:
      estimates: of each stage, by its name.
    """
    found = []
    for name, several in estimates.items():
        order = sorted(several, key=lambda e: (not e.fits, e.step_s or float("inf")))
        found += [[name, *_cells(one)] for one in order]
    return found


def _cells(one: Estimate) -> list[str]:
    def share(flops: float) -> str:
        found = one.share_of_peak(flops)
        return "" if found is None else f"{found:.1%}"

    return [
        one.topology.name,
        one.mesh,
        f"{one.peak_gib:.2f} of {one.topology.chip.hbm_gib:g}",
        "yes" if one.fits else "NO",
        "model" if one.compile_s is None else f"{one.compile_s:.0f}",
        "" if one.step_s is None else f"{one.step_s:.3g}",
        share(one.model_flops),
        share(one.flops),
        "" if one.tokens_per_day is None else human(one.tokens_per_day),
        "" if one.chip_hours is None else f"{one.chip_hours:,.0f}",
    ]


def text(estimates: Mapping[str, Sequence[Estimate]]) -> str:
    """For people, in columns."""
    lines = [list(HEAD), *rows(estimates)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    padded = [[cell.ljust(n) for cell, n in zip(line, widths, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in padded)


def markdown(estimates: Mapping[str, Sequence[Estimate]]) -> str:
    """For a page."""
    lines = [list(HEAD), ["---"] * len(HEAD), *rows(estimates)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
