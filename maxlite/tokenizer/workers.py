"""Work with a tokenizer on the parts of a corpus, in as many processes as that is worth.

A few megabytes are worked on in this process, with the encoder's own threads. More is divided among
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
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol, TypeVar

from maxlite.console import sentence
from maxlite.errors import InputError
from maxlite.tokenizer.tokenizer import Tokenizer, load_tokenizer

_PROCESS_BYTES = 1 << 22  # of a corpus: for less, one more process is not worth its start
_SWITCH = "TOKENIZERS_PARALLELISM"  # which our own encoders obey as well


class Sized(Protocol):
    """A share of a corpus that one process works on; it goes there by pickle."""

    @property
    def name(self) -> str:
        """What it is a part of, such as a file."""
        ...

    @property
    def size(self) -> int:
        """Its bytes, for the progress."""
        ...


P = TypeVar("P", bound=Sized)
R = TypeVar("R")
Advance = Callable[[int], None]
Work = Callable[[Tokenizer, P, Advance], R]


def each(
    work: Work[P, R],
    tokenizer: Tokenizer,
    parts: Iterable[P],
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
    advice: str = "give a lower --workers",
) -> Generator[R, None, None]:
    """Yields what some work gives for each part, in the order in which that is done.

    Programs that call this need the usual guard `if __name__ == "__main__"`, since processes are
    spawned. Closing the generator ends them.

    Args:
      work: a function of a module, which gets the tokenizer, a part, and what it is to call with
        the bytes done since the last call.
      tokenizer: loaded anew in each process.
      parts: of the corpus.
      workers: at most so many processes; 0 for as many as there are cores. 1 also keeps the encoder
        to one thread.
      progress: called with (bytes done, bytes in all).
      advice: what to do if a process dies for want of memory.

    Raises:
      InputError: from the work, or a process has died.
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
            results = _in_processes(work, tokenizer, parts, processes, advance, advice)
        else:
            results = (work(tokenizer, part, advance) for part in parts)
        with contextlib.closing(results):
            yield from results


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def one_thread() -> bool:
    """Whether encoders in this process are to use one thread."""
    return os.environ.get(_SWITCH) == "false"


@contextlib.contextmanager
def exactly(size: int, advance: Advance) -> Iterator[Advance]:
    """Gives what to call in place of `advance`, so that this gets `size` in all if all goes well.

    Readers read ahead, and pass over what they don't need.
    """
    left = size

    def moved(size: int) -> None:
        nonlocal left
        size = min(size, left)
        left -= size
        advance(size)

    yield moved
    advance(left)


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
    work: Work[P, R],
    tokenizer: Tokenizer,
    parts: Sequence[P],
    processes: int,
    advance: Advance,
    advice: str,
) -> Generator[R, None, None]:
    """What the work gives for each part, as they come; each process has one at a time."""
    context = multiprocessing.get_context("spawn")
    # Started along with the first process, it would lift the mask that keeps Ctrl-C from that.
    resource_tracker.ensure_running()
    todo = iter(parts)
    busy: dict[Connection, P] = {}
    started = []
    try:
        for part in itertools.islice(todo, processes):
            ours, theirs = context.Pipe()
            arguments = (theirs, work, tokenizer.files, tokenizer.fingerprint)
            process = context.Process(target=_serve, args=arguments, daemon=True)
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
                    done, told = connection.recv()
                except (EOFError, OSError):
                    raise InputError(
                        f"a process ended while it read {busy[connection].name}: if memory ran "
                        f"out, {advice}"
                    ) from None
                if not done:
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


def _serve(
    connection: Connection,
    work: Work[P, R],
    files: Mapping[str, Path | bytes],
    fingerprint: str,
) -> None:
    """A process of `_in_processes`: gets parts, says (False, bytes read), then (True, result)."""
    threading.Thread(target=leave_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # nobody is there
        tokenizer = None
        while True:
            part = connection.recv()
            try:
                tokenizer = tokenizer or _loaded(files, fingerprint)
                told: object = work(tokenizer, part, lambda size: connection.send((False, size)))
            except (InputError, OSError) as error:
                told = InputError(sentence(error))
            except Exception:
                told = RuntimeError(traceback.format_exc())
            connection.send((True, told))


def _loaded(files: Mapping[str, Path | bytes], fingerprint: str) -> Tokenizer:
    tokenizer = load_tokenizer(files)
    if tokenizer.fingerprint != fingerprint:
        raise InputError(f"{tokenizer.path} changed while it was used; start again")
    return tokenizer


def leave_with_parent() -> None:
    """Ends this process when the one that started it ends; for a thread of its own."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
