"""Scores that need no text: of the weights alone, by chance, or by place.

What is of the weights is summed over all matrices that a unit is a part of, each streamed once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import float32, row_blocks
from maxlite.hf.signature import signature
from maxlite.surgery.scores import KINDS, Importance, shapes
from maxlite.surgery.units import axes

CRITERIA = {
    "random": "by chance",
    "first": "the first ones",
    "l1": "sum of |w|",
    "l2": "sum of w²",
}
SMALL = 1 << 21  # bytes of float32 rows that stay in a processor's cache

Progress = Callable[[int, int], None]  # bytes read, bytes in all


def measure(
    model: LazyModel, criterion: str, seed: int = 0, progress: Progress | None = None
) -> Importance:
    """The scores of a model's layers, groups, channels and residual channels.

    Args:
        model: What to score.
        criterion: A key of `CRITERIA`; of the units of a kind, `l1` and `l2` favour those with
            large weights (RethinkTinyLM's heuristics, arXiv 2402.02791, 3.3).
        seed: Of `random`; of a layer the best k are among the best k + 1.
        progress: Called as weights are read.

    Raises:
        InputError: the criterion is another, or the weights are not finite.
    """
    if criterion not in CRITERIA:
        raise InputError(f"criterion {criterion!r} is none of {', '.join(CRITERIA)}")
    if seed < 0:
        raise InputError(f"seed {seed} is negative: give 0 or more")
    if criterion == "random":
        arrays: dict[str, Any] = {
            kind: np.random.default_rng([seed, KINDS.index(kind)]).random(shape, np.float32)
            for kind, shape in shapes(model.architecture).items()
        }
    elif criterion == "first":
        arrays = {
            kind: np.broadcast_to(-np.arange(shape[-1], dtype=np.float32), shape).copy()
            for kind, shape in shapes(model.architecture).items()
        }
    else:
        arrays = _sums(model, np.abs if criterion == "l1" else np.square, progress)
    return Importance(criterion, signature(model.tensors), **arrays)


def _sums(
    model: LazyModel, size: Callable[[np.ndarray], np.ndarray], progress: Progress | None
) -> dict[str, np.ndarray]:
    """The sum of `size` over all matrices a unit is a part of, by kind."""
    sums = {kind: np.zeros(shape, np.float64) for kind, shape in shapes(model.architecture).items()}
    done, total = 0, sum(tensor.nbytes for tensor in model.tensors.values())
    for name, tensor in model.tensors.items():
        layer = names.split(name)[1]
        along = axes(name, model.architecture)
        if len(along) == 2:
            rows, columns = np.empty(tensor.shape[0]), np.zeros(tensor.shape[1])
            with np.errstate(over="ignore", invalid="ignore"):
                for start, stop in row_blocks(tensor.shape, SMALL):
                    values = size(float32(tensor.read(slice(start, stop))))
                    rows[start:stop] = values.sum(axis=1)
                    columns += values.sum(axis=0)
            if not np.isfinite(columns).all():
                raise InputError(
                    f"{name} in {model.path} holds values that are not finite, or too large to"
                    " measure: repair the model first"
                )
            for (kind, extent), found in zip(along, (rows, columns), strict=True):
                if kind:
                    own = sums[kind] if kind == "residual" else sums[kind][layer]
                    own += found.reshape(-1, extent).sum(axis=1)
            if layer is not None:
                sums["layers"][layer] += rows.sum()
        done += tensor.nbytes
        if progress:
            progress(done, total)
    return {kind: found.astype(np.float32) for kind, found in sums.items()}
