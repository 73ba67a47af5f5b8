"""The command line: `--config=FILE` and `--config.key.sub=value`, in sentences when it is wrong."""

import dataclasses
import inspect
import re
import sys
import traceback
import typing
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from absl import flags
from ml_collections import config_flags

from maxlite import config as config_lib
from maxlite.config import Architecture, Config, Source
from maxlite.errors import InputError, suggestion
from maxlite.mixture import awaits, listed

T = TypeVar("T")

_START = {
    "Config": "configs/continue.py",
    "Cleaning": "configs/corpus/korean.py",
    "Recipe": "configs/pangu/sweep.py",
}
_HERE = Path(__file__).resolve().parent.parent


def find_config(name: str) -> Path:
    """The config file `name` means: as given, in configs/, or the only match in configs/*/.

    Raises:
      InputError: there is no such file, or several.
    """
    if not name:
        raise InputError("--config is empty; name a config file, such as --config=continue.py")
    if Path(name).is_file():
        return Path(name)
    roots = dict.fromkeys((Path.cwd() / "configs", _HERE / "configs"))
    for root in roots:
        if (root / name).is_file():
            return root / name
    for root in roots:
        matches = sorted(p for p in root.glob(f"*/{name}") if p.is_file())
        if len(matches) > 1:
            listed = ", ".join(str(p) for p in matches)
            raise InputError(f"config file '{name}' could be any of {listed}; give its folder too")
        if matches:
            return matches[0]
    have = sorted({p.name for root in roots for p in root.glob("**/*.py")})
    raise InputError(
        f"there is no config file '{name}', here or in configs/ or configs/*/; "
        f"{suggestion(name, have)}"
    )


def _split(argv: Sequence[str]) -> tuple[str, dict[str, str], list[str]]:
    """The config file's name, the overrides in order, and every other argument."""
    file, overrides, rest = "", {}, []
    arguments = iter(argv)
    for argument in arguments:
        match = re.fullmatch(r"--?config(?:\.([^=]*))?(?:=(.*))?", argument, re.DOTALL)
        if not match:
            rest.append(argument)
            continue
        key, value = match.groups()
        if value is None:
            value = next(arguments, None)
            if value is None or value.startswith("--"):
                raise InputError(f"{argument} has no value; write {argument}=VALUE")
        if key is None:
            file = value
        else:
            overrides[key] = value
    return file, overrides, rest


def taken(arguments: Sequence[str], names: Collection[str]) -> tuple[dict[str, str], list[str]]:
    """Splits arguments into the values of --NAME=VALUE, for some names, and all the others."""
    found, rest = dict[str, str](), []
    for argument in arguments:
        match = re.fullmatch(r"--(\w+)=(.*)", argument, re.DOTALL)
        if match and match[1] in names:
            found[match[1]] = match[2]
        else:
            rest.append(argument)
    return found, rest


def parse(argv: Sequence[str]) -> tuple[Config, list[str]]:
    """`parse_as` for the config of a run."""
    resolved, rest, overrides = _parsed(argv, Config, config_lib.resolve)
    if any(key.startswith("architecture.") for key in overrides):
        given = sys.modules["config_config"].get_config().architecture
        _derive_again(resolved.architecture, given, overrides)
    return resolved, rest


def parse_as(argv: Sequence[str], cls: type[T], resolve: Callable[[Any], T]) -> tuple[T, list[str]]:
    """Reads the config that a command line names, with its overrides, and checks it.

    Args:
      argv: the arguments after the program's name.
      cls: the dataclass that the file's `get_config()` returns.
      resolve: checks and returns it.

    Returns:
      The resolved config, and the arguments that are not about it.

    Raises:
      InputError: no or a broken config file, an unknown key, or a value that does not fit.
    """
    resolved, rest, _ = _parsed(argv, cls, resolve)
    # No other process can import the file under this name: what it defines must go there whole.
    sys.modules.pop("config_config", None)
    return resolved, rest


def class_of(argv: Sequence[str], cls: type[T]) -> type[T]:
    """The class of what a command line's config file returns, if it is one made from `cls`.

    Raises:
      InputError: no or a broken config file.
    """
    name, overrides, _ = _split(argv)
    given = [f"--config={name}"] if name or overrides else []
    found = type(_parsed(given, cls, lambda config: config)[0])  # its source can still be read
    return found if issubclass(found, cls) else cls


