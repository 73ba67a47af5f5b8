"""Width: fewer layers, groups of heads, FFN channels and residual channels, by index.

Nothing is computed: values move, and those of which all stay are the same bytes. Which stay is
asked for only when weights are, so that a model's shape is known without reading any.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maxlite.config import Architecture
from maxlite.hf import metadata, names
from maxlite.hf.folder import LazyModel
from maxlite.hf.lazy import Computed, FileTensor, LazyArray, Zeros, row_blocks, select, zeros
from maxlite.surgery.units import axes, counts

RUN = 16  # rows that lie together on average where whole rows are copied from file to file

Ids = Callable[[], np.ndarray]  # gives indices, ascending


@dataclass(frozen=True, eq=False)
class Kept:
    """Which units of a model stay, each ascending; None where all of a kind do.

    L layers that stay, with G groups, F FFN channels each; D residual channels.

    Attributes:
        groups: int64 [L, G].
        channels: int64 [L, F].
        residual: int64 [D].
    """

    groups: np.ndarray | None = None
    channels: np.ndarray | None = None
    residual: np.ndarray | None = None


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` largest of scores [..., N], ascending; of equals the first.

    Returns:
        int64 [..., count].
    """
    found = np.argsort(-scores, axis=-1, kind="stable")[..., :count]
    return np.sort(found, axis=-1)


def chosen(scores: Mapping[str, np.ndarray], after: Architecture, layers: Sequence[int]) -> Kept:
    """What a smaller model keeps of each kind: those with the largest scores.

    Args:
        scores: Of the model before, as in `Importance`, of each kind that shall have fewer.
        after: The shape of the smaller model.
        layers: Which layers stay.
    """
    wanted = counts(after)
    found = {
        kind: top(own if kind == "residual" else own[[*layers]], wanted[kind])
        for kind, own in scores.items()
    }
    return Kept(**found)


def narrowed(
    model: LazyModel, after: Architecture, layers: Sequence[int], kept: Callable[[], Kept]
) -> LazyModel:
    """A model of some of another's layers and units.

    Args:
        model: The model.
        after: The shape of the result.
        layers: Which layers stay, [L] ascending.
        kept: Gives which units stay of each kind that `after` has fewer of; called once, when the
            first values are read.
    """
    arch = model.architecture
    has, wanted, kept = counts(arch), counts(after), functools.cache(kept)

    def ids(axis: tuple[str, int], layer: int | None) -> Ids | None:
        kind, extent = axis
        if not kind or has[kind] == wanted[kind]:
            return None

        def indices() -> np.ndarray:
            units = getattr(kept(), kind)
            units = units if kind == "residual" else units[layer]
            return (units[:, None] * extent + np.arange(extent)).reshape(-1)

        return indices

    dtypes = model.dtypes if model.kinds else {}
    tensors: dict[str, LazyArray] = {}
    kinds: dict[str, str] = {}
    for name, shape in names.expected(after).items():
        part, layer = names.split(name)
        old = name if layer is None else names.unstacked(part, layers[layer])
        tensors[name] = taken(model.tensors[old], shape, *(ids(a, layer) for a in axes(name, arch)))
        if dtypes:
            kinds[name] = dtypes[old]
    note = dict(model.metadata)
    if [*layers] != [*range(has["layers"])]:
        note["layers"] = _composed(model, layers)
    return dataclasses.replace(
        model, architecture=after, tensors=tensors, kinds=kinds, metadata=note
    )


def _composed(model: LazyModel, layers: Sequence[int]) -> dict[str, list[Any]]:
    """What maxlite.json says of layers: those of the model as an earlier note counts them."""
    before = range(model.architecture.num_hidden_layers)
    earlier = model.metadata.get("layers", {}).get("sources")
    sources = earlier if isinstance(earlier, list) and len(earlier) == len(before) else before
    inserted = metadata.inserted(model.metadata, f"the maxlite.json of {model.path}")
    return {
        "sources": [sources[layer] for layer in layers],
        "inserted": [i for i, layer in enumerate(layers) if layer in inserted],
    }


def taken(
    source: LazyArray, shape: tuple[int, ...], rows: Ids | None, columns: Ids | None = None
) -> LazyArray:
    """Some rows and columns of an array; the array itself where all are.

    Args:
        source: The array.
        shape: Of the result.
        rows, columns: Give which; None means all.
    """
    if rows is None and columns is None:
        return source
    if isinstance(source, Zeros):
        return zeros(shape, source.dtype)
    return _Taken(shape, source.dtype, _Gather(source, shape, rows, columns))


@dataclass(frozen=True)
class _Gather:
    """Computes rows of the result from blocks of the source's."""

    source: LazyArray
    shape: tuple[int, ...]
    row_ids: Ids | None
    column_ids: Ids | None

    def __call__(self, start: int, stop: int) -> np.ndarray:
        found = np.empty((stop - start, *self.shape[1:]), self.source.dtype)
        if not found.size:
            return found
        ids = np.arange(start, stop) if self.row_ids is None else self.row_ids()[start:stop]
        columns = None if self.column_ids is None else self.column_ids()
        first, last = int(ids[0]), int(ids[-1]) + 1
        for a, b in row_blocks((last - first, *self.source.shape[1:])):
            here = slice(*np.searchsorted(ids, (first + a, first + b)))
            if here.start == here.stop:
                continue
            # numpy moves integers faster than bfloat16, and `take` 20 times as fast as an index
            values = _integers(self.source.read(slice(first + a, first + b)))
            if self.row_ids is not None:
                values = np.take(values, ids[here] - (first + a), axis=0)
            if columns is not None:
                values = np.take(values, columns, axis=1)
            _integers(found)[here] = values
        return found


@dataclass(frozen=True)
class _Taken(Computed):
    """What a `_Gather` computes, or copies from file to file where rows that stay lie together."""

    compute: _Gather

    def pieces(self) -> Iterator[FileTensor | np.ndarray]:
        gather = self.compute
        if gather.row_ids is not None and gather.column_ids is None:
            ids = gather.row_ids()
            if RUN * (1 + np.count_nonzero(np.diff(ids) != 1)) <= len(ids):
                yield from select(gather.source, ids).pieces()
                return
        yield from super().pieces()


def _integers(values: np.ndarray) -> np.ndarray:
    """The same bytes as unsigned integers."""
    return values.view(f"u{values.dtype.itemsize}")
