"""What every tool shares: the flags --json, --overwrite and --dry_run, help, error sentences."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from absl import flags

from maxlite import console, outputs, uploads
from maxlite.errors import InputError
from maxlite.storage import Place, Url

FLAGS = flags.FLAGS

flags.DEFINE_string("json", "", "Write the figures to this file as JSON.")
flags.DEFINE_bool("overwrite", False, "Replace what is there already, once the new is complete.")
flags.DEFINE_bool("dry_run", False, "Check everything and say what would be done; write nothing.")


_STORES = ("gs://", "s3://", "az://")
_addresses = {"text", "model", "run", "tokenizer", "order"}  # what is only read


def run(
    main: Callable[..., Any],
    parse: Callable[[Sequence[str]], tuple[Any, list[str]]] | None = None,
    describe: Callable[[], str] = str,
) -> None:
    """Parses the command line and runs a tool; bad input ends it with one sentence and status 1.

    SIGTERM ends it with status 143, as Ctrl-C does with 130, and nothing half-written stays. What
    `main` returns, if anything, is the figures that --json asks for.

    Args:
      main: the tool; it is given the config if there is a `parse`.
      parse: takes what is about a config out of the arguments, as `maxlite.flags.parse` does.
      describe: tells of the config's keys, for --help.
    """
    program = sys.modules["__main__"]
    for name in FLAGS:  # --help tells of the flags that a tool shares with others, too
        if (FLAGS.find_module_defining_flag(name) or "").startswith("tools."):
            FLAGS.register_key_flag_for_module(sys.argv[0], FLAGS[name])

    def guarded(arguments: Sequence[str]) -> None:
        if {"--help", "-h", "-help", "--helpfull"} & set(arguments):
            print(f"{program.__doc__}\n{FLAGS.main_module_help()}\n{describe()}".rstrip())
            return
        given = []
        if parse:
            config, arguments = parse(arguments)
            given = [config]
        try:
            rest = FLAGS(["tool", *arguments])[1:]
        except flags.Error as e:
            raise InputError(" ".join(str(e).split())) from e
        if rest:
            raise InputError(f"unexpected argument {rest[0]!r}; every setting is a --flag=value")
        _refuse_addresses()
        target = file_of("json")
        failure = None
        try:
            figures = main(*given)
        except Unsuccessful as e:
            failure, figures = e, e.figures
        if target and figures is not None:
            outputs.write_text(target, outputs.json_text(figures))
        if failure:
            raise failure

    with _terminable():
        console.run(guarded)


def take_addresses(*names: str) -> None:
    """Says that these flags of a tool may name a place such as gs://bucket/folder, too."""
    _addresses.update(names)


def _refuse_addresses() -> None:
    for flag in FLAGS.get_key_flags_for_module(sys.argv[0]):
        if flag.name not in _addresses and str(flag.value).startswith(_STORES):
            raise InputError(
                f"--{flag.name}={flag.value} must be on this machine; copy it there or from there"
            )


class Unsuccessful(InputError):
    """What a tool was asked to find out is not well: its figures count, and its status is 1."""

    def __init__(self, sentence: str, figures: Any):
        super().__init__(sentence)
        self.figures = figures


class Terminated(BaseException):
    """Raised wherever SIGTERM finds the program, so that it takes back what it was writing."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def terminated(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the tidying up
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    except Terminated:
        print("maxlite: terminated", file=sys.stderr)
        console.leave(128 + signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def require(*names: str) -> None:
    """Refuses a command line without these flags.

    Raises:
      InputError: with those that are missing.
    """
    missing = [f"--{name}" for name in names if not FLAGS[name].value]
    if missing:
        raise InputError(f"{', '.join(missing)} must be given; --help says what it means")


def file_of(name: str, suffix: str = "") -> Path | None:
    """The file that a flag says to write, see `outputs.new_path`; None where it says none."""
    given = FLAGS[name].value
    return outputs.new_path(name, given, FLAGS.overwrite, suffix) if given else None


def check_out(path: Place) -> None:
    """Refuses to write over something unless --overwrite is given; never at an address.

    Raises:
      InputError: something is there.
    """
    if isinstance(path, Url):
        path.check_bucket()
        if uploads.taken(path):
            raise InputError(f"{path} exists; remove it, or choose another --out")
    elif path.exists() and not FLAGS.overwrite:
        raise InputError(f"{path} exists; choose another --out, or give --overwrite")
