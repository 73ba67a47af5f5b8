"""The compiler's own word: the very step of training, compiled for devices that are not here."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from maxlite.console import clock
from maxlite.errors import InputError
from maxlite.plan import hlo, program, roofline
from maxlite.plan.estimate import Estimate
from maxlite.plan.shape import UNKNOWN
from maxlite.plan.stage import Plan
from maxlite.plan.topology import Topology
from maxlite.state import mesh as mesh_lib
from maxlite.training import lowering

_USED = re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def lowered(plan: Plan, mesh: Mesh) -> jax.stages.Lowered:
    """The step of a stage, to be compiled for the devices of a mesh.

    Raises:
      InputError: the stage cannot run on the mesh.
    """
    c, claims, arch = plan.config, plan.claims, plan.architecture
    shardings = check(plan, mesh)
    optimizer = lowering.make_optimizer(c, claims)
    dtype = jnp.dtype(UNKNOWN if c.dtype == "auto" else c.dtype)
    with jax.set_mesh(mesh):
        return lowering.lowered(
            lowering.binding(c, arch, dtype),
            optimizer,
            lowering.dropout_seed(c, arch),
            c.z_loss,
            lowering.halved(c, claims),
            mesh,
            (c.accumulate, c.batch_size // c.accumulate, c.seq_len),
            lowering.abstract_state(claims, shardings, optimizer, mesh),
            lowering.abstract_frozen(claims, shardings, plan.dtypes),
        )


def check(plan: Plan, mesh: Mesh | AbstractMesh) -> dict[str, NamedSharding]:
    """The shardings of a stage's leaves; refuses a mesh that it cannot run on."""
    c = plan.config
    mesh_lib.check_batch(mesh, c.batch_size, c.accumulate, c.seq_len)
    mesh_lib.check_heads(mesh, plan.architecture)
    return mesh_lib.shardings(mesh, plan.claims.shapes)


def estimate(plan: Plan, topology: Topology, text: str, devices: Sequence[jax.Device]) -> Estimate:
    """Compiles a stage; shows how long it takes.

    Args:
      plan: the stage.
      topology: the machine.
      text: its mesh.
      devices: of the machine, as `maxlite.plan.topology.devices` gives them.

    Raises:
      InputError: the stage cannot run on the mesh.
    """
    mesh = mesh_lib.make_mesh(text, devices)
    with clock(f"compiling for {topology.name}, {text}"):
        began = time.monotonic()
        step = lowered(plan, mesh)
        try:
            with jax.set_mesh(mesh):
                compiled = step.compile()
        except jax.errors.JaxRuntimeError as e:
            used = _USED.search(str(e))
            if not used:
                raise InputError(
                    f"the step does not compile for {topology.name}, mesh {text}: {_first(e)}"
                ) from e
            seconds = time.monotonic() - began
            memory = {"used": float(used[1]) * _UNITS[used[2]] * topology.chip.devices}
            return Estimate(plan, topology, text, memory, seconds, refused=used[0])
        seconds = time.monotonic() - began
    done = program.work(hlo.parse(compiled.as_text() or ""), mesh.size)
    places = [(getattr(d, "slice_index", None) or 0, *d.coords) for d in mesh.devices.flat]
    each = topology.chip.devices
    return Estimate(
        plan,
        topology,
        text,
        memory_of(compiled, each),
        seconds,
        flops=done.flops * each,
        traffic=done.traffic * each,
        sent={kind: n * each for kind, n in done.sent.items()},
        seconds=roofline.least(done, topology, places),
        unknown=len(done.unknown),
    )


def memory_of(compiled: jax.stages.Compiled, devices: int = 1) -> dict[str, float]:
    """Bytes of a chip by what they are for: what the program keeps beside its text.

    Args:
      compiled: a program.
      devices: of a chip.
    """
    m: Any = compiled.memory_analysis()
    found = {
        "arguments": m.argument_size_in_bytes,
        "output": m.output_size_in_bytes - m.alias_size_in_bytes,  # the rest replaces arguments
        "temporaries": m.temp_size_in_bytes,
        "program": m.generated_code_size_in_bytes,
    }
    return {key: float(n * devices) for key, n in found.items()}


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0]
