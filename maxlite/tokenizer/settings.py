"""What the small JSON files beside a tokenizer's model say about it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maxlite.errors import InputError

Files = Mapping[str, Path | bytes]  # the files of a folder, or what they hold, by name
_NAMED = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "pad", "sep", "cls", "mask"))


@dataclass
class Settings:
    """The part of a tokenizer's settings that changes ids.

    `bos` and `eos` are the tokens' strings, or ids where only a model config names them; None says
    that there is none, and an absent key that the folder does not say.
    """

    ends: dict[str, str | int | None] = field(default_factory=dict)  # keys: "bos", "eos"
    special: set[str] = field(default_factory=set)  # strings that are never matched in raw text
    added: dict[int, str] = field(default_factory=dict)  # tokens these files add or repeat
    prefix_space: bool = True  # SentencePiece: whether a text gets a space before it


def read_settings(files: Files, where: Path) -> Settings:
    """Reads the settings of a tokenizer folder; files that are missing say nothing.

    Args:
      files: those of the folder.
      where: the folder, for messages.

    Raises:
      InputError: a file is not the JSON it should be, or two files contradict each other.
    """
    config = read_json(files, "tokenizer_config.json", where)
    tokens_map = read_json(files, "special_tokens_map.json", where)
    settings = Settings(prefix_space=config.get("add_prefix_space") is not False)
    for file in (config, tokens_map):
        for key in _NAMED:
            text = _content(file.get(key))
            if text:
                settings.special.add(text)
            # An empty string stands for "not said": folders from early converters have it.
            if key in ("bos_token", "eos_token") and key in file and text != "":
                settings.ends.setdefault(key[:3], text)
        for key in ("additional_special_tokens", "extra_special_tokens"):
            more = file.get(key) or []
            for token in more.values() if isinstance(more, dict) else more:
                settings.special.add(_content(token) or "")
    settings.special.discard("")
    added = read_json(files, "added_tokens.json", where)
    _read_added(where, added, config, settings)
    return settings


def read_model_ends(files: Files, where: Path) -> dict[str, int]:
    """The ids of BOS and EOS that the model's own config names, for folders that say no more."""
    ends: dict[str, int] = {}
    for name in ("config.json", "generation_config.json"):
        file = read_json(files, name, where)
        for key in ("bos", "eos"):
            value = file.get(f"{key}_token_id")
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, int) and value >= 0:
                ends.setdefault(key, value)
    return ends


def read_json(files: Files, name: str, where: Path) -> dict[str, Any]:
    """The object a JSON file holds; an empty one if there is no such file.

    Raises:
      InputError: it cannot be read, or holds something else.
    """
    file = files.get(name, b"{}")
    try:
        value = json.loads(file if isinstance(file, bytes) else file.read_bytes())
    except (ValueError, OSError) as error:
        raise InputError(f"{where / name} cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{where / name} must hold a JSON object")
    return value


def _content(token: Any) -> str | None:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else None


def _read_added(
    where: Path, added: dict[str, Any], config: dict[str, Any], settings: Settings
) -> None:
    path = where / "added_tokens.json"
    pairs: list[tuple[Any, Any, bool, Path]] = [
        (value, text, False, path) for text, value in added.items()
    ]
    path = where / "tokenizer_config.json"
    for key, token in (config.get("added_tokens_decoder") or {}).items():
        special = isinstance(token, dict) and bool(token.get("special"))
        pairs.append((key, _content(token), special, path))
    for key, text, special, path in pairs:
        index = int(key) if str(key).isascii() and str(key).isdigit() else -1
        if index < 0 or not isinstance(text, str) or not text:
            raise InputError(f"{path} adds the token {text!r} under {key!r}; expected an id")
        if settings.added.setdefault(index, text) != text:
            raise InputError(
                f"{path} gives the id {index} to {text!r}, another file of the folder to "
                f"{settings.added[index]!r}; put one of the two right"
            )
        if special:
            settings.special.add(text)
