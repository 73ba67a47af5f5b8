"""How much each unit of a model matters: arrays that importance computes and surgery takes.

L layers, G key-value groups of a layer (a key-value head with its query heads), F FFN channels of a
layer, D channels of the residual stream. Larger means more important; only the order within an
array, or within its row for one layer, has a meaning.
"""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import writer
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import Zeros
from maxlite.hf.signature import signature
from maxlite.hf.tensors import read_header
from maxlite.parameters import NORM

FORMAT = "1"
KINDS = ("layers", "groups", "channels", "residual")


@dataclass(frozen=True, eq=False)
class Importance:
    """Scores of one model by one criterion; what the criterion says nothing of is None.

    Attributes:
        criterion: Its name.
        signature: Of the model, by `maxlite.hf.signature`.
        text: What it was measured on; empty where no text was needed.
        layers: float32 [L].
        groups: float32 [L, G].
        channels: float32 [L, F].
        residual: float32 [D].
    """

    criterion: str
    signature: str
    text: str = ""
    layers: np.ndarray | None = None
    groups: np.ndarray | None = None
    channels: np.ndarray | None = None
    residual: np.ndarray | None = None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What there is, by name, in the shapes above."""
        found = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: array for kind, array in found.items() if array is not None}

    def without(self, kinds: Collection[str]) -> "Importance":
        """The same without the scores of some kinds of units."""
        absent: dict[str, Any] = dict.fromkeys(self.arrays.keys() & {*kinds})
        return dataclasses.replace(self, **absent)

    def write(self, path: str | Path) -> None:
        """Writes one safetensors file, whole or not at all; what is there is replaced.

        Raises:
            InputError: an array is not what it should be.
            OSError: the file cannot be written.
        """
        _check(self.arrays, str(path))
        said = {"criterion": self.criterion, "signature": self.signature, "text": self.text}
        writer.write_file(Path(path), self.arrays, {"format": FORMAT, **said})

    def check_fits(self, model: LazyModel, where: str) -> None:
        """Refuses scores of another model.

        Args:
            model: What they shall be used for; if only its shape is known, only that is compared.
            where: Their file, for messages.

        Raises:
            InputError: their shapes or their signature are another model's.
        """
        wanted = shapes(model.architecture)
        for kind, array in self.arrays.items():
            if array.shape != wanted[kind]:
                raise InputError(
                    f"{where} has {kind} scores of shape {list(array.shape)}, but {model.path} has"
                    f" {list(wanted[kind])}: they are of another model, measure this one"
                )
        if not _hollow(model) and self.signature != signature(model.tensors):
            raise InputError(
                f"{where} holds scores of a model with other weights than {model.path}: measure"
                " this one, or give the model that was measured"
            )


def shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of each array of scores, and of a gate for each score, by kind."""
    depth = arch.num_hidden_layers
    return {
        "layers": (depth,),
        "groups": (depth, arch.num_key_value_heads),
        "channels": (depth, arch.intermediate_size),
        "residual": (arch.hidden_size,),
    }


def read(path: str | Path) -> Importance:
    """The scores in a file that `Importance.write` has written.

    Raises:
        InputError: there is none, or it is damaged or something else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"there is no file of scores {path}")
    tensors = read_header(path)
    try:
        with safe_open(path, framework="numpy") as file:
            said: dict[str, Any] = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} has a damaged header ({error}): write it again") from error
    if not {"criterion", "signature"} <= said.keys() or not tensors.keys() <= {*KINDS}:
        raise InputError(f"{path} holds no scores of a model, but something else")
    if said.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {said.get('format')!r} where this maxlite reads {FORMAT!r}: use a"
            " newer one"
        )
    arrays = {name: np.array(tensor.read()) for name, tensor in tensors.items()}
    _check(arrays, str(path))
    return Importance(said["criterion"], said["signature"], said.get("text", ""), **arrays)


def _hollow(model: LazyModel) -> bool:
    """Whether zeros stand for the weights; no change to a model makes norms zero."""
    return isinstance(model.tensors[NORM], Zeros)


def _check(arrays: dict[str, np.ndarray], where: str) -> None:
    if not arrays:
        raise InputError(f"{where} would hold no scores at all")
    depths = {array.shape[0] for kind, array in arrays.items() if kind != "residual" and array.ndim}
    for kind, array in arrays.items():
        if array.dtype != np.float32 or array.ndim != (2 if kind in ("groups", "channels") else 1):
            raise InputError(
                f"{where} has {kind} as {array.dtype} {list(array.shape)}, which no scores are"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{where} has {kind} scores that are NaN or infinite: measure again")
    if len(depths) > 1:
        raise InputError(f"{where} has scores of {' and '.join(map(str, sorted(depths)))} layers")
