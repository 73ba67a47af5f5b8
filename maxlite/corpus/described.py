"""What a step is, in words and plain values: for tables, for files that tell what was done, and to
know whether begun work is the same work."""

import contextlib
import inspect
import re
from typing import Any

from datatrove.pipeline.base import PipelineStep

from maxlite.corpus.step import Step

_SHIPPED = ("maxlite", "datatrove", "builtins", "abc", "typing")
_OF_DATATROVE = ("stats", "exclusion_writer")  # attributes that are no settings of its blocks
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def named(step: Step | PipelineStep) -> str:
    """A step's name as a part of a path."""
    name = step.name if isinstance(step, Step) else type(step).__name__
    return name.replace(" ", "-")


def settings(step: Step | PipelineStep) -> dict[str, Any]:
    """The settings of a step; those of datatrove's blocks are what they keep."""
    if isinstance(step, Step):
        return step.settings()
    return {k: plain(v) for k, v in vars(step).items() if k not in _OF_DATATROVE}


def plain(value: Any) -> Any:
    """The same in every process, where JSON can say it; else in words, functions by their code."""
    if isinstance(value, str | int | float | bool | list | tuple | dict | None):
        return value
    if inspect.isfunction(value):
        with contextlib.suppress(OSError):  # typed in, or made by a program
            return inspect.getsource(value).strip()
    return _ADDRESS.sub("", repr(value))


def own_code(step: Step | PipelineStep) -> str:
    """The code of a step's class that is not ours, as far as it is in functions of the class."""
    found = []
    for cls in type(step).__mro__:
        if cls.__module__.partition(".")[0] not in _SHIPPED:
            for function in filter(inspect.isfunction, vars(cls).values()):
                with contextlib.suppress(OSError):  # a dataclass makes some
                    found.append(inspect.getsource(function))
    return "\n".join(found)
