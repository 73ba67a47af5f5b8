"""What maxlite.json says of a model that a run has made; without jax."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from maxlite.hf import metadata
from maxlite.state import run as run_lib
from maxlite.state.run import RunFolder
from maxlite.storage import Place


def signature(run: RunFolder, step: int) -> str:
    """Names one step of one training: the same for a run and its repetition elsewhere."""
    config = run_lib.essence(run.description["config"])
    content = json.dumps(
        [config, run.description["order"], step, *_commit(run).values()], sort_keys=True
    )
    return hashlib.sha256(content.encode()).hexdigest()


def notes(run: RunFolder, step: int, before: Mapping[str, Any]) -> dict[str, Any]:
    """The content of maxlite.json for the model of a run.

    Args:
      run: the run; an import changes nothing.
      step: the step that the weights are from.
      before: maxlite.json of the model that the run began with.
    """
    if run.description.get("kind") == "import":
        return dict(before)
    model = run.description["config"]["model"]
    origin = {"model": model, "step": step, "signature": signature(run, step)}
    known = metadata.based(dict(before), run.description.get("source", {}))
    told = {**known, "origin": origin | _commit(run)}
    return metadata.noted(told, "train", arguments(run, step))


def arguments(run: RunFolder, step: int) -> dict[str, Any]:
    """What a model's history says of a run."""
    config = run.description["config"]
    keys = ("model", "steps", "batch_size", "seq_len", "seed", "train")
    return {key: config[key] for key in keys} | {
        "step": step,
        "learning_rate": config["optimizer"]["learning_rate"],
        "order": run.description["order"],
    }


def _commit(run: RunFolder) -> dict[str, str]:
    """That of the hub's model that a run began with; {} where it began with something else."""
    return {k: v for k, v in run.description.get("source", {}).items() if k == "commit"}


def is_from(folder: Place, run: RunFolder, step: int) -> bool:
    """Whether a folder is the export of this step of this run."""
    found = metadata.read(folder).get("origin", {})
    return bool(found.get("signature") == signature(run, step))