def _parsed(
    argv: Sequence[str], cls: type[T], resolve: Callable[[Any], T]
) -> tuple[T, list[str], dict[str, str]]:
    name, overrides, rest = _split(argv)
    if not name and not overrides:
        raise InputError(f"no --config=FILE was given; {_START[cls.__name__]} is one to start from")
    path = find_config(name)
    if ":" in str(path):  # the flag reader takes what follows it for an argument
        raise InputError(f"the path of the config file '{path}' has a ':'; rename it")
    known = config_lib.keys(cls)
    plain: list[str] = []
    sources: dict[str, tuple[Source, ...]] = {}
    for key, value in overrides.items():
        if key not in known:
            raise InputError(f"there is no config key '{key}'; {config_lib.nearest(key, cls)}")
        if known[key] == tuple[Source, ...]:
            sources[key] = listed(value)
        elif typing.get_origin(known[key]) is tuple or known[key] is Any:
            raise InputError(f"config key '{key}' is set in a config file, not on the command line")
        else:
            plain.append(f"--config.{key}={_checked(key, known[key], value)}")
    values = flags.FlagValues()
    sys.modules.pop("config_config", None)  # a file that was read before would lend its names
    command = ["maxlite", f"--config={path}", *plain]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=command)
    try:
        values(command)
        config = values["config"].value
    except flags.Error as e:
        raise InputError(_why(path, e)) from e
    except Exception as e:  # the file is the user's code and may raise anything
        raise InputError(_why(path, e)) from e
    if isinstance(config, cls):
        for key, several in sources.items():
            if awaits(before := config_lib.get(config, key)):
                several = tuple(
                    dataclasses.replace(before[0], glob=s.glob, weight=s.weight, name=s.name)
                    for s in several
                )
            config_lib.put(config, key, several)
    return resolve(config), rest, overrides


def parse_several(argv: Sequence[str]) -> tuple[dict[str, Config], list[str]]:
    """`parse` for a program that takes several configs, --config=A,B; overrides hold for all.

    Returns:
      The resolved configs by the names they were given, and the arguments that are not about them.

    Raises:
      InputError: as of `parse`, or a name that is empty or there twice.
    """
    names, overrides, rest = _split(argv)
    several = [names] if not names or Path(names).is_file() else names.split(",")
    given = [f"--config.{key}={value}" for key, value in overrides.items()]
    found: dict[str, Config] = {}
    for name in map(str.strip, several):
        if name in found or (names and not name):
            wrong = f"'{name}' twice" if name else "a file without a name"
            raise InputError(f"--config={names} names {wrong}; write --config=A,B")
        found[name] = parse([*([f"--config={name}"] if names else []), *given])[0]
    return found, rest


def _derive_again(arch: Architecture, given: Architecture, overrides: Collection[str]) -> None:
    """Lets what the file left to be derived follow the overrides of what it is derived from."""
    H = given.num_attention_heads
    if given.num_key_value_heads == H and "architecture.num_key_value_heads" not in overrides:
        arch.num_key_value_heads = 0
    if H and given.head_dim == given.hidden_size // H and "architecture.head_dim" not in overrides:
        arch.head_dim = 0
    arch.__post_init__()


def _why(path: Path, error: Exception) -> str:
    """One sentence about an error inside a config file."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    where = f"{path}:{frames[-1].lineno}" if frames else str(path)
    return f"config file {where} could not be read: {lines[-1].strip() if lines else repr(error)}"


def _checked(key: str, kind: Any, value: str) -> str:
    """The value as the flag reader takes it; refuses one of another type."""
    try:
        if kind is int:
            int(value)
        elif kind is float:
            float(value)
        elif kind is bool and value.lower() not in ("true", "false", "1", "0"):
            raise ValueError
    except ValueError:
        raise InputError(f"config key '{key}' must be {kind.__name__}, not '{value}'") from None
    return value


def describe(cls: type = Config) -> str:
    """Every config key with its default and what the config's source says about it."""
    lines = []
    defaults = cls()
    comments: dict[str, str] = {}
    for inner, prefix in _classes(cls, ""):
        for written in filter(dataclasses.is_dataclass, reversed(inner.__mro__)):
            source = inspect.getsource(written)
            for match in re.finditer(r"^    (\w+): .*?  # (.*)$", source, re.MULTILINE):
                comments[prefix + match[1]] = match[2]
    for key, kind in config_lib.keys(cls).items():
        kind_name = kind.__name__ if isinstance(kind, type) and kind is not Any else "tuple"
        value = config_lib.get(defaults, key)
        lines.append(f"  {key:<44} {kind_name:<6} {value!r:<12} {comments.get(key, '')}".rstrip())
    return "\n".join(lines)


def _classes(cls: type, prefix: str) -> Iterator[tuple[type, str]]:
    """A dataclass and those in it, with what the keys of each begin with."""
    yield cls, prefix
    for name, kind in typing.get_type_hints(cls).items():
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from _classes(kind, f"{prefix}{name}.")
