"""A part of a text tokenised into a file of ids: what one process makes, beside others.

A shard that is written has three files in the folder of what is under way:

    tokens-00000.bin      as `maxlite.data.tokens` describes it
    documents-00000.bin   uint64 [N, 4]: of each document its tokens, bytes, characters and hash
    learnt-00000.bin      of conversations
    done-00000.json       its figures; written last, so a shard that has one is whole
"""

import contextlib
import hashlib
import json
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np

from maxlite import outputs
from maxlite.data.chat import ChatPart
from maxlite.data.chat_tokens import ChatEncoder, Encoded
from maxlite.data.parts import TextPart
from maxlite.data.tokens import shard_name
from maxlite.tokenizer import Tokenizer
from maxlite.tokenizer.batching import batches
from maxlite.tokenizer.workers import Advance, cores, exactly, one_thread

T = TypeVar("T")
U = TypeVar("U")

FIGURES = ("documents", "tokens", "bytes", "chars")


@dataclass(frozen=True)
class Shard:
    """A part of a text that becomes one file of ids.

    Attributes:
      number: its place among all.
      parts: of text files, in order, or files of conversations.
      folder: where it is written.
      template: the chat template that writes conversations; "" for text.
    """

    number: int
    parts: tuple[TextPart | ChatPart, ...]
    folder: Path
    template: str = ""

    @property
    def name(self) -> str:
        """Of its first part."""
        return self.parts[0].name

    @property
    def size(self) -> int:
        """Bytes of its parts."""
        return sum(part.size for part in self.parts)

    def file(self, what: str) -> Path:
        """Its file of "tokens", "documents" or "learnt"."""
        return self.folder / (shard_name(self.number).replace("tokens", what))

    def figures(self) -> dict[str, int] | None:
        """What was written, None if it is not all there: FIGURES and rows (1 + the largest id).

        Of conversations also how many were `left_out`.
        """
        try:
            figures = json.loads(self._done.read_bytes())
            sizes = self._sizes()
        except (OSError, ValueError):
            return None
        return figures if sizes == figures.pop("sizes", None) else None

    def write(self, tokenizer: Tokenizer, advance: Advance) -> None:
        """Tokenises it, in memory that does not grow with it.

        Raises:
          InputError: the text can't be read or encoded.
        """
        for stale in self.folder.glob(f"*-{self.number:05d}.*.tmp-*"):  # of a process that died
            stale.unlink(missing_ok=True)
        dtype = dtype_for(tokenizer)
        rows, dropped, totals = 0, 0, np.zeros(4, np.int64)
        with (
            exactly(self.size, advance) as moved,
            whole(self.file("tokens")) as ids_out,
            whole(self.file("documents")) as about_out,
            whole(self.file("learnt")) if self.template else contextlib.nullcontext() as learnt_out,
        ):
            read = (one for part in self.parts for one in part.read(moved, lambda number: None))
            for about, ids, learnt, left_out in self._encoded(tokenizer, read):
                about[:, 0] = [len(one) for one in ids]
                joined = np.concatenate([np.zeros(0, np.int32), *ids])
                ids_out.write(joined.astype(dtype).tobytes())
                about_out.write(about.tobytes())
                if learnt_out:
                    learnt_out.write(b"".join(one.tobytes() for one in learnt))
                rows = max(rows, int(joined.max(initial=-1)) + 1)
                totals += len(ids), *about[:, :3].sum(0, np.int64)
                dropped += left_out
        figures = dict(zip(FIGURES, totals.tolist(), strict=True)) | {"rows": rows}
        if self.template:
            figures["left_out"] = dropped
        with whole(self._done) as file:
            file.write(json.dumps(figures | {"sizes": self._sizes()}).encode())

    def _encoded(self, tokenizer: Tokenizer, read: Iterable[Any]) -> Iterator[Encoded]:
        """Texts or conversations as documents, a batch at a time."""

        def encoded(texts: list[str]) -> Encoded:
            return Encoded(_measure(texts), tokenizer.encode(texts), [], 0)

        if self.template:  # in one thread: transformers' tokenizers can't be shared
            yield from map(ChatEncoder(tokenizer, self.template), batches(read))
        else:
            yield from _ahead(encoded, batches(read))

    def _sizes(self) -> dict[str, int]:
        names = ("tokens", "documents", *(["learnt"] if self.template else []))
        return {name: self.file(name).stat().st_size for name in names}

    @property
    def _done(self) -> Path:
        return self.folder / f"done-{self.number:05d}.json"


def write_shard(tokenizer: Tokenizer, shard: Shard, advance: Advance) -> None:
    """`Shard.write`, for `workers.each`."""
    shard.write(tokenizer, advance)


def dtype_for(tokenizer: Tokenizer) -> str:
    """How wide its ids are stored."""
    return "<u2" if tokenizer.rows <= 1 << 16 else "<u4"


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A file that has its name only once all of it is on the disk."""
    own = f".tmp-{uuid.uuid4().hex}"  # where locks don't reach, two may write the same shard
    with outputs.new_file(path, own) as temporary, temporary.open("wb", 1 << 20) as file:
        yield file


def _ahead(function: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Like map, with some calls under way in threads while the caller works on a result.

    Where encoders are to use one thread, so does this.
    """
    if one_thread():
        yield from map(function, items)
        return
    threads = min(8, cores())
    pending: deque[Future[U]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _measure(texts: list[str]) -> np.ndarray:
    """Of each text 0, bytes, characters and hash; uint64 [N, 4]."""
    raw = [text.encode("utf-8") for text in texts]
    hashes = b"".join([hashlib.blake2b(data, digest_size=8).digest() for data in raw])
    about = np.zeros((len(texts), 4), "<u8")
    about[:, 1] = [len(data) for data in raw]
    about[:, 2] = [len(text) for text in texts]
    about[:, 3] = np.frombuffer(hashes, "<u8")
    return about
