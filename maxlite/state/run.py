"""The run folder: what a run is (`run.json`), how it stands (`status.json`), and its model's files.

run.json       the resolved config, the version, the fingerprint of the training order
status.json    running, stopped, finished or failed, with the step and the last checkpoint
metrics.jsonl  one line an event; tensorboard/ holds the same for TensorBoard
order/         what was read and in which order; see maxlite.data.orders
model/         config.json, tokenizer and other files of the model, tensors.json with its dtypes
checkpoints/   see maxlite.state.checkpoint
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import maxlite
from maxlite import config as config_lib
from maxlite import outputs, uploads
from maxlite.config import Config, Data, Source
from maxlite.errors import InputError
from maxlite.state import lock
from maxlite.state.base import Base
from maxlite.storage import Place, Url

MAY_DIFFER = ("checkpoint.", "eval.", "log.", "export", "mesh", "attention", "remat", "accumulate",
              "stuck_minutes")  # fmt: skip
RUN = "run.json"
_BEGUN = {"status": "running", "step": 0, "checkpoint": -1}
# Keys of earlier versions, which their runs still have; none said what is computed.
GONE = ("data.cache", "optimizer.max_skipped", "scan_unroll")


def is_run(path: Place) -> bool:
    """Whether a path is a run folder."""
    return (path / RUN).is_file()


def write_json(path: Place, content: Any) -> None:
    """Writes JSON so that a reader sees the old file or the new one, never half of one."""
    text = outputs.json_text(content)
    try:
        outputs.write_text(path, text)
    except OSError:
        if isinstance(path, Url) or not path.exists():
            raise
        with path.open("r+", encoding="utf-8") as f:  # a full disk still has the old file's block
            f.write(text)
            f.truncate()


def _read_json(path: Place) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except ValueError as e:
        raise InputError(f"{path} is damaged: {e}; restore it from a copy of the run") from e


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


class RunFolder:
    """An existing run folder."""

    def __init__(self, path: Place):
        check_store(path)
        if not is_run(path):
            raise InputError(f"{path} is not a run folder: it has no run.json")
        self.path = path
        self.description = _read_json(path / RUN)
        self._lock: lock.FileLock | lock.ObjectLock | None = None
        self._changing = threading.Lock()  # a save that ends in the background changes it too

    @property
    def model(self) -> Place:
        """The folder of the model's files other than weights."""
        return self.path / "model"

    @property
    def base(self) -> Base | None:
        """What its frozen weights are; None where everything trained and is in its checkpoints."""
        described = self.description.get("base")
        return Base(**{**described, "steps": tuple(described["steps"])}) if described else None

    @property
    def trained(self) -> list[str]:
        """The leaves that train, where a part is frozen."""
        return list(self.description["trained"])

    @property
    def checkpoints(self) -> Place:
        """The folder of checkpoints, one folder a step."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Place:
        """The file of figures, a line of JSON each."""
        return self.path / "metrics.jsonl"

    def measured(self) -> list[dict[str, Any]]:
        """The whole lines of metrics.jsonl; a run that is at work may be writing another.

        Raises:
          InputError: a line is damaged.
        """
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_bytes().split(b"\n")[:-1]
        try:
            return [json.loads(line) for line in lines]
        except ValueError as e:
            raise InputError(
                f"{self.metrics} is damaged: {e}; restore it from a copy of the run"
            ) from e

    def status(self) -> dict[str, Any]:
        """The content of status.json; a run without one counts as running from step 0."""
        file = self.path / "status.json"
        return _read_json(file) if file.is_file() else dict(_BEGUN)

    def set_status(self, **changes: Any) -> None:
        """Changes fields of status.json: status, step, steps, checkpoint (-1: none), message.

        Raises:
          InputError: another process has taken the run over.
        """
        if self._lock:
            self._lock.check()
        now = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
        with self._changing:
            write_json(self.path / "status.json", self.status() | changes | now)

    def set_steps(self, steps: int) -> None:
        """Notes another length, which `check_same` has allowed, for the next comparison."""
        if self.description["config"]["steps"] != steps:
            self.description["config"]["steps"] = steps
            write_json(self.path / RUN, self.description)

    def lock(self) -> None:
        """Keeps a second process from training in the same folder.

        Raises:
          InputError: another process holds it.
        """
        self._lock = lock.hold(self.path)

    def unlock(self) -> None:
        """Lets others train in the folder; on a disk the end of the process does the same."""
        if self._lock:
            self._lock.release()
            self._lock = None

    def tensor_dtypes(self) -> dict[str, str]:
        """The dtype that each tensor (Hugging Face names, per layer) had in the source."""
        return _read_json(self.model / "tensors.json")["dtypes"]


def create(
    path: Place,
    description: Mapping[str, Any],
    model_files: Mapping[str, bytes | Path],
    dtypes: Mapping[str, str],
    base: Callable[[Path], Base] | None = None,
    order: Callable[[Path], None] | None = None,
) -> RunFolder:
    """Makes a run folder, whole or not at all.

    Args:
      path: must not exist, or be an empty folder.
      description: for run.json; `config` and `order` (a fingerprint) in it are compared on resume.
      model_files: name to content or file to copy, for model/.
      dtypes: Hugging Face tensor name to dtype name.
      base: makes what the run rests on, given the folder while it is being made.
      order: writes the run's order into it, likewise.

    Raises:
      InputError: the path is taken, or cannot be written.
    """
    check_free(path)
    with outputs.new_folder(path, last=RUN) as folder:
        furnish(folder, description, model_files, dtypes, base)
        if order:
            order(folder)
    return RunFolder(path if isinstance(path, Url) else Path(os.path.realpath(path)))


def furnish(
    folder: Path,
    description: Mapping[str, Any],
    model_files: Mapping[str, bytes | Path],
    dtypes: Mapping[str, str],
    base: Callable[[Path], Base] | None = None,
) -> RunFolder:
    """Makes an empty folder a run's; the arguments are those of `create`."""
    (folder / "model").mkdir()
    outputs.fill(folder / "model", model_files)
    write_json(folder / "model" / "tensors.json", {"dtypes": dict(dtypes)})
    if base:
        found = base(folder)
        found.keep(folder)
        description = {**description, "base": found.described()}
    write_json(folder / RUN, {"version": maxlite.__version__, **description})
    return RunFolder(folder)


