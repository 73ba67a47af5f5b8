"""Machines by their names: v5e:8x8, 2*v5e:8x8 (two slices over the network), h100:8."""

from __future__ import annotations

import importlib.util
import math
import os
import re
from dataclasses import dataclass

import jax
from jax.experimental import topologies

from maxlite.chips import CHIPS, Chip
from maxlite.errors import InputError

# Without these libtpu looks for the machine it is on, and lets only one process have it. The type
# is any that exists.
_NOWHERE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
}


@dataclass(frozen=True)
class Topology:
    """Some chips and how they are joined.

    Attributes:
      name: as it was given.
      chip: what each is.
      slices: groups that only the network joins; GPUs' hosts.
      sides: of one slice, in chips.
    """

    name: str
    chip: Chip
    slices: int
    sides: tuple[int, ...]

    @property
    def tpu(self) -> bool:
        """Whether a compiler for it is there without it."""
        return self.chip.kinds[0].startswith("TPU")

    @property
    def chips(self) -> int:
        """Of all slices."""
        return self.slices * math.prod(self.sides)

    @property
    def devices(self) -> int:
        """As jax counts them."""
        return self.chips * self.chip.devices


def parse(name: str) -> Topology:
    """Reads a name.

    Raises:
      InputError: it is not one, or of a chip that is not known.
    """
    match = re.fullmatch(r"(?:([1-9]\d*)\*)?(\w+):([1-9]\d*(?:x[1-9]\d*)*)", name)
    if not match or match[2] not in CHIPS:
        raise InputError(
            f"there is no topology '{name}'; write v5e:8x8, 2*v5e:8x8 for two slices, or h100:8,"
            f" with one of {', '.join(CHIPS)}"
        )
    chip, sides = CHIPS[match[2]], tuple(int(n) for n in match[3].split("x"))
    found = Topology(name, chip, int(match[1] or 1), sides)
    wanted = chip.links // 2 if found.tpu else 1
    if len(sides) != wanted:
        example = f"{match[2]}:{'x'.join(['2'] * wanted) if found.tpu else 8}"
        raise InputError(f"topology '{name}' has {len(sides)} sides, not {wanted}: as in {example}")
    return found


def check(topology: Topology) -> None:
    """Refuses a TPU where its compiler is not installed.

    Raises:
      InputError: with what installs it.
    """
    if topology.tpu and importlib.util.find_spec("libtpu") is None:
        raise InputError(
            f"topology '{topology.name}' needs the TPU's compiler: install it with"
            " pip install 'maxlite[tpu]'"
        )


def devices(topology: Topology) -> list[jax.Device]:
    """The devices of a TPU that need not be there, to compile for; they hold no arrays.

    Nothing of jax may have run yet on a machine that has a TPU: it would be taken.

    Raises:
      InputError: libtpu is not there, or does not know the shape.
    """
    check(topology)
    os.environ.update(_NOWHERE)  # over what jax has guessed when it was imported
    jax.config.update("jax_platforms", "cpu")
    settings: dict[str, object] = {}
    if topology.slices > 1:
        settings["num_slices"] = topology.slices
    if topology.chips == topology.slices:  # the smallest host that libtpu thinks of has four
        settings["chips_per_host_bounds"] = (1, 1, 1)
    if topology.chip is CHIPS["v4"]:  # both cores of a chip are one device, as on a real one
        settings["chip_config_name"] = "megacore"
    name = topology.name.split("*")[-1]
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=name, **settings).devices
    except jax.errors.JaxRuntimeError as e:
        said = str(e).splitlines()[0]
        raise InputError(f"libtpu does not compile for '{topology.name}': {said}") from e
    return list(found)
