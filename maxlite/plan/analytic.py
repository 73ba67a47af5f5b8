"""The analytical model, for machines that no compiler here knows: a stage spread over a mesh.

Memory of a chip: its share of parameters, optimizer state and gradients, as the mesh cuts them; of
activations (`maxlite.model.memory`) the share of its batch rows; and what a step gathers: one
layer's weights and a vocabulary table whole, in the compute dtype, with the gradients of what
trains, a table's in float32. Work: the model's FLOPs (`maxlite.model.flops`), and what
rematerialisation repeats of them. Memory traffic: weights once a pass, the optimizer's 28 bytes a
parameter, six times a layer's results, and five times the scores. Exchanges: weights gathered once
a pass, gradients scattered, two sums of a layer's output over `tensor` in each pass.

How far it is off, as memory of a chip by this over the compiler's, small models over 8 devices of a
CPU: 0.95 to 1.1 over `data`, 1.1 to 1.5 over `fsdp`, more with `tensor`, whose share of the scores
it takes for whole. It is meant to err on the large side.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.sharding import NamedSharding

from maxlite.model import nf4, remat
from maxlite.model.memory import gradient_bytes, lowest, moment_bytes, repeated_per_token
from maxlite.parameters import EMBEDDING, HEAD, LAYERS
from maxlite.plan import roofline
from maxlite.plan.compiled import check
from maxlite.plan.estimate import Estimate
from maxlite.plan.program import Exchange, Phase, Work
from maxlite.plan.shape import UNKNOWN
from maxlite.plan.stage import Plan
from maxlite.plan.topology import Topology
from maxlite.state import mesh as mesh_lib


def estimate(plan: Plan, topology: Topology, text: str) -> Estimate:
    """Estimates a stage without compiling it.

    Args:
      plan: the stage.
      topology: the machine.
      text: its mesh.

    Raises:
      InputError: the stage cannot run on the mesh.
    """
    mesh = mesh_lib.abstract_mesh(text, topology.devices)
    model = _Model(plan, dict(mesh.shape), check(plan, mesh))
    work = Work([model.phase()], [])
    per_slice = topology.devices // topology.slices
    places = [
        (i // per_slice, i % per_slice, *[0] * (len(topology.sides) - 1))
        for i in range(topology.devices)
    ]
    each = topology.chip.devices
    return Estimate(
        plan,
        topology,
        text,
        {key: n * each for key, n in model.memory().items()},
        flops=work.flops * each,
        traffic=work.traffic * each,
        sent={kind: n * each for kind, n in work.sent.items()},
        seconds=roofline.least(work, topology, places),
    )


class _Model:
    """Figures of one device."""

    def __init__(self, plan: Plan, sizes: dict[str, int], shardings: dict[str, NamedSharding]):
        self.plan, self.sizes = plan, sizes
        c, claims = plan.config, plan.claims
        self.item = jnp.dtype(UNKNOWN if c.dtype == "auto" else c.dtype).itemsize
        self.shapes = claims.shapes
        self.held = {n: shardings[n].shard_shape(shape) for n, shape in self.shapes.items()}
        self.mine = {n: math.prod(shape) for n, shape in self.held.items()}
        self.trained = set(claims.trained)
        self.shards = math.prod(n for axis, n in sizes.items() if axis != "tensor")
        self.fsdp, self.tensor = sizes["fsdp"], sizes["tensor"]

    def memory(self) -> dict[str, float]:
        """Bytes by what they are for."""
        c, plan = self.plan.config, self.plan
        trained, held = self.trained, c.optimizer.bfloat16
        gradients = sum(self.mine[n] * gradient_bytes(n, held, c.accumulate) for n in trained)
        return {
            "parameters": sum(nf4.nbytes(self.held[n], plan.dtypes[n]) for n in self.shapes),
            "optimizer": sum(self.mine[n] * moment_bytes(n, held) for n in trained),
            "gradients": gradients,
            "activations": plan.activations(mesh=self.sizes),
            "gathered": self._gathered() if self.fsdp > 1 else 0.0,
        }

    def _gathered(self) -> float:
        layers = sum(self._whole(n) / self.shapes[n][0] for n in self.shapes if LAYERS in n)
        tables = [self._whole(n, 4) for n in self.shapes if n.startswith((EMBEDDING, HEAD))]
        return layers + max(tables, default=0.0)

    def _whole(self, name: str, gradient: int = 0) -> float:
        """Bytes of a leaf with its `fsdp` shards together, and of its gradient if it trains.

        A number of the gradient has `gradient` bytes; 0: as many as one in the compute dtype.
        """
        each = self.item + (gradient or self.item if name in self.trained else 0)
        return self.mine[name] * self.fsdp * each

    def phase(self) -> Phase:
        """A step, as if it were one loop."""
        plan, c, arch = self.plan, self.plan.config, self.plan.architecture
        tokens = c.batch_size * c.seq_len
        mine = tokens / self.shards
        below = lowest(arch, plan.claims.frozen)
        repeats = c.remat not in remat.KEEP_PRODUCTS
        passes = 1 if below == arch.num_hidden_layers else 2 + repeats
        work = plan.flops_per_token
        work += repeated_per_token(arch, c.seq_len, plan.claims.frozen, c.remat)
        layers = {n for n in self.shapes if n.startswith(LAYERS)}
        weights = self.item * self.fsdp * sum(self.mine[n] for n in layers)
        D, F = arch.hidden_size, arch.intermediate_size
        inside = (4 * D + 3 * F) / self.tensor + 2 * D
        traffic = passes * (weights + 6 * mine * self.item * inside * arch.num_hidden_layers)
        traffic += 28 * sum(self.mine[n] for n in self.trained)
        traffic += 5 * 4 * mine * arch.vocab_size
        fsdp, tensor, data = (self._along(axis) for axis in ("fsdp", "tensor", "data"))
        turns = c.accumulate
        exchanges = [Exchange("all-gather", turns * passes * weights, fsdp, hidden=True)]
        back = self.item * self.fsdp * sum(self.mine[n] for n in self.trained)
        exchanges.append(Exchange("reduce-scatter", turns * back, fsdp, hidden=True))
        sums = 2 * passes * arch.num_hidden_layers * mine * D * self.item
        exchanges.append(Exchange("all-reduce", sums, tensor, hidden=False))
        total = 4.0 * sum(self.mine[n] for n in self.trained)
        exchanges.append(Exchange("all-reduce", total, data, hidden=False))
        flops = work * tokens / math.prod(self.sizes.values())
        return Phase(1, flops, traffic, [one for one in exchanges if len(one.group) > 1])

    def _along(self, axis: str) -> tuple[int, ...]:
        """The devices of the first group along an axis."""
        names = list(self.sizes)
        step = math.prod(self.sizes[name] for name in names[names.index(axis) + 1 :])
        return tuple(range(0, step * self.sizes[axis], step))