def essence(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a run computes: its config by dotted key, without what may differ when it goes on."""
    return {
        key: value
        for key, value in _flat(config).items()
        if key not in ("out", *GONE) and not key.startswith(MAY_DIFFER)
    }


def check_free(path: Place) -> None:
    """Refuses a place that cannot hold a run, or has something other than an empty folder.

    Raises:
      InputError: it is taken, or no place for a run.
    """
    check_store(path)
    if isinstance(path, Url):
        path.check_bucket()
        if uploads.taken(path):
            raise InputError(f"{path} exists and is not a run of maxlite; choose another out")
    elif path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not a run of maxlite; choose another out")


def check_store(path: Place) -> None:
    """Refuses an address at which a run cannot be, whether something is there or not.

    Raises:
      InputError: it is not on a disk or at gs://.
    """
    if isinstance(path, Url) and not path.address.startswith("gs://"):
        raise InputError(
            f"{path}: a run is a folder on a disk or at gs://, where alone checkpoints can be"
            " written; give another place, and copy what should be elsewhere when it is finished"
        )


def check_same(run: RunFolder, config: Config, step: int) -> None:
    """Compares a config with the one the run began with.

    What is trained on may be named otherwise: by the folder of its tokens, or because files have
    moved. Whether it is the same only its order's fingerprint can tell, which is for the caller to
    compare.

    Args:
      run: the run to go on with.
      config: the resolved config of now.
      step: the step the run stands at.

    Raises:
      InputError: a key differs that may not; every such key is listed with both values.
    """
    began, now = essence(_with_defaults(run.description["config"])), essence(_as_json(config))
    wrong = []
    for key in sorted(began.keys() | now.keys()):
        old, new = began.get(key), now.get(key)
        if old == new:
            continue
        if key == "steps" and _steps_may_change(run, config, step):
            continue
        if key in ("data.train", "data.order") and _elsewhere(old, new):
            continue
        wrong.append(f"{key} was {old!r} and is now {new!r}")
    if wrong:
        raise InputError(
            f"the run in {run.path} began with another config: {'; '.join(wrong)}; give the old "
            "values, or another out"
        )


def _elsewhere(old: Any, new: Any) -> bool:
    """Whether orders, or sources, differ in nothing but where they are."""
    if isinstance(old, str):
        return bool(old) == bool(new)
    before, now = ([source | {"glob": ""} for source in sources] for sources in (old, new))
    return before == now


def _with_defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a run, by dotted key; where it is older than a key, that has its default."""
    defaults = _flat(_as_json(Config(data=Data(train=(Source(),)))))
    (source,) = defaults["data.train"]
    flat = defaults | _flat(config)
    for key in ("data.train", "data.eval"):
        flat[key] = [source | given for given in flat[key]]
    return flat


def _as_json(config: Config) -> dict[str, Any]:
    return json.loads(json.dumps(config_lib.as_dict(config)))


def _steps_may_change(run: RunFolder, config: Config, step: int) -> bool:
    began = run.description["config"]
    old_warmup = began["optimizer"]["warmup"]
    old = round(old_warmup * began["steps"]) if old_warmup < 1 else int(old_warmup)
    new = config_lib.warmup_steps(config)
    if step == 0:
        return True
    if config.steps < step:
        return False
    same_so_far = old == new or step >= max(old, new)
    return same_so_far and (config.optimizer.schedule == "constant" or step <= min(old, new))
