"""The tokenizer files of a model, exchanged for those of another tokenizer."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maxlite.errors import InputError
from maxlite.hf import json_values
from maxlite.hf.folder import without_tokenizer

CONFIG = "tokenizer_config.json"
SETTINGS = (CONFIG, "special_tokens_map.json", "added_tokens.json")
TEMPLATES = ("chat_template", "additional_chat_templates")

Files = Mapping[str, Path | bytes]


def exchanged(old: Files, new: Files, same_ids: bool) -> dict[str, Path | bytes]:
    """A model's companion files once it has another tokenizer.

    What a lone tokenizer file leaves unsaid goes on to hold: the settings of the old one, without
    which `transformers` encodes in another way, and chat templates.

    Args:
        old: The companion files of the model.
        new: The files of the tokenizer.
        same_ids: Whether what the settings say of ids holds for the new tokenizer, too.
    """
    files = without_tokenizer(old) | dict(new)
    if not any(name in new for name in SETTINGS):
        files |= {name: old[name] for name in SETTINGS if name in old}
        if not same_ids:
            files.pop("added_tokens.json", None)
            settings = parsed(files, CONFIG)
            if settings.pop("added_tokens_decoder", None):
                files[CONFIG] = json_values.dump(settings)
    if any(name.startswith(TEMPLATES) for name in new) or parsed(files, CONFIG).get(TEMPLATES[0]):
        return files
    files |= {name: file for name, file in old.items() if name.startswith(TEMPLATES)}
    for name, template in _templates(parsed(old, CONFIG)).items():
        files.setdefault(name, template.encode())
    return files


def _templates(config: Mapping[str, Any]) -> dict[str, str]:
    """The chat templates within a tokenizer_config.json, by the file each would have."""
    said = config.get(TEMPLATES[0]) or []
    if isinstance(said, str):
        return {"chat_template.jinja": said}
    files = {}
    for one in said:
        name = str(one["name"])
        if not re.fullmatch(r"[\w-]+", name):
            raise InputError(
                f"{CONFIG} has a chat template named {name!r}, which cannot be the name of a file:"
                " rename it there"
            )
        stem = "chat_template" if name == "default" else f"additional_chat_templates/{name}"
        files[f"{stem}.jinja"] = str(one["template"])
    return files


def parsed(files: Files, name: str) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is no such file."""
    file = files.get(name, b"{}")
    return json_values.parse(file if isinstance(file, bytes) else file.read_bytes(), name)
