"""Trains for a few steps as `maxlite.train` does and prints the figures; for `benchmark train`.

  python -m tools.benchmarks.train_ours TASK    (JSON, see `tools.benchmarks.train.Task`)

The step is the one that training runs, lowered by the same code for the same places, one device.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import jax

from maxlite.config import Config, Optimizer
from maxlite.model.flops import flops_per_token
from maxlite.state import batch as batch_lib
from maxlite.state import mesh as mesh_lib
from maxlite.state.claims import claim, dtypes
from maxlite.state.compiled import keep_compiled
from maxlite.state.ready import default_dtype
from maxlite.state.source import open_model
from maxlite.surgery.adapters import PROJECTIONS
from maxlite.training import step as step_lib
from maxlite.training.lowering import (
    abstract,
    abstract_state,
    binding,
    halved,
    lowered,
    make_optimizer,
)
from maxlite.training.metrics import peak_flops
from maxlite.transforms import AddLora
from tools.benchmarks.paced import MIB, paced, resident_peak
from tools.benchmarks.train import TRAINS, Task


def main(task: Task) -> dict[str, Any]:
    keep_compiled()
    lora = AddLora(rank=task.rank, alpha=task.alpha, targets=",".join(PROJECTIONS))
    source = open_model(task.folder, init=(lora,) if task.mode == "lora" else ())
    arch = source.architecture
    arch.base_rows = task.base_rows
    config = Config(
        train=TRAINS[task.mode],
        dtype=default_dtype(),
        remat=task.remat,
        batch_size=task.rows,
        seq_len=task.length,
        optimizer=Optimizer(
            learning_rate=task.learning_rate,
            weight_decay=task.weight_decay,
            schedule="constant",
            warmup=0,
            bfloat16=task.bfloat16,
        ),
    )
    mesh = mesh_lib.make_mesh("fsdp=1", jax.devices()[:1])  # the peer has one
    claims = claim(config.train, arch)
    kinds = dtypes(claims, source.stored_dtypes(claims.rules), "")
    places = mesh_lib.shardings(mesh, claims.shapes)
    optimizer = make_optimizer(config, claims)
    with jax.set_mesh(mesh):
        wanted = abstract_state(claims, places, optimizer, mesh)
        of_opt = jax.tree.map(lambda x: x.sharding, wanted.opt)
        params, frozen = (
            source.load({n: places[n] for n in names}, {n: kinds[n] for n in names})
            if names
            else {}
            for names in (claims.trained, claims.frozen)
        )
        state = step_lib.init_state(params, optimizer, of_opt, mesh_lib.replicated(mesh))
        del params
        bind = binding(config, arch, config.dtype)
        shape = (1, task.rows, task.length)
        flag = mesh_lib.flags(mesh)[False]
        spread = mesh_lib.batch_sharding(mesh)
        rows = batch_lib.rows_needed(spread, shape)
        batches = [{k: x[0] for k, x in task.batch(i).items()} for i in range(task.different)]
        states = jax.tree.map(abstract, (state, frozen))
        compiled: Any = None
        held = [state]
        del state

        def step(number: int) -> jax.Array:
            nonlocal compiled
            if compiled is None:
                less = halved(config, claims)
                program = lowered(bind, optimizer, None, 0.0, less, mesh, shape, *states)
                compiled = program.compile()
            local = batches[number % len(batches)]
            batch = batch_lib.to_devices(local, rows, spread, shape)
            held[0], figures = compiled(held[0], frozen, batch, flag)
            return figures["loss"]

        told = paced(step, float, task.steps)
    on_device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return told | {
        "peak_mib": on_device / MIB if on_device else resident_peak(),
        "flops_per_token": flops_per_token(arch, task.length, claims.frozen),
        "peak_flops": peak_flops() / jax.device_count(),
        "trained": sum(x.size for x in jax.tree.leaves(held[0].params)),
    }


if __name__ == "__main__":
    print(json.dumps(main(Task(**json.loads(sys.argv[1])))))
