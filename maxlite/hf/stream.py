"""A weight file being written: each tensor once, in order, and safe on the disk when it closes.

Stored bytes that stay as they are go from file to file inside the kernel, neighbours in one run.
Everything else passes through memory a block of rows at a time.
"""

import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from maxlite.errors import InputError
from maxlite.hf.lazy import FileTensor, LazyArray, narrowed, row_blocks
from maxlite.outputs import FULL

STEP = 1 << 26  # bytes copied by one call, and after which the disk is told to begin


class Stream:
    """A new file; `with` waits until the disk has it.

    Args:
        path: The file to make.
        wrote: Called with each number of bytes written.
    """

    def __init__(self, path: Path, wrote: Callable[[int], None]):
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115, `__exit__` closes it
        self._wrote = wrote
        self._run: tuple[Path, int, int] | None = None  # stored bytes that are still to be copied
        self._end = self._flushed = 0
        self._flusher = ThreadPoolExecutor(1)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._copy_run()
                self._flusher.submit(os.fsync, self._file.fileno()).result()
        finally:
            self._flusher.shutdown()
            self._file.close()

    def write(self, data: bytes | memoryview) -> None:
        """Appends bytes."""
        self._copy_run()
        rest = memoryview(data)
        while rest:
            count = self._file.write(rest) or 0
            self._count(count)
            rest = rest[count:]

    def append(self, name: str, source: np.ndarray | LazyArray, dtype: np.dtype) -> None:
        """Appends an array of any shape in a dtype; `name` is for messages.

        Raises:
            InputError: a value does not fit the dtype, or a source file became shorter.
        """
        pieces = source.pieces() if hasattr(source, "pieces") else iter([np.asarray(source)])
        for piece in pieces:
            if not isinstance(piece, FileTensor):
                self._append_block(name, piece, dtype)
            elif piece.dtype != dtype:
                for rows in row_blocks(piece.shape):
                    self._append_block(name, piece.read(slice(*rows)), dtype)
            elif self._run and self._run[::2] == (piece.path, piece.offset):
                self._run = (piece.path, self._run[1], piece.offset + piece.nbytes)
            else:
                self._copy_run()
                self._run = (piece.path, piece.offset, piece.offset + piece.nbytes)

    def _append_block(self, name: str, block: np.ndarray, dtype: np.dtype) -> None:
        # 0-d and non-contiguous arrays have no flat buffer of their own
        flat = np.ascontiguousarray(narrowed(block, dtype, name)).reshape(-1)
        self.write(flat.view(np.uint8).data)

    def _copy_run(self) -> None:
        if self._run is None:
            return
        (path, start, end), self._run = self._run, None
        with open(path, "rb") as source:
            if hasattr(os, "posix_fadvise"):  # reads ahead further, a quarter faster from the disk
                os.posix_fadvise(source.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            while start < end:
                size = min(end - start, STEP)
                try:
                    count = os.sendfile(self._file.fileno(), source.fileno(), start, size)
                except (AttributeError, OSError) as error:
                    if getattr(error, "errno", None) in (*FULL, errno.EIO):
                        raise
                    # not Linux, or a file system without it
                    source.seek(start)
                    count = self._file.write(source.read(size)) or 0
                if not count:
                    raise InputError(f"{path} became shorter while it was being read")
                start += count
                self._count(count)

    def _count(self, count: int) -> None:
        """Lets the disk begin with what was written, so that fsync has little to wait for.

        On Linux, saying that pages will not be needed starts their writeback without waiting for
        it. From a thread, all takes about as long as a copy that never reaches the disk.
        """
        self._end += count
        if self._end - self._flushed >= STEP and hasattr(os, "posix_fadvise"):
            range_ = (self._flushed, self._end - self._flushed)
            self._flusher.submit(
                os.posix_fadvise, self._file.fileno(), *range_, os.POSIX_FADV_DONTNEED
            )
            self._flushed = self._end
        self._wrote(count)
