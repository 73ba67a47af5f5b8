"""A token cache made of text files, in as many processes and on as many machines as there are.

Which part of the text is which shard follows from the files' sizes alone, so whoever makes a shard
makes the same, and what was made before an interruption can be kept. What is under way is in a
folder of its own: work.json says what is made of what, and each shard leaves its files there
(`maxlite.data.shards`). Once all are there they are joined: what is known of documents becomes
columns, and the folder gets its name.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs
from maxlite.console import say
from maxlite.data.chat import ChatPart
from maxlite.data.parts import TextPart, text_parts
from maxlite.data.shards import FIGURES, Shard, dtype_for, whole, write_shard
from maxlite.data.sources import META
from maxlite.data.tokens import COLUMNS, FORMAT
from maxlite.errors import InputError
from maxlite.storage import Place, Url
from maxlite.tokenizer import Tokenizer
from maxlite.tokenizer.workers import each

_WORK, _KIND = "work.json", "token cache under way"
_CONTENT = 1  # of what a cache's content is a hash of: a change of it is another order
# Bytes of a shard: enough of them for processes to share, few for terabytes, and none so small that
# a process of its own (a quarter of a second, in which 3 MB are tokenised) would not be worth it.
_SMALLEST, _LARGEST, _WANTED = 32 * 10**6, 256 * 10**6, 64
_WAITING = "waiting for another process that begins or ends the same work"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Making:
    """A token cache that is made of text files.

    Attributes:
      files: in their order.
      stamps: of the files (`stamps`) before anything else was known of them.
      tokenizer: encodes the documents.
      folder: what is under way.
      txt, text_field: as for `sources.documents`.
      shard_bytes: of text, or of packed text; 0: by the size of the text.
      what: the name of the text, for messages.
      template: the chat template, if these are conversations; `txt` then says nothing.
    """

    files: Sequence[Place]
    stamps: list[list[Any]]
    tokenizer: Tokenizer
    folder: Path
    text_field: str = "text"
    txt: str = "line"
    shard_bytes: int = 0
    what: str = "the text"
    template: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(stamp[0] for stamp in self.stamps)

    @cached_property
    def shards(self) -> list[Shard]:
        """The shards: files, parts of long ones, or several short ones."""
        size = self.shard_bytes or min(_LARGEST, max(_SMALLEST, self.size // _WANTED))
        groups: list[list[TextPart | ChatPart]] = []
        held = size
        for part in self._parts(size):
            if held + part.size > size:
                groups.append([])
                held = 0
            groups[-1].append(part)
            held += part.size
        shards = enumerate(groups)
        return [Shard(i, tuple(parts), self.folder, self.template) for i, parts in shards]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that the outcome depends on, by the flags that say it."""
        files = [[str(f), *stamp] for f, stamp in zip(self.files, self.stamps, strict=True)]
        return {
            "tokenizer": self.tokenizer.fingerprint,
            "text": files,
            "field": self.text_field,
            "txt": self.txt,
            "shard_mb": self.shard_bytes / 10**6,
            **({"template": self.template} if self.template else {}),
        }

    @property
    def made_of(self) -> str:
        """A hash (hex) of the settings."""
        return hashlib.sha256(json.dumps([FORMAT, self.settings]).encode()).hexdigest()

    def begun(self, anew: bool = False) -> bool:
        """Whether the folder holds a part of this very work.

        Args:
          anew: what was begun with other settings may be there, since it is to be removed.

        Raises:
          InputError: it holds something else, or what was begun with other settings.
        """
        if not os.path.lexists(self.folder):
            return False
        other = self._other()
        if other and not anew:
            raise InputError(f"{self.folder} {other}, or begin anew with --overwrite")
        return not other

    def begin(self, anew: bool = False) -> None:
        """Makes the folder, or goes on in it; see `begun`."""
        if self.begun(anew):
            return
        if os.path.lexists(self.folder):
            shutil.rmtree(self.folder)
        self.folder.mkdir(parents=True)
        text = json.dumps({"kind": _KIND, "format": FORMAT, "settings": self.settings})
        with whole(self.folder / _WORK) as file:
            file.write(text.encode())

    def todo(self, process: int = 0, processes: int = 1) -> list[Shard]:
        """The shards of one of several processes that are not there yet."""
        return [s for s in self.shards[process::processes] if s.figures() is None]

    def is_made(self, out: Path) -> bool:
        """Whether a folder holds the very cache that this would make."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return json.loads((out / META).read_bytes())["made_of"] == self.made_of
        return False

    def write(
        self,
        shards: Sequence[Shard],
        workers: int = 0,
        progress: Progress | None = None,
        advice: str = "give a lower --workers",
    ) -> None:
        """Tokenises shards, see `workers.each`."""
        with contextlib.closing(
            each(write_shard, self.tokenizer, shards, workers, progress, advice)
        ) as done:
            for _ in done:
                pass

    def join(self, out: Path) -> bool:
        """Gives the folder its name, once all shards are in it; False if they are not.

        Only one process may do it at a time. If it is interrupted, it can be done again.

        Raises:
          InputError: there is no text, or it has changed since the work began.
        """
        if not (self.folder / META).is_file():
            figures = [shard.figures() for shard in self.shards]
            if None in figures:
                return False
            self._join([f for f in figures if f is not None])
        for file in self.folder.iterdir():
            if file.name.startswith(("work.", "documents-", "done-")) or ".tmp-" in file.name:
                file.unlink()
        outputs.put_in_place(self.folder, out, replace=True)
        return True

    def _parts(self, size: int) -> Sequence[TextPart | ChatPart]:
        """Parts of text of about so many bytes, or the files of conversations."""
        if not self.template:
            return text_parts(self.files, self.text_field, self.txt, size=size)
        sizes = [stamp[0] for stamp in self.stamps]
        return [ChatPart(*of, self.text_field) for of in zip(self.files, sizes, strict=True)]

    def _join(self, figures: list[dict[str, int]]) -> None:
        total = {key: sum(one[key] for one in figures) for key in FIGURES}
        if not total["documents"]:
            raise InputError(f"{self.what} holds no documents: there is no text in it")
        if not total["tokens"]:
            raise InputError(f"{self.what} holds no tokens: {self.tokenizer.path} drops all of it")
        if stamps(self.files) != self.stamps:
            raise InputError(f"{self.what} changed while it was read; start again")
        content = hashlib.sha256(json.dumps([_CONTENT, self.tokenizer.fingerprint]).encode())
        with contextlib.ExitStack() as stack:
            names = [self.folder / f"{name}.bin" for name in COLUMNS]
            offsets, *columns = (stack.enter_context(whole(name)) for name in names)
            offsets.write(bytes(8))
            end = 0
            for shard in self.shards:
                about = np.fromfile(shard.file("documents"), "<u8").reshape(-1, 4)
                offsets.write((end + np.cumsum(about[:, 0], dtype="<u8")).tobytes())
                end += int(about[:, 0].sum())
                for out, column in zip(columns, about.T[1:], strict=True):
                    out.write(column.tobytes())
                content.update(about[:, 3].tobytes())
        if self.template:  # the same conversations are other tokens under another one
            for what in ("tokens", "learnt"):
                for shard in self.shards:
                    content.update(shard.file(what).read_bytes())
            total["left_out"] = sum(one["left_out"] for one in figures)
        meta = {
            "format": FORMAT,
            "content": content.hexdigest(),
            "tokenizer": self.tokenizer.fingerprint,
            "made_by": str(self.tokenizer.path),
            "made_of": self.made_of,
            **total,
            "rows": max(one["rows"] for one in figures),
            "dtype": dtype_for(self.tokenizer),
            "shards": [one["tokens"] for one in figures],
            "files": [str(file) for file in self.files],
        }
        with whole(self.folder / META) as file:
            file.write(json.dumps(meta, indent=1).encode())

    def _other(self) -> str:
        """Why what is in the folder can't be gone on with; "" if it can."""
        advice = "remove it, or choose another --out"
        if self.is_made(self.folder):
            return ""  # interrupted while it was joined
        try:
            value = json.loads((self.folder / _WORK).read_bytes())
            known = value["kind"] == _KIND and value["format"] == FORMAT
            settings = dict(value["settings"])
        except (OSError, ValueError, KeyError, TypeError):
            known, settings = False, {}
        if not known:
            return f"holds no work that can be gone on with: {advice}"
        other = [f"--{key}" for key, own in self.settings.items() if settings.get(key) != own]
        if not other:
            return ""
        return (
            f"holds work that was begun with another {', '.join(other)} (or its files have "
            f"changed): go on with the same, {advice}"
        )


