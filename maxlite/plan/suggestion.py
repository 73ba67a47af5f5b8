"""Which `remat` a stage has room for: the one that repeats the least of those that fit.

A compiler or a model says what a stage takes under the policy that it has. What it would take under
another follows from what the two hold (`maxlite.model.memory`), so nothing is compiled again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import jax

from maxlite import chips
from maxlite.model.memory import repeated_per_token
from maxlite.model.remat import POLICIES
from maxlite.plan.stage import GIB, Plan


def suggest(plan: Plan, taken: float, room: float, mesh: Mapping[str, int] | None = None) -> str:
    """The policy that computes the least again of those that fit.

    Args:
      plan: the stage.
      taken: bytes at the peak of a step under its own policy.
      room: bytes that there are.
      mesh: the size of each axis, where both are of one device; otherwise they are of all.

    Returns:
      A name in `maxlite.model.remat.POLICIES`; empty where none fits.
    """

    def again(policy: str) -> float:
        seq_len, frozen = plan.config.seq_len, plan.claims.frozen
        return repeated_per_token(plan.architecture, seq_len, frozen, policy)

    spare = room - taken + plan.activations(mesh=mesh)
    fitting = (p for p in sorted(POLICIES, key=again) if plan.activations(p, mesh) <= spare)
    return next(fitting, "")


def on_this_machine(plan: Plan) -> tuple[str, str]:
    """The same for this machine's own devices, together.

    Returns:
      The policy, and a line for people; both empty where their memory is not known.
    """
    devices = jax.local_devices()
    kind = devices[0].device_kind
    chip = chips.of_kind(kind)
    if devices[0].platform == "cpu":
        room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    elif chip:
        room = int(chip.hbm_gib * GIB / chip.devices) * len(devices)
    else:
        return "", ""
    found = suggest(plan, plan.memory_gib["total"] * GIB, room)
    where = f"the {room / GIB:.1f} GiB of this machine ({kind})"
    return found, f"{told(found, plan.config.remat)} {where}"


def told(suggested: str, own: str) -> str:
    """A suggestion, for people.

    Args:
      suggested: by `suggest`.
      own: the policy of the stage.
    """
    if not suggested:
        return "remat: no policy fits"
    least = "is the least that fits"
    return f"remat: {suggested}{', as it is,' if suggested == own else ''} {least}"
