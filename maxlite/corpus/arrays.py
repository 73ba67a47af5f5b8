"""Arrays in a folder, one a number, that are written bit by bit and mapped when they are read."""

import json
import os
from pathlib import Path
from types import TracebackType

import numpy as np


class Appended:
    """Writes an array [R, ...] whose rows come in pieces; it is there once the `with` is left.

    Args:
      folder: made if it is not there.
      number: of the array.
      like: has its type and its shape apart from R.
    """

    def __init__(self, folder: Path, number: int, like: np.ndarray):
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{number:05d}"
        self._like, self._rows = like, 0
        self._file = self._path.with_suffix(".bin.tmp").open("wb", 1 << 20)

    def append(self, rows: np.ndarray) -> None:
        """Adds rows [N, ...], of the type and shape of `like`, behind those that are there."""
        assert rows.dtype == self._like.dtype and rows.shape[1:] == self._like.shape[1:]
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)

    def __enter__(self) -> "Appended":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()
        temporary = Path(self._file.name)
        if kind is not None:
            temporary.unlink(missing_ok=True)
            return
        os.replace(temporary, self._path.with_suffix(".bin"))
        shape = [self._rows, *self._like.shape[1:]]
        about = {"dtype": self._like.dtype.str, "shape": shape}
        # Nothing waits for the disk: a task that is not done is done again.
        self._path.with_suffix(".json").write_text(json.dumps(about))


def save(folder: Path, number: int, array: np.ndarray) -> None:
    """Writes a whole array [R, ...]."""
    with Appended(folder, number, array) as out:
        out.append(array)


def load(folder: Path, number: int) -> np.ndarray:
    """An array [R, ...] of `Appended`, mapped into memory, read-only."""
    path = folder / f"{number:05d}"
    about = json.loads(path.with_suffix(".json").read_text())
    dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
    if not np.prod(shape):
        return np.zeros(shape, dtype)
    return np.asarray(np.memmap(path.with_suffix(".bin"), dtype, "r", shape=shape))
