"""What stages will cost, before any runs: python -m maxlite.plan --config=A[,B,...]

  --config=FILE[,FILE]    config files, found as maxlite.train does; several are also summed up
  --config.key.sub=VALUE  sets a key, in all of them
  --json=FILE             writes the figures: an object for one config, a list for several
  --overwrite             replaces that file
  --help                  this text

Prints what trains and what is frozen, device memory, and the work of a token, from the shape alone:
no weight is read and no device is used. The shape is that of `model` with `init` applied, if it is
on this machine (a folder of which only config.json need be there, or a run), and otherwise that of
`architecture`. `data`, `out` and a tokenizer need not be set.

Memory is for all devices together, in GiB, at the peak of a step:
  parameters   4 bytes for what trains; what is frozen in `frozen_dtype` (nf4: 0.53 a projection),
               or if that is not set in the type it is stored in, bfloat16 where only
               `architecture` is known
  optimizer    8 bytes for what trains: AdamW's two moments
  gradients    4 bytes for what trains, 8 where `accumulate` sums several
  activations  what the backward pass needs under `remat`, of one micro-batch, in `dtype` (bfloat16
               for auto): see maxlite/model/memory.py; an estimate, without a compiler's copies
FLOPs of a token are 6 for a weight that trains, 4 for a frozen one that a gradient passes through,
2 below the lowest point that needs one, and attention's: see maxlite/model/flops.py.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from maxlite import console, flags, storage
from maxlite.config import Architecture, Config
from maxlite.errors import InputError
from maxlite.hf import config_json, lazy, metadata, names
from maxlite.hf.folder import LazyModel, open_folder, open_shape, without_weights
from maxlite.model import nf4, remat
from maxlite.model.flops import flops_per_token
from maxlite.model.leaves import leaf
from maxlite.model.memory import activation_bytes
from maxlite.parameters import shapes
from maxlite.state import base
from maxlite.state.claims import Claims, claim, dtypes, table
from maxlite.state.host import run_model
from maxlite.state.init import apply, settings_of
from maxlite.state.run import RunFolder, is_run, write_json
from maxlite.state.source import ModelSource, check_shape
from maxlite.tokenizer import load_tokenizer
from maxlite.transforms import AddLora

GIB = 2**30
UNKNOWN = "bfloat16"  # what weights of which only the shape is known are taken to be stored in


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
        return sum(self.sizes.values())

    @property
    def trainable(self) -> int:
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
        return flops_per_token(self.architecture, self.config.seq_len, self.claims.frozen)

    @property
    def tokens(self) -> int:
        """Of the whole stage."""
        return self.config.steps * self.config.batch_size * self.config.seq_len

    @property
    def memory_gib(self) -> dict[str, float]:
        """Device memory by what it is for, over all devices; see the top of this file."""
        c = self.config
        activations = activation_bytes(
            self.architecture,
            c.batch_size // c.accumulate,
            c.seq_len,
            self.claims.frozen,
            remat=c.remat,
            attention=c.attention,
            itemsize=jnp.dtype(UNKNOWN if c.dtype == "auto" else c.dtype).itemsize,
        )
        sizes = {
            "parameters": sum(group["bytes"] for group in self.groups),
            "optimizer": 8 * self.trainable,
            "gradients": (8 if c.accumulate > 1 else 4) * self.trainable,
            "activations": activations,
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
            table(self.claims, self.dtypes),
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
    here = bool(config.model) and storage.place(config.model).exists()
    source = _read(config) if here else _assumed(config)
    inserted = metadata.inserted(source.metadata, source.where)
    claims = claim(config.train, source.architecture, inserted)
    kinds = dtypes(claims, source.stored_dtypes(claims.rules), config.frozen_dtype)
    return Plan(config, source.where, source.architecture, claims, kinds)


def _read(config: Config) -> ModelSource:
    """The shape of `model`, changed by `init`."""
    path = storage.place(config.model)
    if is_run(path):
        model = _of_run(RunFolder(path))
    else:
        model = open_shape(path) if without_weights(path) else open_folder(path)
    model = apply(model, config.init)
    return ModelSource(
        where=str(path),
        architecture=model.architecture,
        config=model.config,
        dtypes={},
        metadata=model.metadata,
        tensors=model.tensors,
    )


def _of_run(run: RunFolder) -> LazyModel:
    """The model of a run, with zeros for weights: float32 where it or one before trained them."""
    model = run_model(run)
    exported = run.tensor_dtypes()
    whole = not run.base and run.description.get("kind") != "import"
    tensors: dict[str, lazy.LazyArray] = {
        name: lazy.zeros(shape, jnp.dtype("float32" if whole else exported[name]))
        for name, shape in names.expected(model.architecture).items()
    }
    model = dataclasses.replace(model, tensors=tensors)
    if not run.base:
        return model
    for i, step in enumerate(run.base.steps):  # what earlier stages had trained
        if not any("init" in later for later in run.base.steps[i:]):  # which re-arranges
            model = base.overlaid(model, base.kept(run.path / step["weights"]))
    stacked = shapes(model.architecture)
    own = {name: leaf(name).shape(stacked[leaf(name).parameter]) for name in run.trained}
    zeros = {name: lazy.zeros(shape, jnp.dtype("float32")) for name, shape in own.items()}
    weights = base.trained(zeros, lambda array, row: array if row is None else _row(array))
    return base.overlaid(model, weights)


def _row(array: lazy.LazyArray) -> lazy.LazyArray:
    return lazy.zeros(array.shape[1:], array.dtype)


def _assumed(config: Config) -> ModelSource:
    """The shape that `architecture` tells, which is the model's after `init`."""
    named = f"config key 'model' is {config.model!r}, which is not on this machine"
    missing = named if config.model else "config key 'model' is empty"
    given = config.architecture
    check_shape(given, f"{missing}, and a plan without it")
    rows = given.vocab_size
    if not rows and config.data.tokenizer:
        rows = load_tokenizer(config.data.tokenizer).rows
    if not rows:
        raise InputError(
            f"{missing}, and architecture.vocab_size is 0; set it, or data.tokenizer, which tells"
        )
    added = [settings_of(one) for one in config.init if isinstance(one, AddLora)]
    arch = dataclasses.replace(given, vocab_size=rows, lora=[given.lora, *added][-1])
    if arch.base_rows > rows:
        raise InputError(f"architecture.base_rows {arch.base_rows} is more than the {rows} rows")
    written = config_json.config_for(arch, UNKNOWN)
    config_json.architecture(written, "config key 'architecture'")
    where = "config key 'architecture'" + (f" ({config.model} is not here)" if config.model else "")
    where += ", taken as what 'init' makes" if config.init else ""
    return ModelSource(where, arch, written, dict.fromkeys(names.expected(arch), UNKNOWN))


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


