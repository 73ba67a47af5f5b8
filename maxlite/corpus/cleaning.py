"""What a cleaning is: which text, which steps, where to, and on which machines.

A config file is Python with a `get_config()` that returns a `Cleaning`. As in `maxlite.config`,
values that may be absent are empty or zero, never None.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from maxlite import config as config_lib
from maxlite.config import Source
from maxlite.corpus.step import Step
from maxlite.data.parts import TextPart, text_parts
from maxlite.data.sources import expand
from maxlite.errors import InputError
from maxlite.storage import Place, Url, is_url
from maxlite.tokenizer.counting import Part

EXECUTORS = ("local", "slurm", "ray")
_LARGEST = 1 << 28  # bytes of text in a shard
_SMALLEST = 1 << 22
_SHARDS = 64  # of a corpus between these limits


@dataclass
class Text:
    """Plain text: lines or whole .txt files, a field of .jsonl and .parquet files."""

    field: str = "text"
    txt: str = "line"  # a document of a .txt file is a "line" or the whole "file"
    skip_invalid: bool = False  # drop what is not UTF-8, and count it, instead of refusing the file

    def parts(self, pattern: str, size: int) -> list[TextPart]:
        """Divides the files of a glob into parts of about `size` bytes, read side by side.

        Raises:
          InputError: there is none, or one of a kind that is not read.
        """
        files = expand(Source(glob=pattern))
        return text_parts(files, self.field, self.txt, self.skip_invalid, size)


@dataclass
class Slurm:
    """How tasks are submitted to a Slurm cluster."""

    partition: str = ""
    time: str = "08:00:00"  # of one task
    memory_gb: int = 4  # a task
    qos: str = ""
    setup: str = ""  # shell commands before a task; empty: this folder and virtual environment


@dataclass
class Cleaning:
    """A cleaning of a corpus. The command line sets any key but `read` and `steps`."""

    text: str = ""  # files, as globs with commas between them
    out: str = ""  # folder for the cleaned text
    read: Any = field(default_factory=Text)  # whatever has Text's `parts`, such as Pairs
    steps: tuple[Any, ...] = ()  # of maxlite.corpus, in order; datatrove's blocks, too
    keep_dropped: bool = False  # keep dropped documents with their reason in out/dropped
    shard_mb: int = 0  # text in a shard, the unit of resuming; 0: 4 to 256 MB, by the corpus' size
    executor: str = "local"  # local, slurm or ray
    workers: int = 0  # tasks side by side; 0: as many as there are cores, or no limit on clusters
    slurm: Slurm = field(default_factory=Slurm)


def resolve(config: Any) -> Cleaning:
    """Checks a config as a file returned it.

    Raises:
      InputError: a value of the wrong type or outside its range, or a step's setting that cannot
        work.
    """
    if not isinstance(config, Cleaning):
        raise InputError(
            "get_config() must return a maxlite.corpus.cleaning.Cleaning, not "
            f"{type(config).__name__}"
        )
    config_lib.check_types(config)
    if config.executor not in EXECUTORS:
        allowed = ", ".join(map(repr, EXECUTORS))
        raise InputError(f"config key 'executor' must be one of {allowed}, not {config.executor!r}")
    for key in ("shard_mb", "workers"):
        if getattr(config, key) < 0:
            raise InputError(f"config key '{key}' must be at least 0")
    if not callable(getattr(config.read, "parts", None)):
        raise InputError(
            f"config key 'read' holds {config.read!r}, which is no reader: write Text()"
        )
    config_lib.check_fields(config.read, "read")
    if hasattr(config.read, "check"):
        config.read.check()
    for i, step in enumerate(config.steps):
        if isinstance(step, Step):
            config_lib.check_fields(step, f"steps[{i}]")
            try:
                step.check()
            except (TypeError, ValueError) as error:  # of something in a tuple, which has no type
                name = type(step).__name__
                raise InputError(f"config key 'steps[{i}]': {name} cannot be so: {error}") from None
        elif not callable(getattr(step, "run", None)):  # datatrove's have one
            raise InputError(
                f"config key 'steps' holds {step!r}, which is no step: write them like Repair()"
            )
    for key in ("text", "out"):
        if not getattr(config, key):
            raise InputError(f"config key '{key}' is empty; give --config.{key}=...")
    return config


def shards(config: Cleaning) -> list[list[Part]]:
    """The corpus in shards of some parts each; they depend on nothing but files and config.

    Small files share a shard, so that a hundred thousand of them are not as many tasks.

    Raises:
      InputError: no file, one that can't be read, or one that the cleaning would write itself.
    """
    size = config.shard_mb << 20
    if not size:
        total = sum(part.size for part in _parts(config, 1 << 62))
        size = min(max(total // _SHARDS, _SMALLEST), _LARGEST)
    found: list[list[Part]] = []
    room = 0
    for part in _parts(config, size):
        if not found or part.size > room:
            found.append([])
            room = size
        found[-1].append(part)
        room -= part.size
    if not found:
        raise no_text(config)
    return found


def no_text(config: Cleaning) -> InputError:
    """The error that says that there is nothing to clean."""
    return InputError(f"there is no text in the files that --config.text={config.text} names")


def files(part: Part) -> tuple[Place, ...]:
    """What a part is read from."""
    return getattr(part, "files", None) or (getattr(part, "path", None) or Path(part.name),)


def stamp(part: Part) -> str:
    """What tells whether a part's files are still the same."""
    return ", ".join(map(_stamp, files(part)))


def _stamp(file: Place) -> str:
    if isinstance(file, Url):
        return file.stamp()
    about = file.stat()
    return f"{about.st_size} bytes, {about.st_mtime_ns} ns"


def _parts(config: Cleaning, size: int) -> list[Part]:
    globs = [_anywhere(name) for name in re.split(r",(?![^{]*\})", config.text) if name]
    out = _anywhere(config.out)
    for pattern in globs:
        _refuse_own(pattern, out)
    found = [part for name in globs for part in config.read.parts(name, size)]
    return list({(files(part), getattr(part, "start", 0)): part for part in found}.values())


def _refuse_own(pattern: str, out: str) -> None:
    """Refuses a glob that would find what is written, when the cleaning goes on or is run again."""
    for folder in (out, f"{out}.work/out", f"{out}/dropped/step", f"{out}.work/dropped/step"):
        if _finds(pattern.split("/"), f"{folder}/00000.jsonl.zst".split("/")):
            raise InputError(
                f"{pattern!r} would find what is written to {out}, too; choose a --config.out "
                "elsewhere, or a glob that leaves it out"
            )


def _finds(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Whether a glob, by its parts, finds a path; as pathlib can tell from Python 3.13 on."""
    if not pattern or not path:
        return not path and set(pattern) <= {"**"}
    if pattern[0] == "**":
        return _finds(pattern[1:], path) or _finds(pattern, path[1:])
    return fnmatchcase(path[0], pattern[0]) and _finds(pattern[1:], path[1:])


def _anywhere(pattern: str) -> str:
    """The same files, named so that other machines find them too."""
    return pattern if is_url(pattern) else os.path.abspath(os.path.expanduser(pattern))
