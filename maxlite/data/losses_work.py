"""Losses while they are computed: chunks of sequences in a folder, whole or not there.

OUT.work becomes OUT when all chunks are in it. Which chunks there are depends on the number of
sequences alone, so that neither a stop nor the number of parts is seen in the outcome.
"""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs
from maxlite.data.losses import ARRAYS, FILE, FORMAT, Scored, content
from maxlite.data.making import locked
from maxlite.data.shards import whole
from maxlite.errors import InputError

_WORK = "work.json"
_CHUNK, _MOST = 64, 1024  # sequences in a chunk, and chunks, unless there are very many


@dataclass(frozen=True)
class Work:
    """Losses that are being computed, in chunks.

    Processes may come and go at any time. All of them see the same folder.

    Attributes:
      out: the folder of losses that it becomes.
      of: what they are of.
      model: where the model is, for people.
    """

    out: Path
    of: Scored
    model: str

    @property
    def folder(self) -> Path:
        """Where the chunks are: OUT.work."""
        return self.out.with_name(f"{self.out.name}.work")

    @cached_property
    def size(self) -> int:
        """Sequences in a chunk; the last may have fewer."""
        return _CHUNK * max(1, -(-self.of.sequences // (_CHUNK * _MOST)))

    @property
    def count(self) -> int:
        """How many chunks there are."""
        return -(-self.of.sequences // self.size)

    def span(self, chunk: int) -> tuple[int, int]:
        """The first sequence of a chunk, and the first after it."""
        return chunk * self.size, min((chunk + 1) * self.size, self.of.sequences)

    def is_made(self) -> bool:
        """Whether these very losses are there already."""
        try:
            return not self.of.other(json.loads((self.out / FILE).read_bytes())["of"])
        except (OSError, KeyError, TypeError, ValueError):
            return False

    def check(self) -> None:
        """Refuses a folder that holds something else, or work on other losses.

        Raises:
          InputError: it does.
        """
        advice = f"remove it, choose another --out, or begin anew with --overwrite: {self.folder}"
        if not self.folder.exists():
            return
        try:
            said = json.loads((self.folder / _WORK).read_bytes())["of"]
            other = self.of.other(said)
        except (AttributeError, OSError, KeyError, TypeError, ValueError):
            raise InputError(f"what is there is no work to go on with; {advice}") from None
        if other:
            raise InputError(f"the work there was begun with another {other}; {advice}")

    def begin(self, anew: bool = False) -> None:
        """Makes the folder, or goes on in it; `anew` removes what else is there.

        Raises:
          InputError: as `check`.
        """
        with self.alone():
            try:
                self.check()
            except InputError:
                if not anew:
                    raise
                shutil.rmtree(self.folder)
            if not self.folder.exists():
                with outputs.new_folder(self.folder) as folder:
                    said = {"of": dataclasses.asdict(self.of), "model": self.model}
                    (folder / _WORK).write_text(json.dumps(said))

    def todo(self, part: int = -1, parts: int = 1) -> np.ndarray:
        """The chunks of one of several equal parts that are missing; -1: of all; int64 [C]."""
        first, stop = (0, self.count) if part < 0 else _bounds(part, parts, self.count)
        return np.array([c for c in range(first, stop) if not self._file(c).is_file()], np.int64)

    def missing(self) -> str:
        """Which sequences are missing, for people."""
        chunks = self.todo().tolist()
        spans = [self.span(c) for c in chunks]
        said = ", ".join(f"{a:,}-{b - 1:,}" for a, b in spans[:3])
        total = sum(b - a for a, b in spans)
        some = f" ({said}{' and others' if len(spans) > 3 else ''})" if spans else ""
        return f"{total:,} of {self.of.sequences:,} sequences are missing{some}"

    def write(self, chunk: int, values: np.ndarray) -> None:
        """Writes a chunk: float32 [2, its sequences], sums and weights."""
        with whole(self._file(chunk)) as file:
            np.save(file, np.ascontiguousarray(values, "<f4"))

    def join(self, overwrite: bool = False) -> bool:
        """Makes the folder of losses if all chunks are there.

        Args:
          overwrite: replace what is there already.

        Returns:
          Whether the losses are there now.

        Raises:
          InputError: something else is there.
        """
        with self.alone():
            if self.folder.exists() or not self.is_made():
                if len(self.todo()):
                    return False
                if self.out.exists() and not overwrite:
                    raise InputError(f"{self.out} exists; choose another --out, or --overwrite it")
                self._join(overwrite)
        self._lock.unlink(missing_ok=True)
        return True

    def _join(self, replace: bool) -> None:
        arrays = np.concatenate([np.load(self._file(c)) for c in range(self.count)], axis=1)
        said = {"format": FORMAT, "of": dataclasses.asdict(self.of), "model": self.model}
        said["content"] = content(arrays)
        with outputs.new_folder(self.out, replace=replace) as folder:
            for name, array in zip(ARRAYS, arrays, strict=True):
                np.save(folder / f"{name}.npy", array)
            outputs.write_text(folder / FILE, json.dumps(said, indent=2, ensure_ascii=False))
        shutil.rmtree(self.folder)

    def alone(self) -> Any:
        """A block that one process at a time enters."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        return locked(self._lock)

    @property
    def _lock(self) -> Path:
        return self.out.with_name(f"{self.out.name}.lock")

    def _file(self, chunk: int) -> Path:
        return self.folder / f"chunk-{chunk:05d}.npy"


def _bounds(part: int, parts: int, count: int) -> tuple[int, int]:
    return count * part // parts, count * (part + 1) // parts
