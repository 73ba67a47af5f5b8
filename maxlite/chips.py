"""What accelerators can do, by their makers' public figures; no figure here is measured.

TPUs: docs.cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e,tpu7x}, the tables of key specifications; their
"bidirectional ICI bandwidth per chip" counts both directions of all links, so a link one way is
that over twice the number of links. GPUs: NVIDIA's data sheets (SXM, dense, NVLink one
way), and the memory that their driver shows.
"""

from __future__ import annotations

from dataclasses import dataclass

GB = 10**9


@dataclass(frozen=True)
class Chip:
    """An accelerator.

    Attributes:
      kinds: what jax's `device_kind` begins with.
      flops: peak bfloat16 FLOP/s, dense.
      hbm_gib: its memory.
      hbm: bytes a second to and from that memory.
      link: bytes a second of one link to another chip, one way.
      links: how many it has; a TPU has two in each direction of its grid or torus.
      network: bytes a second between slices (of GPUs: hosts), one way, its share of the host's.
      wraps: how long a side of a TPU slice must be a multiple of for its ends to be joined.
      devices: that jax shows of one chip; they share its figures.
    """

    kinds: tuple[str, ...]
    flops: float
    hbm_gib: float
    hbm: float
    link: float
    links: int
    network: float
    wraps: int = 0
    devices: int = 1


CHIPS: dict[str, Chip] = {
    "v4": Chip(("TPU v4",), 275e12, 32, 1228 * GB, 50 * GB, 6, 6.25 * GB, 4),
    "v5e": Chip(("TPU v5 lite", "TPU v5e"), 197e12, 16, 819 * GB, 50 * GB, 4, 3.125 * GB, 16),
    "v5p": Chip(("TPU v5",), 459e12, 95, 2765 * GB, 100 * GB, 6, 6.25 * GB, 4),
    "v6e": Chip(("TPU v6",), 918e12, 32, 1640 * GB, 100 * GB, 4, 12.5 * GB, 16),
    "tpu7x": Chip(("TPU7x",), 2307e12, 192, 7380 * GB, 100 * GB, 6, 12.5 * GB, 4, devices=2),
    "a100": Chip(("NVIDIA A100",), 312e12, 80.0, 2039 * GB, 300 * GB, 1, 25 * GB),
    "h100": Chip(("NVIDIA H100",), 989e12, 79.6, 3350 * GB, 450 * GB, 1, 50 * GB),
    "h200": Chip(("NVIDIA H200",), 989e12, 140.4, 4800 * GB, 450 * GB, 1, 50 * GB),
    "b200": Chip(("NVIDIA B200",), 2250e12, 179.1, 7700 * GB, 900 * GB, 1, 50 * GB),
    "l4": Chip(("NVIDIA L4",), 121e12, 22.5, 300 * GB, 32 * GB, 1, 3.125 * GB),
}


def of_kind(device_kind: str) -> Chip | None:
    """The chip that a device of jax is, or belongs to; None for one that is not known."""
    named = {kind: chip for chip in CHIPS.values() for kind in chip.kinds}
    found = [kind for kind in named if device_kind.startswith(kind)]
    return named[max(found, key=len)] if found else None
