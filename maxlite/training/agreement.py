"""Whether all processes of a job mean the same run: told at the start, by hash.

Hosts with another version of the code, another config, text or model would train something that
nobody has asked for, or wait for each other in collectives that do not match.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

import maxlite
from maxlite import config as config_lib
from maxlite.config import Config
from maxlite.errors import InputError
from maxlite.hf.signature import signature
from maxlite.state.source import open_model
from maxlite.training.job import Job, located

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
_BYTES = 16  # of a hash


def check_program(config: Config) -> None:
    """Refuses to begin when the code or the config is not the same in every process.

    Raises:
      InputError: some differ; in every process, which all must call it.
    """
    if jax.process_count() == 1:
        return
    versions = {f"the version of {name}": version(name) for name in _PACKAGES}
    _check({"maxlite's code": _code()} | versions)  # first: another version may have other keys
    keys = sorted(config_lib.keys())
    _check({f"config key '{key}'": config_lib.get(config, key) for key in keys})


def check_job(job: Job) -> None:
    """The same of what the config's names have led to.

    Raises:
      InputError: some differ; in every process, which all must call it.
    """
    if jax.process_count() == 1:
        return
    begins = job.config.model and job.resumed < 0
    _check(
        {
            "the text, its order or tokenizer": job.corpus.order.fingerprint,
            "the text held out": {name: view.tokens for name, view in job.corpus.evals.items()},
            "the model's config.json": job.source.config,
            "the model": _weights(job) if begins else "",
            "the run folder, which all must share,": [job.run is not None, job.resumed],
        }
    )


def _weights(job: Job) -> str:
    """Names the model as it is before `init`, which the config says."""
    return signature(open_model(str(located(job.config, job.run))).tensors)


def _check(topics: Mapping[str, Any]) -> None:
    mine = np.stack([_digest(content) for content in topics.values()])
    everyone = multihost_utils.process_allgather(mine)  # [processes, topics, bytes]
    differ = (everyone != everyone[:1]).any(axis=2)
    if differ.any():
        told = [
            f"{topic} is another in process {_listed(differ[:, i])} than in process 0"
            for i, topic in enumerate(topics)
            if differ[:, i].any()
        ]
        raise InputError(
            f"the processes of this job do not agree: {'; '.join(told)}; start them all with the "
            "same code, config and files"
        )


def _code() -> str:
    """The version, and a hash of every file of the package."""
    digest = hashlib.sha256(maxlite.__version__.encode())
    root = Path(maxlite.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _digest(content: Any) -> np.ndarray:
    """uint8 [_BYTES]."""
    text = json.dumps(content, sort_keys=True, default=repr)
    return np.frombuffer(hashlib.sha256(text.encode()).digest()[:_BYTES], np.uint8)


def _listed(differ: np.ndarray) -> str:
    """The numbers of processes, of many the first ones."""
    numbers = np.flatnonzero(differ)
    rest = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""
    return ", ".join(map(str, numbers[:8])) + rest
