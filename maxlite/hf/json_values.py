"""JSON files and the typed values in them, with a sentence for each way they can be wrong."""

import json
import math
from typing import Any

from maxlite.errors import InputError
from maxlite.outputs import json_text


def parse(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object in a file's bytes.

    Raises:
        InputError: it is no JSON, or another value than an object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON ({error}): fetch or repair it") from error
    if not isinstance(value, dict):
        raise InputError(f"{where} holds a {type(value).__name__} where a JSON object is expected")
    return value


def dump(value: dict[str, Any]) -> bytes:
    """A JSON object as the text of a file."""
    return json_text(value).encode()


def bad(where: str, config: dict[str, Any], key: str, hint: str) -> InputError:
    """The error for one value of an object: `hint` goes on after "has KEY: VALUE,"."""
    value = json.dumps(config.get(key), ensure_ascii=False)
    value = value if len(value) <= 80 else value[:77] + "..."
    return InputError(f"{where} has {key!r}: {value}, {hint}")


def whole(config: dict[str, Any], key: str, where: str, default: int | None = None) -> int:
    """A positive whole number; a key without a default must be there.

    Raises:
        InputError: it is missing, or something else.
    """
    value = config.get(key, default)
    if key not in config and default is None:
        raise InputError(f"{where} has no {key!r}, which is needed")
    if type(value) is not int or value <= 0:
        raise bad(where, config, key, "but it must be a positive whole number")
    return value


def number(
    config: dict[str, Any], key: str, where: str, default: float | None = None, low: float = 1e-30
) -> float:
    """A finite number of at least `low`; a key without a default must be there.

    Raises:
        InputError: it is missing, or something else.
    """
    value: Any = config.get(key, default)
    if key not in config and default is None:
        raise InputError(f"{where} has no {key!r}, which is needed")
    if type(value) not in (int, float) or not math.isfinite(value) or value < low:
        raise bad(where, config, key, "but it must be a positive number")
    return float(value)


def switch(config: dict[str, Any], key: str, where: str) -> bool:
    """True or false; an absent key is false."""
    value = config.get(key, False)
    if type(value) is not bool:
        raise bad(where, config, key, "but it must be true or false")
    return value
