"""The rotary position settings of a `config.json`, in each of their spellings.

`transformers` 4 writes `rope_theta` and `rope_scaling` (with `type`, later `rope_type`), 5 writes
`rope_parameters`, which holds all of it. A file may have several of them if they agree.
"""

from typing import Any

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.json_values import bad, number, whole

FIELDS: dict[str, dict[str, str]] = {  # field of the RoPE dictionary -> field of Architecture
    "default": {},
    "linear": {"factor": "rope_factor"},
    "llama3": {
        "factor": "rope_factor",
        "low_freq_factor": "rope_low_freq_factor",
        "high_freq_factor": "rope_high_freq_factor",
        "original_max_position_embeddings": "original_max_position_embeddings",
    },
}


def read(config: dict[str, Any], where: str) -> dict[str, Any]:
    """The RoPE fields of `Architecture`; every spelling that is present must say the same.

    Raises:
        InputError: two spellings that differ, or a value that cannot be.
    """
    spellings: dict[str, dict[str, Any]] = {}
    for key in ("rope_parameters", "rope_scaling"):
        if config.get(key):
            if not isinstance(config[key], dict):
                raise bad(where, config, key, "but it must be an object or null")
            spellings[key] = _read_one(config[key], f"{where} ({key})")
    thetas = {key: fields.pop("rope_theta", None) for key, fields in spellings.items()}
    if "rope_theta" in config:
        thetas["rope_theta"] = number(config, "rope_theta", where)
    given = {key: theta for key, theta in thetas.items() if theta is not None}
    if len(set(given.values())) > 1:
        both = " and ".join(f"{theta:g} in {key}" for key, theta in given.items())
        raise InputError(f"{where} has two values for the RoPE base, {both}: leave the right one")
    found = list(spellings.values())
    if len(found) == 2 and found[0] != found[1]:
        raise InputError(
            f"{where} has rope_parameters and rope_scaling that say different things:"
            " remove the one that is not meant"
        )
    return {"rope_theta": next(iter(given.values()), 10000.0), **(found[0] if found else {})}


def scaling(arch: Architecture) -> dict[str, Any] | None:
    """The `rope_scaling` that says what an architecture has; None for the default type."""
    if arch.rope_type == "default":
        return None
    names = FIELDS[arch.rope_type]
    return {"rope_type": arch.rope_type, **{key: getattr(arch, names[key]) for key in names}}


def _read_one(rope: dict[str, Any], where: str) -> dict[str, Any]:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in FIELDS or rope.get("type", kind) != kind:
        key = "rope_type" if "rope_type" in rope and kind not in FIELDS else "type"
        raise bad(where, rope, key, f"but maxlite knows the types {', '.join(FIELDS)}")
    names = FIELDS[kind]
    for key in rope:
        if key == "partial_rotary_factor" and rope[key] in (1, None):
            continue
        if key not in names and key not in ("rope_type", "type", "rope_theta"):
            raise bad(where, rope, key, f"which maxlite does not know for RoPE type {kind}")
    fields: dict[str, Any] = {"rope_type": kind}
    if "rope_theta" in rope:
        fields["rope_theta"] = number(rope, "rope_theta", where)
    for key, name in names.items():
        if key != "original_max_position_embeddings":
            fields[name] = number(rope, key, where)
        elif key in rope:
            fields[name] = whole(rope, key, where)
    return fields