def main(argv: Sequence[str]) -> None:
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    configs, rest = flags.parse_several(argv)
    target = _target(rest)
    plans = {name: plan(config) for name, config in configs.items()}
    for name, one in plans.items():
        print(f"{name}\n{one.text()}\n")
    if len(plans) > 1:
        print(total(list(plans.values())))
    figures = [one.figures() for one in plans.values()]
    if target:
        write_json(target, figures if len(figures) > 1 else figures[0])


def _target(rest: Sequence[str]) -> Path | None:
    """Where --json shall write, after what can be refused about it."""
    file, overwrite, arguments = "", False, iter(rest)
    for argument in arguments:
        key, given, value = argument.lstrip("-").partition("=")
        if not argument.startswith("-") or key not in ("json", "overwrite", "topology"):
            raise InputError(f"unknown argument {argument!r}; --help lists what there is")
        if key == "topology":
            raise InputError(
                "--topology is not there yet: plans are made for all devices together; leave it out"
            )
        if key == "overwrite":
            overwrite = value != "false"
            continue
        file = value if given else next(arguments, "")
        if not file:
            raise InputError("--json has no value; write --json=FILE")
    if not file:
        return None
    target = Path(file).expanduser()
    if not target.parent.is_dir():
        raise InputError(f"--json={file} lies in a folder that does not exist")
    if target.exists() and not (overwrite and target.is_file()):
        raise InputError(f"{target} exists; choose another --json, or give --overwrite")
    return target


if __name__ == "__main__":
    console.run(main)
    sys.exit()
