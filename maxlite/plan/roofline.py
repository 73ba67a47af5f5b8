"""How long a step takes at least: work over the public figures of a chip.

A phase, the body of a loop, takes

    max(compute, memory, hidden exchanges) + open exchanges

times its turns, and a step is the sum of its phases. Compute is the FLOPs of products at the bf16
peak, memory the traffic at the bandwidth of the chip's memory. An exchange is hidden where the
compiler runs other work meanwhile (a pair of start and done, or a fusion that spans the work), and
in the open otherwise; what goes over the network between slices always is.

An exchange sends its bytes over as many links as the least connected device of its group has along
the group: one for each side of the slice that the group extends along, two where the ends of that
side are joined. Not counted: how far products stay below the peak, vector work, latency, links
that two exchanges want at once, the way across a slice in an all-to-all, waiting for text or disk.
So this is the least time, and the MFU from it the most that there can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maxlite.plan.program import NETWORK, Exchange, Work
from maxlite.plan.topology import Topology

Place = tuple[int, ...]  # slice, then coordinates in it


@dataclass(frozen=True)
class Seconds:
    """The least seconds of a step; all but `step` as if nothing else took time.

    Attributes:
      compute, memory: see above.
      hidden, open: exchanges over links within a slice.
      network: exchanges between slices.
      step: of the whole step.
    """

    compute: float
    memory: float
    hidden: float
    open: float
    network: float
    step: float


def least(work: Work, topology: Topology, places: Sequence[Place]) -> Seconds:
    """The least time of a step.

    Args:
      work: of one device.
      topology: where it runs.
      places: of every device, in the order of the mesh.
    """
    chip = topology.chip
    parts = dict.fromkeys(("compute", "memory", "hidden", "open", "network", "step"), 0.0)
    for phase in work.phases:
        here = dict.fromkeys(parts, 0.0)
        here["compute"] = phase.flops / (chip.flops / chip.devices)
        here["memory"] = phase.traffic / (chip.hbm / chip.devices)
        for one in phase.exchanges:
            within, between = split(one, topology, places)
            here["hidden" if one.hidden else "open"] += within
            here["network"] += between
        busy = max(here["compute"], here["memory"], here["hidden"])
        here["step"] = busy + here["open"] + here["network"]
        for key, value in here.items():
            parts[key] += phase.times * value
    return Seconds(**parts)


def split(one: Exchange, topology: Topology, places: Sequence[Place]) -> tuple[float, float]:
    """Seconds of an exchange within slices, and between them.

    Across slices the bytes first come together within each, so that a device sends between slices
    only its share of them.
    """
    chip = topology.chip
    network = chip.network / chip.devices
    if one.kind == NETWORK:
        return 0.0, one.payload / network
    everyone = [places[i] for i in one.group]
    slices = len({place[0] for place in everyone}) or 1
    inside = len(everyone) // slices or 1
    twice = 2 if one.kind == "all-reduce" else 1
    if one.kind == "collective-permute":
        share = between = 1.0
    else:
        share, between = twice * (1 - 1 / inside), twice * (1 - 1 / slices) / inside
    within = one.payload * share / bandwidth(topology, everyone)
    return within if inside > 1 else 0.0, one.payload * between / network if slices > 1 else 0.0


def bandwidth(topology: Topology, group: Sequence[Place]) -> float:
    """Bytes a second that the least connected device of a group can send, one way."""
    chip = topology.chip
    if not topology.tpu:
        return chip.link
    joined = all(side % chip.wraps == 0 for side in topology.sides)
    count = 0
    for axis, side in enumerate(topology.sides):
        along = len({place[1 + axis] for place in group})
        round_ = side % chip.wraps == 0 if chip.links == 4 else joined
        if along > 1:
            count += 2 if round_ and along == side else 1
    return chip.link * (count or chip.links) / chip.devices
