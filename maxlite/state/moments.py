"""The optimizer's state of a finished run, with which a next stage may go on; without jax."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorstore as ts

from maxlite import storage
from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import LazyArray, zeros
from maxlite.state import base, manifest
from maxlite.state.host import Stored, kvstore, part, stores
from maxlite.state.run import RunFolder, is_run
from maxlite.storage import Place
from maxlite.transforms import AddLora, Transform

KINDS = ("mu", "nu")  # optax's names for the running means of gradients and of their squares


@dataclasses.dataclass(frozen=True)
class Moments:
    """AdamW's state after a run.

    Attributes:
      run: whose it is.
      step: of the checkpoint that holds it.
      prefixes: leaves of the run to where the checkpoint keeps the state of their group.
    """

    run: RunFolder
    step: int
    prefixes: dict[str, str]

    @property
    def folder(self) -> Place:
        """Where the checkpoint keeps the state."""
        return self.run.checkpoints / str(self.step) / "rest"

    def counts(self) -> dict[str, int]:
        """Leaf names to the number of updates that their moments have seen."""
        wanted = [f"{prefix}.count" for prefix in dict.fromkeys(self.prefixes.values())]
        found = {n: int(store.read().result()) for n, store in stores(self.folder, wanted).items()}
        return {name: found[f"{prefix}.count"] for name, prefix in self.prefixes.items()}

    def tensors(self, kind: str, model: LazyModel) -> dict[str, LazyArray]:
        """One of the `KINDS` for every tensor of a model, float32; zeros where the run had none."""
        where = {f"{prefix}.{kind}.{name}": name for name, prefix in self.prefixes.items()}
        opened = stores(self.folder, where, model.architecture)
        leaves = {where[full]: Stored(store) for full, store in opened.items()}
        shapes = names.expected(model.architecture)
        none = {name: zeros(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
        known = base.trained(leaves, part)
        return dict(base.overlaid(dataclasses.replace(model, tensors=none), known).tensors)


def moments(model: str, init: tuple[Transform, ...]) -> Moments:
    """The optimizer's state with which a stage goes on that starts from a run.

    Args:
      model: of the stage's config.
      init: of the same.

    Raises:
      InputError: the model is no run that has trained, or `init` re-arranges its parameters.
    """
    path = storage.place(model)
    if not is_run(path) or RunFolder(path).description.get("kind") == "import":
        raise InputError(
            f"config key 'keep_optimizer' is True, but 'model' {model!r} is no run that has"
            " trained and so has no optimizer state: name a run, or leave it out"
        )
    other = [type(one).__name__ for one in init if not isinstance(one, AddLora)]
    if other:
        raise InputError(
            f"config key 'keep_optimizer' is True, but 'init' has {other[0]}, which re-arranges"
            " what the optimizer state belongs to: leave one of the two out"
        )
    run = RunFolder(path)
    step = manifest.require_verified(run.checkpoints, -1)
    folder = run.checkpoints / str(step) / "rest"
    listed = ts.KvStore.open(kvstore(folder)).result().list().result()
    prefixes = {}
    for array in {key.decode().rpartition("/")[0] for key in listed}:
        prefix, found, name = array.partition(f".{KINDS[0]}.")
        if found:
            prefixes[name] = prefix
    return Moments(run, step, prefixes)