def make(
    making: Making,
    out: Path,
    process: int = 0,
    processes: int = 1,
    workers: int = 0,
    anew: bool = False,
    progress: Progress | None = None,
) -> bool:
    """Makes this process's share of the shards, and the cache if all others are there, too.

    Args:
      making: what to make; its folder is on a file system that all processes share.
      out: the folder that it becomes.
      process, processes: which of how many this is; each has every `processes`th shard. They may
        come and go at any time, and their number may change.
      workers: at most so many processes on this machine; 0 for as many as there are cores.
      anew: remove what was begun with other settings, and replace what is at `out`.
      progress: called with (bytes done, bytes in all).

    Returns:
      Whether `out` is there now; others have to finish if not.

    Raises:
      InputError: the text can't be read, encoded, or has changed, or other work is in the way.
    """
    lock = out.with_name(f"{out.name}.lock")

    def give_up() -> None:
        shutil.rmtree(making.folder, ignore_errors=True)
        lock.unlink(missing_ok=True)

    there = False
    with locked(lock, _WAITING):
        if processes > 1 and making.is_made(out):
            there = True
        else:
            making.begin(anew)
    if not there:
        try:
            kept, number = len(making.shards) - len(making.todo()), len(making.shards)
            say(
                f"{kept} of {number} shards are in {making.folder} already", bool(progress and kept)
            )
            making.write(making.todo(process, processes), workers, progress)
        except InputError:
            if processes == 1 and len(making.todo()) == len(making.shards):
                give_up()  # nothing was made that could be gone on with
            raise
        with locked(lock, _WAITING):
            try:
                there = (processes > 1 and making.is_made(out)) or making.join(out)
            except InputError:  # all shards are there, and of no use
                give_up()
                raise
    if there:
        lock.unlink(missing_ok=True)  # who still waits for it finds all done
    return there


@contextlib.contextmanager
def locked(path: Path, waiting: str = "") -> Iterator[None]:
    """Lets one process at a time in; `waiting` is said to people if another is there."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(waiting, bool(waiting))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def stamps(files: Iterable[Place]) -> list[list[Any]]:
    """Size and time of each file, or at an address what else says that it is the same."""

    def stamp(file: Place) -> list[Any]:
        if isinstance(file, Url):
            return [file.stat().st_size, file.stamp()]
        stat = file.stat()
        return [stat.st_size, stat.st_mtime_ns]

    return [stamp(file) for file in files]
