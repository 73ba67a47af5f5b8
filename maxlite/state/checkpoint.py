"""Checkpoints: written in the background by orbax, trusted only after their manifest is checked.

A checkpoint is a folder `checkpoints/STEP` with the items `params` (stacked names), `rest`
(optimizer state and counters) and `meta` (JSON). After orbax has committed it, each process writes
its manifest (see `maxlite.state.manifest`).
"""

from __future__ import annotations

import contextlib
import os
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

from maxlite import storage
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.outputs import FULL
from maxlite.state import manifest
from maxlite.state.manifest import steps_in, write_manifest
from maxlite.storage import Place


def agree(mine: bool) -> bool:
    """True when every process says true."""
    if jax.process_count() == 1:
        return mine
    return bool(np.all(multihost_utils.process_allgather(np.asarray([mine]))))


def barrier(name: str) -> None:
    """Waits until every process has come to a barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def find_verified(folder: Place) -> tuple[int, dict[int, str]]:
    """`manifest.find_verified` with the work shared by all processes, which must all call it."""
    return manifest.find_verified(folder, -1, share(), agree)


def share() -> tuple[int, int]:
    """This process and how many there are."""
    return jax.process_index(), jax.process_count()


def restore(folder: Place, step: int, item: str, abstract: Any) -> Any:
    """Reads one item of a verified checkpoint onto devices.

    Args:
      folder: the `checkpoints` folder.
      step: a verified step.
      item: "params" or "rest".
      abstract: a pytree of `jax.ShapeDtypeStruct` with shardings; values are cast to its dtypes.
    """
    with ocp.StandardCheckpointer() as reader:
        return reader.restore(str((folder / str(step) / item).absolute()), abstract)


def _by_layer(x: Any) -> ocp.SaveArgs:
    """Stores stacked layers [L, out, in] each on its own, so that one can be read alone."""
    return ocp.SaveArgs(shard_axes=(0,) if np.ndim(x) == 3 else ())


class _Manager(ocp.CheckpointManager):
    """Orbax's, without its own look at whether the job is being preempted.

    What it would tell jax at each save is a number of a sequence that the training counts through.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """Writes a run's checkpoints and removes old ones.

    `keep` latest checkpoints stay, and each multiple of `keep_every` for ever. A checkpoint is
    removed only after the manifests of a newer one have been written.
    """

    def __init__(
        self,
        folder: Place,
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
        self._manager: ocp.CheckpointManager | None = None

    def save(
        self, step: int, params: Mapping[str, jax.Array], rest: Any, meta: Mapping[str, Any]
    ) -> None:
        """Starts to save a step; returns when the arrays may be overwritten.

        Args:
          step: its number.
          params: leaf names to arrays, stacked and sharded as they train.
          rest: a tree of arrays: the optimizer's state and the counters.
          meta: for JSON.

        Raises:
          InputError: this or the previous save failed, as on a full disk.
        """
        self.wait()
        items = {"params": params, "rest": rest}
        trees = {
            name: ocp.args.PyTreeSave(tree, save_args=jax.tree.map(_by_layer, tree))
            for name, tree in items.items()
            if tree
        }
        try:
            self._manager = self._manager or self._make_manager(items)
            self._manager.save(
                step,
                args=ocp.args.Composite(meta=ocp.args.JsonSave(dict(meta)), **trees),
                force=True,
            )
        except Exception as e:
            raise self._failure(step, e) from e
        self._thread = threading.Thread(target=self._finish, args=(step,), daemon=True)
        self._thread.start()

    def _make_manager(self, items: Any) -> ocp.CheckpointManager:
        """Orbax's part of the work, fit for arrays like `items`."""
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None,  # retention is ours: orbax would delete before we have verified
            enable_async_checkpointing=True,
        )
        # Cutting an array into layers copies it, so only one is in the works at a time; compressing
        # gains little on weights and would hold a second copy of all of them.
        shards = (shard for x in jax.tree.leaves(items) for shard in x.addressable_shards)
        room = max(shard.data.nbytes for shard in shards) + (1 << 20)
        tree = ocp.PyTreeCheckpointHandler(use_compression=False, save_concurrent_gb=room / 1e9)
        handlers = {"params": tree, "rest": tree, "meta": ocp.JsonCheckpointHandler()}
        return _Manager(str(self.folder), options=options, item_handlers=handlers)

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
                if self._manager:
                    self._manager.close()

    def _remove_partial(self) -> None:
        """Removes what orbax had begun and not committed, which has a name of its own on a disk.

        In an object store it has the step's, and no manifest.
        """
        if jax.process_index() == 0 and isinstance(self.folder, Path):
            for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def _failure(self, step: int, error: BaseException) -> InputError:
        text = next((s for s in str(error).splitlines() if s.strip()), repr(error))
        if any(os.strerror(number) in str(error) for number in FULL):
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
            assert self._manager
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
                storage.remove_tree(self.folder / str(step))


def _poll(done: Callable[[], bool], message: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"{message} after {seconds:.0f} s")
        time.sleep(0.02)


def set_aside(folder: Place, problems: Mapping[int, str]) -> None:
    """Frees the names of checkpoints that do not verify; keeps damaged ones under another name."""
    if jax.process_index() == 0:
        for step, why in problems.items():
            source = folder / str(step)
            if why == "incomplete":
                say(f"checkpoint {step} was not finished when the run ended: removed")
                storage.remove_tree(source)
            else:
                n = 0
                while (target := folder / f"damaged-{step}-{n}").exists():
                    n += 1
                say(f"checkpoint {step} is DAMAGED ({why}); it is kept aside as {target}")
                source.rename(target)  # type: ignore[arg-type]
    barrier("maxlite_set_aside")
