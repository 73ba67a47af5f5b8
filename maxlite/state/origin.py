"""What maxlite.json says of a model that a run has made; without jax."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxlite.hf import metadata
from maxlite.state import run as run_lib
from maxlite.state.run import RunFolder


def signature(run: RunFolder, step: int) -> str:
    """Names one step of one training: the same for a run and its repetition elsewhere."""
    config = run_lib.essence(run.description["config"])
    content = json.dumps([config, run.description["order"], step], sort_keys=True)
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
    config = run.description["config"]
    keys = ("model", "steps", "batch_size", "seq_len", "seed", "train")
    arguments = {key: config[key] for key in keys} | {
        "step": step,
        "learning_rate": config["optimizer"]["learning_rate"],
        "order": run.description["order"],
    }
    origin = {"model": config["model"], "step": step, "signature": signature(run, step)}
    return metadata.noted({**before, "origin": origin}, "train", arguments)


def is_from(folder: Path, run: RunFolder, step: int) -> bool:
    """Whether a folder is the export of this step of this run."""
    found = metadata.read(folder).get("origin", {})
    return bool(found.get("signature") == signature(run, step))
