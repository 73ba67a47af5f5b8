"""How programs talk to people: errors in one sentence, and only from the first process."""

import contextlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import absl.logging

from maxlite.errors import InputError


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs a program's `main(arguments)` and exits with its status.

    An `InputError` becomes one sentence on stderr and status 1, and so does what the system refuses
    (a full disk, a missing permission); Ctrl-C becomes status 130.
    """
    _quiet()
    try:
        status = main(sys.argv[1:]) or 0
    except BrokenPipeError:  # whoever read stdout has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except (InputError, OSError) as e:
        sys.stdout.flush()
        print(f"maxlite: {sentence(e)}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print("maxlite: interrupted", file=sys.stderr)
        leave(130)
    sys.stdout.flush()
    sys.exit(status)


def leave(status: int = 0) -> NoReturn:
    """Ends the process at once, without what is usually done at its end.

    A compile that a signal has interrupted goes on in a thread of XLA, which would crash when an
    ordinary exit takes the devices away under it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _quiet() -> None:
    """Lets our sentence be all that is said of an error.

    What libraries log as an error they raise as well. A save that failed leaves threads and
    coroutines behind which fail once more, through one of the other channels.
    """
    absl.logging.set_verbosity(absl.logging.FATAL)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read by XLA when jax is imported
    for name in ("asyncio", "gcsfs", "s3fs"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = lambda _: None


def sentence(error: BaseException) -> str:
    """What an error says to the user."""
    if isinstance(error, OSError):
        file = error.filename or "a file"
        return f"{file} cannot be read or written: {error.strerror or error}"
    return str(error) if isinstance(error, InputError) else repr(error)


def say(text: str, speak: bool = True) -> None:
    """Prints a line for the person who watches, on stderr, unless `speak` is false."""
    if speak:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def bytes_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with an ETA; gives the function to call with (bytes done, bytes in all)."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, desc=what, delay=1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


@contextlib.contextmanager
def clock(what: str) -> Iterator[None]:
    """Shows how long something takes that tells nothing of itself."""
    from tqdm import tqdm

    with tqdm(desc=what, delay=1, bar_format="{desc}: {elapsed}") as bar:
        done = threading.Event()

        def tick() -> None:
            while not done.wait(1):
                bar.update()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def human(count: float, unit: str = "") -> str:
    """A number with a suffix: 1.2k, 3.4M, 10.7B (units of 1000)."""
    for suffix in ("", "k", "M", "B"):
        if abs(count) < 999.5:
            return f"{count:.3g}{suffix}{unit}"
        count /= 1000
    return f"{count:.4g}T{unit}"
