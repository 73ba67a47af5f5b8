"""What runs came to: the figures of a run folder, for whoever compares several. No jax here.

name, path      the last part of the folder's path; all of it where two are called the same
status, step, steps
depth, width, expansion (FFN channels over width), heads, key_value_heads, rows, tied
parameters, table_share (of the embedding and the head)
flops_per_token, tokens (read so far), flops (of these)
loss            the last that was logged of training
evaluation      {set: {"step", "loss", "bits_per_byte"}}, the last of each
tokens_per_second  the median of what was logged, without the first line
memory_gib      the most that was logged
order           fingerprint of what is read, and in which order
settings        the config by dotted key, without places and what changes nothing
curves          {"loss": [[step, loss], ...], SET: [[step, bits per byte], ...]}
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

from maxlite import storage
from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.model.flops import flops_per_token
from maxlite.model.leaves import Leaf, leaf
from maxlite.parameters import shapes
from maxlite.sizes import count, table_share
from maxlite.state.host import run_model
from maxlite.state.run import RunFolder, essence
from maxlite.storage import Place

Figures = dict[str, Any]


def figures(paths: Sequence[str]) -> list[Figures]:
    """The figures of runs.

    Raises:
      InputError: one is no run that has trained, or is named twice.
    """
    folders = [storage.place(path) for path in paths]
    for path, times in Counter(folder.resolve() for folder in folders).items():
        if times > 1:
            raise InputError(f"the run {path} is named {times} times; name each once")
    found = [_of(folder) for folder in folders]
    names = Counter(run["name"] for run in found)
    for run in found:
        run["name"] = run["name"] if names[run["name"]] == 1 else run["path"]
    return found


def _of(folder: Place) -> Figures:
    run = RunFolder(folder)
    if run.description.get("kind") == "import":
        raise InputError(f"{folder} is an imported model, which has not trained; leave it out")
    entries = run.measured()
    training = [entry for entry in entries if "loss" in entry]
    if not training:
        raise InputError(f"the run in {folder} has logged no step yet; leave it out, or wait")
    arch = run_model(run).architecture
    config, status = run.description["config"], run.status()
    step = training[-1]["step"]
    tokens = step * config["batch_size"] * config["seq_len"]
    work = flops_per_token(arch, config["seq_len"], _frozen(run, arch))
    curves = {"loss": [[e["step"], e["loss"]] for e in training if e["loss"] is not None]}
    evaluation: dict[str, Any] = {}
    for entry in entries:
        for key in entry:
            if key.startswith("eval/") and key.endswith("/bits_per_byte") and entry[key]:
                name = key.removeprefix("eval/").removesuffix("/bits_per_byte")
                curves.setdefault(name, []).append([entry["step"], entry[key]])
                loss = entry.get(f"eval/{name}/loss", math.nan)
                evaluation[name] = {
                    "step": entry["step"],
                    "loss": loss,
                    "bits_per_byte": entry[key],
                }
    return {
        "name": folder.resolve().name,
        "path": str(folder),
        "status": status["status"],
        "step": step,
        "steps": config["steps"],
        "depth": arch.num_hidden_layers,
        "width": arch.hidden_size,
        "expansion": arch.intermediate_size / arch.hidden_size,
        "heads": arch.num_attention_heads,
        "key_value_heads": arch.num_key_value_heads,
        "rows": arch.vocab_size,
        "tied": arch.tie_word_embeddings,
        "parameters": count(arch),
        "table_share": table_share(arch),
        "flops_per_token": work,
        "tokens": tokens,
        "flops": work * tokens,
        "loss": training[-1]["loss"],
        "evaluation": evaluation,
        "tokens_per_second": statistics.median(
            entry["tokens_per_second"] for entry in training[1:] or training
        ),
        "memory_gib": max(entry["memory_gib"] for entry in training),
        "order": run.description["order"],
        "settings": essence(config),
        "curves": curves,
    }


def _frozen(run: RunFolder, arch: Architecture) -> list[str]:
    """The leaves that a run does not train."""
    if not run.base:
        return []
    trains: dict[str, set[int]] = {}
    whole = shapes(arch)
    for own in map(leaf, run.trained):
        trains.setdefault(own.parameter, set()).update(own.taken(whole[own.parameter]))
    rest = {
        name: tuple(row for row in range(shape[0]) if row not in trains.get(name, ()))
        for name, shape in whole.items()
    }
    return [Leaf(name, rows).name for name, rows in rest.items() if rows]
