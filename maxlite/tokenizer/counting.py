"""Counting how often each id of a tokenizer occurs in a corpus of any size.

A few megabytes are counted in this process, with the encoder's own threads. More is divided among
processes, each with one thread: what Python does with each text would hold the encoder's threads
up, by a quarter on two cores with SentencePiece and by more on many.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

import numpy as np

from maxlite.console import sentence
from maxlite.errors import InputError
from maxlite.tokenizer.counts import Counts, FileCounts
from maxlite.tokenizer.tokenizer import Tokenizer, load_tokenizer

_BATCH_CHARS = 1 << 18  # encoded at a time; tokens take 100 bytes each then
_BATCH_DOCUMENTS = 8192
_PROCESS_BYTES = 1 << 22  # of a corpus: for less, one more process is not worth its start


@dataclass(frozen=True)
class Ids:
    """Documents that are tokenised already.

    Attributes:
      ids: whole numbers [T], of all of them.
      documents: how many.
      characters, bytes: of their text; None if that is not known.
    """

    ids: np.ndarray
    documents: int
    characters: int | None = None
    bytes: int | None = None


class Part(Protocol):
    """A share of a corpus that one process reads; it goes there by pickle.

    Attributes:
      name: what it is a part of, such as a file: the figures are told by name.
      size: its bytes, for the progress.
    """

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    def read(
        self, advance: Callable[[int], None], skipped: Callable[[int], None]
    ) -> Iterator[str] | Iterator[Ids]:
        """Gives the documents.

        Args:
          advance: called now and then with the bytes read since the last call.
          skipped: called with the number of documents that were left out.
        """


def count(
    tokenizer: Tokenizer,
    parts: Iterable[Part],
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Counts:
    """Counts a corpus; memory grows neither with it nor, much, with the tokenizer.

    The result does not depend on `workers`. Programs that call this need the usual guard
    `if __name__ == "__main__"`, since processes are spawned.

    Args:
      tokenizer: encodes the text, without BOS and EOS.
      parts: of the corpus.
      workers: at most so many processes; 0 for as many as there are cores. 1 also keeps the encoder
        to one thread.
      progress: called with (bytes done, bytes in all).

    Raises:
      InputError: a part can't be read or encoded, or a process has died.
    """
    parts = sorted(parts, key=lambda part: -part.size)  # a long one at the end would run alone
    workers = workers or cores()
    total = sum(part.size for part in parts)
    processes = min(workers, len(parts), total // _PROCESS_BYTES)
    done = 0

    def advance(size: int) -> None:
        nonlocal done
        done += size
        if progress:
            progress(done, total)

    with _threads(processes < workers and workers > 1):
        if processes > 1:
            results = _in_processes(tokenizer, parts, processes, advance)
        else:
            results = (count_part(tokenizer, part, advance) for part in parts)
        counts = np.zeros(tokenizer.rows, np.int64)
        files: dict[str, FileCounts] = {}
        with contextlib.closing(results):
            for found, figures in results:
                counts += found
                name = figures.name
                files[name] = files.get(name, FileCounts(name)) + figures
    return Counts(tokenizer.fingerprint, counts, tuple(files.values()))


def count_texts(tokenizer: Tokenizer, texts: Iterable[str], name: str = "text") -> Counts:
    """Counts texts that are at hand, in this process."""
    counts, figures = _counted(tokenizer, name, texts)
    return Counts(tokenizer.fingerprint, counts, (figures,))


def count_part(
    tokenizer: Tokenizer, part: Part, advance: Callable[[int], None]
) -> tuple[np.ndarray, FileCounts]:
    """Counts one part: int64 [rows] and the figures. `advance` gets `part.size` in all."""
    left, skipped = part.size, 0

    def moved(size: int) -> None:  # readers read ahead
        nonlocal left
        size = min(size, left)
        left -= size
        advance(size)

    def skip(documents: int) -> None:
        nonlocal skipped
        skipped += documents

    counts, figures = _counted(tokenizer, part.name, part.read(moved, skip))
    advance(left)
    return counts, figures + FileCounts(part.name, skipped=skipped)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _counted(
    tokenizer: Tokenizer, name: str, documents: Iterable[str] | Iterable[Ids]
) -> tuple[np.ndarray, FileCounts]:
    counts = np.zeros(tokenizer.rows, np.int64)
    figures = FileCounts(name)
    words: int | None
    characters: int | None
    size: int | None
    for batch in _batches(documents):
        if isinstance(batch, Ids):
            ids, words = batch.ids, None
            number, characters, size = batch.documents, batch.characters, batch.bytes
        else:
            ids = np.concatenate(tokenizer.encode(batch))
            words = sum([len(text.split()) for text in batch])
            number, characters = len(batch), sum(map(len, batch))
            size = len("".join(batch).encode())
        counts += np.bincount(ids, minlength=tokenizer.rows)
        figures += FileCounts(name, len(ids), number, words, characters, size)
    return counts, figures


def _batches(documents: Iterable[str] | Iterable[Ids]) -> Iterator[list[str] | Ids]:
    texts: list[str] = []
    size = 0
    for document in documents:
        if isinstance(document, Ids):
            yield document
            continue
        texts.append(document)
        size += len(document)
        if size >= _BATCH_CHARS or len(texts) >= _BATCH_DOCUMENTS:
            yield texts
            texts, size = [], 0
    if texts:
        yield texts


_SWITCH = "TOKENIZERS_PARALLELISM"


@contextlib.contextmanager
def _threads(several: bool) -> Iterator[None]:
    """Whether encoders in this process, and in those it starts, use threads."""
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "true" if several else "false"
    try:
        yield
    finally:
        os.environ.pop(_SWITCH)
        if before is not None:
            os.environ[_SWITCH] = before


def _in_processes(
    tokenizer: Tokenizer, parts: Sequence[Part], processes: int, advance: Callable[[int], None]
) -> Generator[tuple[np.ndarray, FileCounts], None, None]:
    """What `count_part` gives for each part, as they come; each process has one at a time."""
    context = multiprocessing.get_context("spawn")
    # Started along with the first process, it would lift the mask that keeps Ctrl-C from that.
    resource_tracker.ensure_running()
    todo = iter(parts)
    busy: dict[Connection, Part] = {}
    started = []
    try:
        for part in itertools.islice(todo, processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, tokenizer.files, tokenizer.fingerprint)
            process = context.Process(target=_work, args=arguments, daemon=True)
            started.append(process)
            with _uninterrupted():
                process.start()
            theirs.close()
            ours.send(part)
            busy[ours] = part
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                try:
                    told = connection.recv()
                except (EOFError, OSError):
                    raise InputError(
                        f"a process ended while it counted {busy[connection].name}: if memory ran "
                        "out, give a lower --workers"
                    ) from None
                if isinstance(told, int):
                    advance(told)
                elif isinstance(told, Exception):
                    raise told
                else:
                    yield told
                    if (next_part := next(todo, None)) is not None:
                        connection.send(next_part)
                        busy[connection] = next_part
                    else:
                        del busy[connection]
                        connection.close()
    finally:
        for process in started:
            if process.pid is not None:
                process.kill()  # it holds nothing that would have to be taken back
                process.join()


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A process started in here never sees Ctrl-C; this one sees it, and SIGTERM, afterwards.

    Half a start could not be taken back, and would be heard of from the other side.
    """
    held: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()  # elsewhere they raise nothing
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    before = {n: signal.signal(n, lambda number, _: held.append(number)) for n in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
        for missed in held:
            signal.raise_signal(missed)


def _work(connection: Connection, files: Mapping[str, Path | bytes], fingerprint: str) -> None:
    """A process of `_in_processes`: gets parts, says bytes read, results, or what went wrong."""
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is there
        tokenizer = None
        while True:
            part = connection.recv()
            try:
                tokenizer = tokenizer or _loaded(files, fingerprint)
                told: object = count_part(tokenizer, part, connection.send)
            except (InputError, OSError) as error:
                told = InputError(sentence(error))
            except Exception:
                told = RuntimeError(traceback.format_exc())
            connection.send(told)


def _loaded(files: Mapping[str, Path | bytes], fingerprint: str) -> Tokenizer:
    tokenizer = load_tokenizer(files)
    if tokenizer.fingerprint != fingerprint:
        raise InputError(f"{tokenizer.path} changed while it was used; start again")
    return tokenizer


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
