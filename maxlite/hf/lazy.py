"""Arrays whose values come when they are asked for: in a file, computed, or put together of others.

Nothing here holds a weight in memory: `FileTensor.read` maps the file, so its pages are the page
cache's and can be dropped at any time, `RemoteTensor.read` asks for the rows that are wanted, and
what is computed is computed a block of rows at a time.
"""

import abc
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import ml_dtypes
import numpy as np

from maxlite.errors import InputError
from maxlite.storage import Place, Url

BLOCK = 1 << 24  # bytes of float32 that are computed at once, or bytes of one request
AT_ONCE = 4  # requests
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class LazyArray(Protocol):
    """An array whose shape and dtype are known and whose values come when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole array."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """Of the values that `read` gives."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        ...

    def read(self, index: Any = ...) -> np.ndarray:
        """The values in `shape` and `dtype`, or those that slices select."""
        ...

    def rows(self, start: int, stop: int) -> "LazyArray":
        """Rows of axis 0, as lazy as the whole."""
        ...

    def pieces(self) -> Iterator["FileTensor | np.ndarray"]:
        """The rows in order, in parts: what lies in a file as it is, or a computed block."""
        ...


@dataclass(frozen=True)
class StoredTensor(abc.ABC):
    """An array that lies in a file, row-major and little-endian, from byte `offset` on."""

    path: Place
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @abc.abstractmethod
    def read(self, index: Any = ...) -> np.ndarray:
        """The values, or those that slices select."""

    def rows(self, start: int, stop: int) -> Self:
        offset = self.offset + start * math.prod(self.shape[1:]) * self.dtype.itemsize
        return type(self)(self.path, offset, (stop - start, *self.shape[1:]), self.dtype)

    @abc.abstractmethod
    def pieces(self) -> Iterator["FileTensor | np.ndarray"]:
        """The rows in order, in parts."""

    def blocks(self, nbytes: int = BLOCK) -> Iterator[np.ndarray]:
        """The tensor's bytes in order, as uint8 [N] of at most `nbytes`."""
        flat = type(self)(self.path, self.offset, (self.nbytes,), np.dtype(np.uint8))
        for start in range(0, self.nbytes, nbytes):
            yield flat.read(slice(start, start + nbytes))


@dataclass(frozen=True)
class FileTensor(StoredTensor):
    """One in a file of this machine."""

    path: Path

    def read(self, index: Any = ...) -> np.ndarray:
        """A read-only view of the mapped file (a copy only where the file is not aligned)."""
        if not self.nbytes:
            return np.empty(self.shape, self.dtype)[index]
        mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.require(mapped.view(np.ndarray)[index], requirements="A")

    def pieces(self) -> Iterator["FileTensor | np.ndarray"]:
        yield self


@dataclass(frozen=True)
class RemoteTensor(StoredTensor):
    """One in a file at an address, of which the rows that are wanted are fetched."""

    path: Url

    def read(self, index: Any = ...) -> np.ndarray:
        (start, stop, step), rest = _split(index, self.shape[0])
        part = self.rows(start, max(start, stop))
        buffer = np.empty(part.nbytes, np.uint8)
        for first in range(0, part.nbytes, AT_ONCE * BLOCK):  # or all would be in memory twice
            end = min(first + AT_ONCE * BLOCK, part.nbytes)
            starts = [part.offset + at for at in range(first, end, BLOCK)]
            stops = [*starts[1:], part.offset + end]
            data = b"".join(self.path.read_ranges(starts, stops))
            if len(data) != end - first:
                raise InputError(f"{self.path} became shorter while it was being read")
            buffer[first:end] = np.frombuffer(data, np.uint8)
        values = buffer.view(self.dtype).reshape(part.shape)
        return values[(slice(None, None, step), *rest)]

    def pieces(self) -> Iterator[FileTensor | np.ndarray]:
        for start, stop in row_blocks(self.shape, AT_ONCE * BLOCK):
            yield self.read(slice(start, stop))


