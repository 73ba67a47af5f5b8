"""The config file that makes a run again, from what its run.json says."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from maxlite import config as config_lib
from maxlite.config import Config
from maxlite.mixture import Source
from maxlite.rules import Rule
from maxlite.transforms import transform

_SOURCES = ("data.train", "data.eval")


def config_file(config: Mapping[str, Any]) -> str:
    """A config file with every setting that is not as `Config` has it.

    Args:
      config: the resolved one, as run.json has it; keys that are no more are left out.

    Returns:
      Python, for `maxlite.train --config=FILE`.
    """
    lines, used = [], {"Config"}
    keys = config_lib.keys()
    for key in keys:
        known, value = _found(config, key)
        default = json.loads(json.dumps(config_lib.get(Config(), key)))
        if not known or value == default:
            continue
        made = _made(key, value)
        used |= {type(one).__name__ for one in made} if isinstance(made, tuple) else set()
        lines.append(f"    config.{key} = {_written(made)}")
    modules = {"config": used & {"Config", "Source"}, "rules": used & {"Rule"}}
    modules["transforms"] = used - {"Config", "Source", "Rule"}
    imports = [
        f"from maxlite.{module} import {', '.join(sorted(names))}"
        for module, names in modules.items()
        if names
    ]
    body = ["def get_config():", "    config = Config()", *lines, "    return config"]
    return "\n".join([*imports, "", "", *body]) + "\n"


def _found(config: Mapping[str, Any], key: str) -> tuple[bool, Any]:
    value: Any = config
    for part in key.split("."):
        if part not in value:
            return False, None
        value = value[part]
    return True, value


def _made(key: str, value: Any) -> Any:
    """What run.json describes, as the config has it."""
    if key in _SOURCES:
        later = [tuple(map(tuple, one.get("later", ()))) for one in value]
        return tuple(Source(**{**v, "later": w}) for v, w in zip(value, later, strict=True))
    if key == "init":
        return tuple(map(transform, value))
    if key == "train" and not isinstance(value, str):
        return tuple(Rule(**one) for one in value)
    return tuple(value) if isinstance(value, list) else value


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_written, value))}{',' * (len(value) == 1)})"
    if not dataclasses.is_dataclass(value):
        return repr(value)
    given = [
        f"{field.name}={getattr(value, field.name)!r}"
        for field in dataclasses.fields(value)
        if getattr(value, field.name) != field.default
    ]
    return f"{type(value).__name__}({', '.join(given)})"
