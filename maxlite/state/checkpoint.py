"""Checkpoints: written in the background by orbax, trusted only after their manifest is checked.

A checkpoint is a folder `checkpoints/STEP` with the items `params` (stacked names), `rest`
(optimizer state and counters) and `meta` (JSON). After orbax has committed it, each process writes
`manifest-I-of-N.json`, the size and SHA-256 of its share of the files. Orbax alone restores a
flipped byte without a word, so nothing is restored whose manifests are missing or do not match.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from maxlite.console import say
from maxlite.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MANIFEST = re.compile(r"manifest-(\d+)-of-(\d+)\.json")
_NOT_LISTED = re.compile(r"manifest-\d+-of-\d+\.(json|tmp)")  # others may just be writing theirs


def agree(mine: bool) -> bool:
    """True when every process says true."""
    if jax.process_count() == 1:
        return mine
    return bool(np.all(multihost_utils.process_allgather(np.asarray([mine]))))


def barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def steps_in(folder: Path) -> list[int]:
    """The committed steps in a checkpoint folder, newest first, verified or not."""
    if not folder.is_dir():
        return []
    return sorted((int(p.name) for p in folder.iterdir() if p.name.isdecimal()), reverse=True)


def _files(step_folder: Path) -> list[Path]:
    everything = (p for p in step_folder.rglob("*") if not _NOT_LISTED.fullmatch(p.name))
    return sorted(p for p in everything if p.is_file())


def _digest(path: Path) -> list[Any]:
    with path.open("rb") as f:
        return [path.stat().st_size, hashlib.file_digest(f, "sha256").hexdigest()]


def write_manifest(step_folder: Path, index: int, count: int) -> None:
    """Writes this process's share (every `count`-th file from `index`) of a step's manifest."""
    share = _files(step_folder)[index::count]
    content = {str(p.relative_to(step_folder)): _digest(p) for p in share}
    target = step_folder / f"manifest-{index}-of-{count}.json"
    temporary = target.with_suffix(".tmp")
    with temporary.open("w") as f:
        json.dump(content, f, indent=1)
        f.flush()
        os.fsync(f.fileno())
    temporary.rename(target)


def problem(step_folder: Path, index: int = 0, count: int = 1) -> str:
    """What is wrong with a checkpoint, or nothing.

    Args:
      step_folder: a committed step.
      index: this process; it reads every `count`-th file.
      count: how many processes share the reading.

    Returns:
      "" when verified, "incomplete" when its manifests were never all written, otherwise a phrase
      that names the first damaged file.
    """
    manifests = [m for p in step_folder.iterdir() if (m := _MANIFEST.fullmatch(p.name))]
    whole = {m[2] for m in manifests if len([n for n in manifests if n[2] == m[2]]) == int(m[2])}
    if not whole:
        return "incomplete"
    expected: dict[str, list[Any]] = {}
    for m in manifests:
        if m[2] in whole:
            try:
                expected |= json.loads((step_folder / m[0]).read_text())
            except (ValueError, TypeError):
                return f"{m[0]} is damaged"
    for name in sorted(expected)[index::count]:
        path = step_folder / name
        if not path.is_file():
            return f"{name} is missing"
        if _digest(path) != expected[name]:
            return f"{name} differs from its manifest"
    return ""


def find_verified(folder: Path, step: int = -1) -> tuple[int, dict[int, str]]:
    """The newest checkpoint that verifies, reading every byte of it; collective over processes.

    Args:
      folder: the `checkpoints` folder of a run.
      step: look at this step only; -1 for all.

    Returns:
      The step (-1 if none) and what was wrong with the newer ones.
    """
    problems: dict[int, str] = {}
    for candidate in steps_in(folder):
        if step not in (-1, candidate):
            continue
        wrong = problem(folder / str(candidate), jax.process_index(), jax.process_count())
        if agree(not wrong):
            return candidate, problems
        problems[candidate] = wrong or "another process found it damaged"
    return -1, problems


def require_verified(folder: Path, step: int = -1) -> int:
    """Like `find_verified`, for readers that cannot go on without one.

    Raises:
      InputError: no checkpoint (or not that one) verifies.
    """
    found, problems = find_verified(folder, step)
    if found < 0:
        wrong = "; ".join(f"{s}: {why}" for s, why in problems.items())
        which = "no checkpoint" if step < 0 else f"no checkpoint of step {step}"
        have = f"has steps {sorted(steps_in(folder))}" if steps_in(folder) else "is empty"
        raise InputError(f"{which} in {folder} can be used ({wrong or have})")
    for newer, why in problems.items():
        say(f"checkpoint {newer} in {folder} is skipped: {why}", jax.process_index() == 0)
    return found


def restore(folder: Path, step: int, item: str, abstract: Any) -> Any:
    """Reads one item of a verified checkpoint onto devices.

    Args:
      folder: the `checkpoints` folder.
      step: a verified step.
      item: "params" or "rest".
      abstract: a pytree of `jax.ShapeDtypeStruct` with shardings; values are cast to its dtypes.
    """
    with ocp.StandardCheckpointer() as reader:
        return reader.restore((folder / str(step) / item).absolute(), abstract)


def metadata(folder: Path, step: int) -> dict[str, Any]:
    """The JSON that was saved with a checkpoint; `dtypes` in it are those of its `params`."""
    return json.loads((folder / str(step) / "meta" / "metadata").read_text())


class Checkpoints:
    """Writes a run's checkpoints and removes old ones.

    `keep` latest checkpoints stay, and each multiple of `keep_every` for ever. A checkpoint is
    removed only after the manifests of a newer one have been written.
    """

    def __init__(
        self,
        folder: Path,
        keep: int,
        keep_every: int,
        on_verified: Callable[[int], None] = lambda step: None,
    ):
        self.folder = folder.absolute()
        self._keep, self._keep_every, self._on_verified = keep, keep_every, on_verified
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        if jax.process_index() == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_partial()
        barrier("maxlite_checkpoint_folder")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,  # retention is ours: orbax would delete before we have verified
            enable_async_checkpointing=True,
        )
        # Compressing gains little on weights and would hold a second copy of all of them.
        tree = ocp.PyTreeCheckpointHandler(use_compression=False)
        handlers = {"params": tree, "rest": tree, "meta": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def save(
        self, step: int, params: Mapping[str, jax.Array], rest: Any, meta: Mapping[str, Any]
    ) -> None:
        """Starts to save a step; returns when the arrays may be overwritten.

        Raises:
          InputError: this or the previous save failed, as on a full disk.
        """
        self.wait()
        meta = {**meta, "dtypes": {name: str(x.dtype) for name, x in params.items()}}
        items = {"params": params, "rest": rest}
        trees = {name: ocp.args.PyTreeSave(tree) for name, tree in items.items() if tree}
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(meta=ocp.args.JsonSave(meta), **trees),
                force=True,
            )
        except Exception as e:
            raise self._failure(step, e) from e
        self._thread = threading.Thread(target=self._finish, args=(step,), daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Waits until the save under way is written and verified; raises what went wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def check(self) -> None:
        """Raises the error of a save in the background, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Waits, then lets orbax's threads go; raises what went wrong, if nobody was told yet."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # orbax tells again what `wait` has told
                self._manager.close()

    def _remove_partial(self) -> None:
        """Removes what orbax had begun and not committed."""
        if jax.process_index() == 0:
            for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def _failure(self, step: int, error: BaseException) -> InputError:
        text = next((s for s in str(error).splitlines() if s.strip()), repr(error))
        if any(os.strerror(number) in str(error) for number in _FULL):
            text = "the disk or a quota is full"
        self._remove_partial()  # or there would be no room for status.json either
        return InputError(
            f"the checkpoint of step {step} could not be written to {self.folder}: {text[:300]}; "
            "earlier checkpoints are untouched, start the run again to go on from the last"
        )

    def _finish(self, step: int) -> None:
        index, count = jax.process_index(), jax.process_count()
        step_folder = self.folder / str(step)
        try:
            self._manager.wait_until_finished()
            _poll(step_folder.is_dir, f"checkpoint {step} was not committed")
            write_manifest(step_folder, index, count)
            if index == 0:
                names = [step_folder / f"manifest-{i}-of-{count}.json" for i in range(count)]
                _poll(lambda: all(n.is_file() for n in names), f"manifests of {step} are missing")
                self._on_verified(step)
                self._prune(step)
        except BaseException as e:  # reported by the main thread
            self._error = self._failure(step, e)

    def _prune(self, newest: int) -> None:
        keep = set(steps_in(self.folder)[: self._keep]) | {newest}
        for step in steps_in(self.folder):
            if step not in keep and not (self._keep_every and step % self._keep_every == 0):
                shutil.rmtree(self.folder / str(step))


def _poll(done: Callable[[], bool], message: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"{message} after {seconds:.0f} s")
        time.sleep(0.02)


def set_aside(folder: Path, problems: Mapping[int, str]) -> None:
    """Frees the names of checkpoints that do not verify; keeps damaged ones under another name."""
    if jax.process_index() == 0:
        for step, why in problems.items():
            source = folder / str(step)
            if why == "incomplete":
                say(f"checkpoint {step} was not finished when the run ended: removed")
                shutil.rmtree(source)
            else:
                n = 0
                while (target := folder / f"damaged-{step}-{n}").exists():
                    n += 1
                say(f"checkpoint {step} is DAMAGED ({why}); it is kept aside as {target}")
                source.rename(target)
    barrier("maxlite_set_aside")
