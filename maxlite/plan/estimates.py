"""What several stages cost on several machines and meshes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from maxlite.plan import analytic, compiled, topology
from maxlite.plan.estimate import Estimate
from maxlite.plan.stage import Plan
from maxlite.plan.topology import Topology
from maxlite.state import mesh as mesh_lib


def check(plans: Iterable[Plan], machines: Sequence[Topology], meshes: Sequence[str] = ()) -> None:
    """Refuses what cannot be, before anything is compiled.

    Args:
      plans: the stages.
      machines: that they are to run on.
      meshes: of these machines; none: each stage's own.

    Raises:
      InputError: a machine has no compiler here, or a stage cannot run on a mesh.
    """
    for machine in machines:
        topology.check(machine)
        for one in plans:
            for mesh in meshes or [one.config.mesh]:
                compiled.check(one, mesh_lib.abstract_mesh(mesh, machine.devices))


def made(
    plans: Mapping[str, Plan], machines: Sequence[Topology], meshes: Sequence[str] = ()
) -> Iterator[tuple[str, Estimate]]:
    """Compiles each stage for each machine and mesh, or where there is no compiler estimates it.

    The arguments are those of `check`, the stages by name.

    Yields:
      A stage's name and what it costs, as soon as it is known.
    """
    for machine in machines:
        devices = topology.devices(machine) if machine.tpu else []
        for name, one in plans.items():
            for mesh in meshes or [one.config.mesh]:
                if machine.tpu:
                    yield name, compiled.estimate(one, machine, mesh, devices)
                else:
                    yield name, analytic.estimate(one, machine, mesh)
