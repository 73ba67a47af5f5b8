"""What a run that trains only a part rests on: its frozen weights, by reference; without jax.

`run.json` names the origin, a model folder or a run that stands alone, with sizes and checksums of
what was there, and the steps from it to the model that the run began with: transforms, and weights
that earlier stages had trained, which the run keeps itself in `inherited/`. So a chain of stages
rests on one origin, and the runs in between may be deleted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxlite import storage
from maxlite.errors import InputError
from maxlite.hf import names, writer
from maxlite.hf.folder import CONFIG, LazyModel, companions
from maxlite.hf.lazy import Concatenated, LazyArray
from maxlite.hf.tensors import INDEX, read_header
from maxlite.model.leaves import leaf
from maxlite.state import manifest
from maxlite.storage import Place
from maxlite.transforms import Transform

COPY = "base"
SAMPLES, SAMPLE = 64, 1 << 14  # of each weight file: how many places are looked at, bytes at each


@dataclasses.dataclass(frozen=True)
class Base:
    """The model that a run began with, by reference.

    Attributes:
      origin: the folder or run that everything comes from.
      step: of a run; -1 for a folder.
      identity: file names to what they must be.
      steps: from there on, each {"init": transforms} or {"weights": a folder within the run}.
      earlier: weights of other runs to copy into this one, by their folder within it.
    """

    origin: str
    step: int
    identity: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...] = ()
    earlier: Mapping[str, Mapping[str, LazyArray]] = dataclasses.field(default_factory=dict)

    @property
    def weights(self) -> list[str]:
        """The folders within the run that hold what earlier stages had trained."""
        return [step["weights"] for step in self.steps if "weights" in step]

    def described(self) -> dict[str, Any]:
        """For run.json."""
        found = {name: getattr(self, name) for name in ("origin", "step", "identity")}
        return {**found, "steps": list(self.steps)}

    def then(self, init: Sequence[Transform]) -> Base:
        """The same with further transforms."""
        if not init:
            return self
        step = {"init": [one.described() for one in init]}
        return dataclasses.replace(self, steps=(*self.steps, step))

    def inheriting(self, weights: Mapping[str, LazyArray]) -> Base:
        """The same with weights that a run had trained on top."""
        name = f"inherited/{len(self.earlier)}"
        return dataclasses.replace(
            self,
            steps=(*self.steps, {"weights": name}),
            earlier={**self.earlier, name: weights},
        )

    def keep(self, run: Path) -> None:
        """Copies what is inherited into the folder of a run that is being made."""
        for name, weights in self.earlier.items():
            (run / name).mkdir(parents=True)
            specs = {key: (array.dtype, array.shape) for key, array in weights.items()}
            writer.write_weights(run / name, specs, weights.__getitem__, max_shard_size=1 << 62)


def of_folder(folder: Place) -> Base:
    """A model folder as an origin."""
    path = folder.resolve()
    return Base(str(path), -1, _identity(path))


def of_copy(model: LazyModel, run: Path) -> Base:
    """A copy of a model as an origin, in the folder of a run that is being made."""
    writer.write_model(run / COPY, dataclasses.replace(model, kinds={}))
    return Base(COPY, -1, _identity(run / COPY))


def of_run(run: Place, checkpoints: Place, step: int) -> Base:
    """A run that stands alone, at a verified step, as an origin."""
    path = run.resolve()
    return Base(str(path), step, _manifests(checkpoints / str(step)))


def check(base: Base, path: Place) -> None:
    """Refuses an origin, now at `path`, that is gone or is not what it was.

    Raises:
      InputError: what is wrong with it.
    """
    if not path.is_dir():
        raise InputError(
            f"the run rests on {path}, which is not there any more: its frozen weights are in no"
            " checkpoint, so put it back (a run with checkpoint.copy_base=True stands alone)"
        )
    found = _identity(path) if base.step < 0 else _verified(path / "checkpoints", base.step)
    wrong = [name for name in base.identity if found.get(name) != base.identity[name]]
    if wrong or len(found) != len(base.identity):
        named = ", ".join(wrong[:3] or [*found.keys() - base.identity.keys()][:3])
        raise InputError(
            f"the run rests on {path}, which has changed since the run began ({named}): put back"
            " what was there, or begin another run"
        )


def overlaid(model: LazyModel, weights: Mapping[str, LazyArray]) -> LazyModel:
    """A model with other weights in place of its own.

    Args:
      model: the model.
      weights: tensors by Hugging Face's names, or rows of a table by their leaf's.
    """
    tensors: dict[str, LazyArray] = dict(model.tensors)
    for name, array in weights.items():
        own = leaf(name)
        whole = tensors[own.parameter]
        if own.rows is None:
            tensors[name] = array
            continue
        start, stop = own.rows[0], own.rows[-1] + 1
        around = (whole.rows(0, start), array, whole.rows(stop, whole.shape[0]))
        tensors[own.parameter] = Concatenated(tuple(part for part in around if part.shape[0]))
    return dataclasses.replace(model, tensors=tensors)


def kept(folder: Place) -> dict[str, LazyArray]:
    """The weights in a folder that `Base.keep` has written."""
    return dict(read_header(folder / "model.safetensors"))


def trained(leaves: Mapping[str, Any], part: Any) -> dict[str, LazyArray]:
    """Leaves of a checkpoint as `overlaid` takes them.

    Args:
      leaves: leaf names to stored arrays.
      part: (array, row of axis 0 or None) -> LazyArray.
    """
    found: dict[str, LazyArray] = {}
    for name, array in leaves.items():
        own = leaf(name)
        if not own.parameter.startswith(names.LAYERS):
            found[name] = part(array, None)
            continue
        for row, layer in enumerate(own.taken(array.shape)):
            found[names.unstacked(own.parameter, layer)] = part(array, row)
    return found


def _identity(folder: Place) -> dict[str, Any]:
    """Sizes and checksums of what makes a folder the model that it is.

    Of large weight files it is the header and samples of the content that are looked at.
    """
    weights: list[Place] = [
        folder / CONFIG,
        folder / INDEX,
        *storage.found(folder, "*.safetensors"),
    ]
    files: dict[str, Place | bytes] = {file.name: file for file in weights if file.is_file()}
    return {name: _seen(file) for name, file in sorted((files | companions(folder)).items())}


def _seen(file: Place | bytes) -> list[Any]:
    """Size and checksum of a file or its content."""
    if isinstance(file, bytes):
        return [len(file), hashlib.sha256(file).hexdigest()]
    size = file.stat().st_size
    if file.suffix != ".safetensors" or size < SAMPLES * SAMPLE:
        return [size, storage.sha256(file)]
    (length,) = storage.read_ranges(file, [0], [8])
    header = 8 + struct.unpack("<Q", length)[0]
    starts = [header + (size - header - SAMPLE) * i // (SAMPLES - 1) for i in range(SAMPLES)]
    stops = [header, *(start + SAMPLE for start in starts)]
    digest = hashlib.sha256()
    for content in storage.read_ranges(file, [0, *starts], stops):
        digest.update(content)
    return [size, digest.hexdigest()]


def _verified(checkpoints: Place, step: int) -> dict[str, Any]:
    folder = checkpoints / str(step)
    if not folder.is_dir() or manifest.problem(folder):
        return {}
    return _manifests(folder)


def _manifests(step_folder: Place) -> dict[str, Any]:
    files: dict[str, Any] = {}
    for file in storage.found(step_folder, "manifest-*.json"):
        files |= json.loads(file.read_text())
    return files
