"""What a stage costs by its shape alone: what trains, memory over all devices, work of a token."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from maxlite import console
from maxlite.config import Architecture, Config
from maxlite.hf import metadata
from maxlite.model import attention, nf4, remat
from maxlite.model.flops import flops_per_token
from maxlite.model.memory import activation_bytes, gradient_bytes, moment_bytes
from maxlite.plan.shape import UNKNOWN, source
from maxlite.state.claims import Claims, claim, dtypes, table

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one stage will cost.

    Attributes:
      config: the stage.
      where: what its shape is from, for people.
      architecture: the shape.
      claims: what trains.
      dtypes: of each leaf on the devices.
    """

    config: Config
    where: str
    architecture: Architecture
    claims: Claims
    dtypes: dict[str, np.dtype]

    @property
    def sizes(self) -> dict[str, int]:
        """Parameters of each leaf; a tied table counts once."""
        return {name: math.prod(shape) for name, shape in self.claims.shapes.items()}

    @property
    def parameters(self) -> int:
        """How many there are, adapters included."""
        return sum(self.sizes.values())

    @property
    def trainable(self) -> int:
        """How many of them train."""
        return sum(self.sizes[name] for name in self.claims.trained)

    @property
    def groups(self) -> list[dict[str, Any]]:
        """What each rule claims, in their order, what is frozen last."""
        found = []
        for number, rule in enumerate(self.claims.order):
            mine = [name for name, at in self.claims.rules.items() if at == number]
            count = sum(self.sizes[name] for name in mine)
            held = round(sum(nf4.nbytes(self.claims.shapes[n], self.dtypes[n]) for n in mine))
            entry = {"name": rule.name, "parameters": count, "bytes": held}
            found += [entry | {"trainable": rule.trains}] if mine else []
        return found

    @property
    def flops_per_token(self) -> float:
        """See `maxlite.model.flops`."""
        return flops_per_token(self.architecture, self.config.seq_len, self.claims.frozen)

    @property
    def tokens(self) -> int:
        """Of the whole stage."""
        return self.config.steps * self.config.batch_size * self.config.seq_len

    def activations(self, policy: str = "", mesh: Mapping[str, int] | None = None) -> float:
        """Bytes of activations over all devices, or of one device of a mesh.

        Args:
          policy: another one than the config's `remat`.
          mesh: the size of each axis. Under `tensor` a device computes a part of each layer; the
            scores of the vocabulary are taken for whole.
        """
        c, arch, sizes = self.config, self.architecture, mesh or {}
        tensor = sizes.get("tensor", 1)
        shards = math.prod(sizes.values()) // tensor
        part = dataclasses.replace(
            arch,
            num_attention_heads=arch.num_attention_heads // tensor,
            num_key_value_heads=arch.num_key_value_heads // tensor,
            intermediate_size=arch.intermediate_size // tensor,
        )
        whole = activation_bytes(
            part,
            c.batch_size // c.accumulate,
            c.seq_len,
            self.claims.frozen,
            remat=policy or c.remat,
            attention=c.attention,
            itemsize=jnp.dtype(UNKNOWN if c.dtype == "auto" else c.dtype).itemsize,
            shards=shards,
        )
        return whole / shards

    @property
    def memory_gib(self) -> dict[str, float]:
        """Device memory by what it is for, over all devices; see the top of this file."""
        c, own, held = self.config, self.sizes, self.config.optimizer.bfloat16
        trained = self.claims.trained
        sizes = {
            "parameters": sum(group["bytes"] for group in self.groups),
            "optimizer": sum(own[n] * moment_bytes(n, held) for n in trained),
            "gradients": sum(own[n] * gradient_bytes(n, held, c.accumulate) for n in trained),
            "activations": self.activations(),
        }
        return {key: value / GIB for key, value in (sizes | {"total": sum(sizes.values())}).items()}

    def figures(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "parameters": self.parameters,
            "trainable": self.trainable,
            "trainable_share": self.trainable / self.parameters,
            "groups": self.groups,
            "flops_per_token": self.flops_per_token,
            "memory_gib": self.memory_gib,
        }

    def text(self) -> str:
        """For people."""
        c, memory = self.config, self.memory_gib
        parts = ", ".join(f"{key} {memory[key]:.2f}" for key in list(memory)[:-1])
        work = self.flops_per_token
        lines = [
            f"shape: {self.where}, {self.parameters:,} parameters",
            table(self.claims, self.dtypes, c.optimizer.bfloat16),
            f"trains: {self.trainable:,} parameters, {self.trainable / self.parameters:.2%}",
            f"memory: about {memory['total']:.2f} GiB over all devices ({parts})",
            f"work: {console.human(work)} FLOPs a token; {c.steps} steps of {c.batch_size} x"
            f" {c.seq_len} tokens, {console.human(self.tokens)} tokens,"
            f" {work * self.tokens:.3g} FLOPs",
        ]
        return "\n".join(lines)


def plan(config: Config) -> Plan:
    """Plans one stage.

    Args:
      config: resolved.

    Raises:
      InputError: no shape is known, or its rules, `init` or settings do not fit it.
    """
    remat.policy(config.remat)
    if config.attention not in attention.BACKENDS:  # one that is there may not be on this machine
        attention.check(config.attention)
    found = source(config)
    inserted = metadata.inserted(found.metadata, found.where)
    claims = claim(config.train, found.architecture, inserted)
    kinds = dtypes(claims, found.stored_dtypes(claims.rules), config.frozen_dtype)
    return Plan(config, found.where, found.architecture, claims, kinds)


def total(plans: Sequence[Plan]) -> str:
    """What several stages cost together, for people."""
    most = max(p.memory_gib["total"] for p in plans)
    work = sum(p.tokens * p.flops_per_token for p in plans)
    tokens, steps = (sum(p.tokens for p in plans), sum(p.config.steps for p in plans))
    sizes = ", ".join(f"{n:,}" for n in sorted({p.parameters for p in plans}))
    return (
        f"all {len(plans)} (of {sizes} parameters): {steps} steps,"
        f" {console.human(tokens)} tokens, {work:.3g} FLOPs, about {most:.2f} GiB of memory at most"
    )