@dataclass(frozen=True)
class Computed:
    """An array of which `compute(start, stop)` gives the rows [stop - start, ...] in any dtype."""

    shape: tuple[int, ...]
    dtype: np.dtype
    compute: Callable[[int, int], np.ndarray]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, index: Any = ...) -> np.ndarray:
        (start, stop, step), rest = _split(index, self.shape[0])
        values = self.compute(start, stop)
        return values[(slice(None, None, step), *rest)].astype(self.dtype, copy=False)

    def rows(self, start: int, stop: int) -> "Computed":
        return Computed(
            (stop - start, *self.shape[1:]),
            self.dtype,
            lambda first, last: self.compute(start + first, start + last),
        )

    def pieces(self) -> Iterator[FileTensor | np.ndarray]:
        for start, stop in row_blocks(self.shape):
            yield self.compute(start, stop).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class Concatenated:
    """Arrays one after the other on axis 0; of several dtypes, the widest holds for the whole."""

    parts: tuple[LazyArray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        return functools.reduce(np.promote_types, (part.dtype for part in self.parts))

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, index: Any = ...) -> np.ndarray:
        (start, stop, step), rest = _split(index, self.shape[0])
        parts = self.rows(start, stop).parts
        values = np.concatenate([part.read((slice(None), *rest)) for part in parts])
        return values[::step].astype(self.dtype, copy=False)

    def rows(self, start: int, stop: int) -> "Concatenated":
        found: list[LazyArray] = []
        for part in self.parts:
            first, last = max(start, 0), min(stop, part.shape[0])
            if first < last:
                found.append(part.rows(first, last))
            start, stop = start - part.shape[0], stop - part.shape[0]
        return Concatenated(tuple(found) or (self.parts[0].rows(0, 0),))

    def pieces(self) -> Iterator[FileTensor | np.ndarray]:
        for part in self.parts:
            yield from part.pieces()


class Zeros(Computed):
    """An array of zeros."""


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> Zeros:
    """Zeros of a shape."""
    return Zeros(shape, dtype, lambda start, stop: np.zeros((stop - start, *shape[1:]), dtype))


def scaled(source: LazyArray, factor: float) -> Computed:
    """An array times a number, multiplied in float32 and kept in its dtype."""

    def compute(start: int, stop: int) -> np.ndarray:
        return float32(source.read(slice(start, stop))) * np.float32(factor)

    return Computed(source.shape, source.dtype, compute)


def cast(source: LazyArray, dtype: np.dtype, name: str) -> LazyArray:
    """An array in another dtype; see `narrowed`."""
    if source.dtype == dtype:
        return source

    def compute(start: int, stop: int) -> np.ndarray:
        return narrowed(source.read(slice(start, stop)), dtype, name)

    return Computed(tuple(source.shape), dtype, compute)


def narrowed(values: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Values in another dtype.

    Args:
        values: Of any shape and float dtype.
        dtype: What they become.
        name: Of their tensor, for messages.

    Raises:
        InputError: a finite value does not fit.
    """
    if values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        after = float32(values) if dtype == np.float32 else values.astype(dtype)
    if not np.array_equal(np.isfinite(values), np.isfinite(after)):
        raise InputError(
            f"{name} holds values too large for {dtype}: choose bfloat16 or float32 for it"
        )
    return after


def select(source: LazyArray, ids: Sequence[int] | np.ndarray) -> Concatenated:
    """The rows `ids` [R] of an array, in that order; runs of neighbours stay one part."""
    ids = np.asarray(ids, np.int64)
    ends = [*(np.flatnonzero(np.diff(ids) != 1) + 1), len(ids)]
    starts = [0, *ends[:-1]]
    runs = [(int(ids[a]), int(ids[b - 1]) + 1) for a, b in zip(starts, ends, strict=True) if a < b]
    return Concatenated(tuple(source.rows(a, b) for a, b in runs) or (source.rows(0, 0),))


def row_blocks(shape: tuple[int, ...], nbytes: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Ranges of rows that together are all of them, each of at most `nbytes` as float32."""
    rows = max(1, nbytes // (4 * math.prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def float32(values: np.ndarray) -> np.ndarray:
    """Values of any shape as float32; for bfloat16 by a shift, four times as fast as the cast."""
    if values.dtype == BFLOAT16:
        return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32, copy=False)


def _split(index: Any, rows: int) -> tuple[tuple[int, int, int], tuple[Any, ...]]:
    """An index as (start, stop, step) over axis 0 and the rest of it."""
    first, *rest = index if isinstance(index, tuple) else (index,)
    return (slice(None) if first is ... else first).indices(rows), tuple(rest)
