"""What stages will cost, before any runs: python -m maxlite.plan --config=A[,B,...]

  --config=FILE[,FILE]    config files, found as maxlite.train does; several are also summed up
  --config.key.sub=VALUE  sets a key, in all of them
  --topology=NAME[,NAME]  what they cost on machines that need not be here: v5e:8x8, 2*v5e:8x8 for
                          two slices over the network, h100:8
  --mesh=MESH[;MESH]      of these machines, instead of the config's: "fsdp=64;fsdp=32,tensor=2"
  --markdown              writes the table of several machines or meshes as Markdown
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
Of the policies for `remat` (maxlite/model/remat.py) the one is named that computes the least again
of those that fit: the machines of --topology, or else this one.
FLOPs of a token are 6 for a weight that trains, 4 for a frozen one that a gradient passes through,
2 below the lowest point that needs one, and attention's: see maxlite/model/flops.py.

For a TPU the very step of training is compiled by the TPU's own compiler (pip install
'maxlite[tpu]'; minutes for a large model), which says what a chip holds and whether it fits. The
least time of a step is from the chip's public figures: see maxlite/plan/roofline.py. For a GPU
there is an analytical model: see maxlite/plan/analytic.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxlite import console, flags, outputs
from maxlite.errors import InputError
from maxlite.plan import estimates, plan, suggestion, table, topology, total
from maxlite.plan.estimate import Estimate
from maxlite.state.run import write_json


@dataclass
class Wanted:
    """What a command line says beside the configs."""

    topologies: list[topology.Topology] = field(default_factory=list)
    meshes: list[str] = field(default_factory=list)
    markdown: bool = False
    target: Path | None = None


def main(argv: Sequence[str]) -> None:
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return
    configs, rest = flags.parse_several(argv)
    wanted = _wanted(rest)
    plans = {name: plan(config) for name, config in configs.items()}
    estimates.check(plans.values(), wanted.topologies, wanted.meshes)
    figures = {name: one.figures() for name, one in plans.items()}
    for name, one in plans.items():
        print(f"{name}\n{one.text()}")
        if not wanted.topologies:
            figures[name]["remat_suggested"], line = suggestion.on_this_machine(one)
            print(line)
        print()
    if len(plans) > 1:
        print(total(list(plans.values())))
    found: dict[str, list[Estimate]] = {}
    for name, estimate in estimates.made(plans, wanted.topologies, wanted.meshes):
        found.setdefault(name, []).append(estimate)
        print(f"{name} on {estimate.text()}\n", flush=True)
    if sum(map(len, found.values())) > 1:
        print(table.markdown(found) if wanted.markdown else table.text(found))
    all_figures = [one | _of_machines(found.get(name)) for name, one in figures.items()]
    if wanted.target:
        write_json(wanted.target, all_figures if len(all_figures) > 1 else all_figures[0])


def _of_machines(several: list[Estimate] | None) -> dict[str, Any]:
    """For JSON: an object for one machine and mesh, a list for several."""
    figures = [one.figures() for one in several or ()]
    return {"topology": figures if len(figures) > 1 else figures[0]} if figures else {}


def _wanted(rest: Sequence[str]) -> Wanted:
    """Reads the arguments that are not about configs."""
    given: dict[str, str] = {}
    arguments = iter(rest)
    for argument in arguments:
        key, has_value, value = argument.lstrip("-").partition("=")
        known = (*_VALUES, "overwrite", "markdown")
        if not argument.startswith("-") or key not in known:
            raise InputError(f"unknown argument {argument!r}; --help lists what there is")
        if key in _VALUES and not has_value:
            value = next(arguments, "")
        if key in _VALUES and not value:
            raise InputError(f"--{key} has no value; write --{key}={_VALUES[key]}")
        given[key] = value or "true"
    names = [name.strip() for name in given.get("topology", "").split(",") if name.strip()]
    meshes = [mesh.strip() for mesh in given.get("mesh", "").split(";") if mesh.strip()]
    if meshes and not names:
        raise InputError("--mesh is for the machines of --topology; name some, or leave it out")
    json = given.get("json")
    return Wanted(
        [topology.parse(name) for name in dict.fromkeys(names)],
        list(dict.fromkeys(meshes)),
        given.get("markdown") == "true",
        outputs.new_path("json", json, given.get("overwrite") == "true") if json else None,
    )


_VALUES = {"json": "FILE", "topology": "v5e:8x8", "mesh": "'fsdp=64;fsdp=32,tensor=2'"}


if __name__ == "__main__":
    console.run(main)
    sys.exit()
