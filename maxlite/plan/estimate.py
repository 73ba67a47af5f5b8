"""What a stage costs on a machine: the memory of a chip, the least time of a step, the whole stage.

Either the compiler says it of its program, or for machines without one here a model does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maxlite.console import human
from maxlite.plan.roofline import Seconds
from maxlite.plan.stage import GIB, Plan
from maxlite.plan.suggestion import suggest, told
from maxlite.plan.topology import Topology
from maxlite.state import mesh as mesh_lib

DAY = 86_400


@dataclass(frozen=True)
class Estimate:
    """A stage on a machine.

    Attributes:
      plan: the stage.
      topology: the machine.
      mesh: how its devices are used.
      memory: bytes of one chip by what they are for; their sum is the peak.
      compile_s: seconds that compiling took; None where nothing was compiled.
      refused: what the compiler said where the program does not fit; nothing below is known then.
      flops: of products that one chip computes in a step, what is computed again included.
      traffic: bytes of one chip's memory that a step reads and writes.
      sent: bytes that one chip sends in a step, by kind of collective.
      seconds: the least time of a step.
      unknown: loops that count once, as their number of turns is not known.
    """

    plan: Plan
    topology: Topology
    mesh: str
    memory: Mapping[str, float]
    compile_s: float | None = None
    refused: str = ""
    flops: float = 0.0
    traffic: float = 0.0
    sent: Mapping[str, float] | None = None
    seconds: Seconds | None = None
    unknown: int = 0

    @property
    def peak_gib(self) -> float:
        """Of one chip."""
        return sum(self.memory.values()) / GIB

    @property
    def fits(self) -> bool:
        """Whether the compiler took it and the peak is within a chip's memory."""
        return not self.refused and self.peak_gib <= self.topology.chip.hbm_gib

    @property
    def remat_suggested(self) -> str:
        """See `maxlite.plan.suggestion`."""
        sizes = mesh_lib.axis_sizes(self.mesh, self.topology.devices)
        each = GIB / self.topology.chip.devices
        taken, room = (n * each for n in (self.peak_gib, self.topology.chip.hbm_gib))
        return suggest(self.plan, taken, room, sizes)

    @property
    def step_s(self) -> float | None:
        """Seconds; None where the compiler refused."""
        return self.seconds.step if self.seconds else None

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.plan.config.batch_size * self.plan.config.seq_len

    @property
    def model_flops(self) -> float:
        """What a step needs of one chip by the mathematics, see `maxlite.model.flops`."""
        return self.plan.flops_per_token * self.tokens / self.topology.chips

    def share_of_peak(self, flops: float) -> float | None:
        """Of the chip's peak, if it computes so much in a step."""
        return flops / self.step_s / self.topology.chip.flops if self.step_s else None

    @property
    def tokens_per_day(self) -> float | None:
        """Of the whole machine."""
        return self.tokens * DAY / self.step_s if self.step_s else None

    @property
    def chip_hours(self) -> float | None:
        """Of the whole stage."""
        steps = self.plan.config.steps
        return steps * self.step_s * self.topology.chips / 3600 if self.step_s else None

    def figures(self) -> dict[str, Any]:
        """For JSON; null where the compiler refused."""
        seconds = self.seconds
        return {
            "name": self.topology.name,
            "chips": self.topology.chips,
            "mesh": self.mesh,
            "by": "model" if self.compile_s is None else "compiler",
            "fits": self.fits,
            "peak_gib": self.peak_gib,
            "hbm_gib": self.topology.chip.hbm_gib,
            "remat_suggested": self.remat_suggested,
            "memory_gib": {key: value / GIB for key, value in self.memory.items()},
            "compile_s": self.compile_s,
            "flops_per_chip": self.flops or None,
            "traffic_bytes": self.traffic or None,
            "sent_bytes": dict(self.sent or {}),
            "step_s": self.step_s,
            "seconds": None if seconds is None else dict(vars(seconds)),
            "mfu": self.share_of_peak(self.model_flops),
            "hfu": self.share_of_peak(self.flops),
            "tokens_per_day": self.tokens_per_day,
            "chip_hours": self.chip_hours,
        }

    def text(self) -> str:
        """For people."""
        top, hbm = self.topology, self.topology.chip.hbm_gib
        by = (
            "by the analytical model, not by a compiler"
            if self.compile_s is None
            else f"compiled in {self.compile_s:.1f} s"
        )
        parts = ", ".join(f"{key} {value / GIB:.2f}" for key, value in self.memory.items() if value)
        spare = hbm - self.peak_gib
        verdict = f"fits, {spare:.2f} to spare" if self.fits else f"DOES NOT FIT, {-spare:.2f} over"
        lines = [
            f"{top.name}, {top.chips} chips, mesh {self.mesh}: {by}",
            f"  memory of a chip: {self.peak_gib:.2f} of {hbm:g} GiB ({parts}): {verdict}",
            f"  {told(self.remat_suggested, self.plan.config.remat)}",
        ]
        if self.refused:
            lines.append(f"  the compiler says: {self.refused}")
        s = self.seconds
        if s is None:
            return "\n".join(lines)
        sent = ", ".join(f"{kind} {_gb(n)}" for kind, n in (self.sent or {}).items())
        again = self.flops / self.model_flops
        lines += [
            f"  a step of a chip: {self.flops / 1e12:.4g} TFLOP, {again:.2f} x the model's; memory"
            f" traffic {_gb(self.traffic)}; sent: {sent or 'nothing'}",
            f"  at least {s.step:.4g} s a step: compute {s.compute:.4g}, memory {s.memory:.4g},"
            f" exchanges {s.hidden:.4g} hidden and {s.open:.4g} open, network {s.network:.4g}",
            f"  MFU at most {self.share_of_peak(self.model_flops):.1%}, HFU"
            f" {self.share_of_peak(self.flops):.1%}; {human(self.tokens_per_day or 0)} tokens a"
            f" day; the stage: {self.plan.config.steps * s.step / DAY:.3g} days,"
            f" {self.chip_hours:,.4g} chip-hours",
        ]
        if self.unknown:
            lines.append(f"  {self.unknown} loops of unknown length count once in all this")
        return "\n".join(lines)


def _gb(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
