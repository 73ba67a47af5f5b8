"""What a smaller model shall be like: its sizes, from a config.json or as numbers."""

import dataclasses
from pathlib import Path
from typing import Any

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf import config_json, json_values
from maxlite.hf.folder import CONFIG

SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
FREE = {  # what a target may say otherwise, as it does not change what is computed
    *SIZES,
    *("num_key_value_heads", "initializer_range", "bos_token_id", "eos_token_id"),
    *("base_rows", "inserted_layers", "lora"),
}


def smaller(before: Architecture, where: str, **sizes: int) -> Architecture:
    """An architecture with some sizes set; key-value heads shrink with the attention heads.

    Args:
        before: Of the model that there is.
        where: Its folder, for messages.
        sizes: Of `SIZES`; 0 leaves one as it is.

    Raises:
        InputError: one is larger than before or negative, or the heads are no whole groups.
    """
    wanted = {key: sizes.get(key) or getattr(before, key) for key in SIZES}
    for key, size in wanted.items():
        if not 0 < size <= getattr(before, key):
            raise InputError(
                f"{key} {size} is not between 1 and the {getattr(before, key)} of {where}:"
                " inheriting can only leave out"
            )
    heads, group = wanted["num_attention_heads"], _group(before)
    if heads % group:
        raise InputError(
            f"num_attention_heads {heads} is not a multiple of {group}: in {where} that many share"
            " a key-value head, and only whole groups are kept"
        )
    width = wanted["hidden_size"]
    if width % heads and not before.hidden_size % before.num_attention_heads:
        raise InputError(
            f"num_attention_heads {heads} does not divide hidden_size {width}, and transformers"
            " reads no such model, whatever its head_dim: choose a multiple"
        )
    changed: dict[str, Any] = {**wanted, "num_key_value_heads": heads // group}
    return dataclasses.replace(before, **changed)


def of_target(target: str, before: Architecture, where: str) -> dict[str, int]:
    """The sizes that a config.json, or that of a folder, asks for.

    Args:
        target: The file or folder.
        before: Of the model that there is.
        where: Its folder, for messages.

    Raises:
        InputError: it cannot be read, or asks for more than other sizes.
    """
    path = Path(target).expanduser()
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"there is no {file}: the target is a config.json, or a folder with one")
    after = config_json.architecture(json_values.parse(file.read_bytes(), str(file)), str(file))
    if after.head_dim != before.head_dim:
        raise InputError(
            f"{file} has head_dim {after.head_dim} where {where} has {before.head_dim}: heads are"
            f' left out, never narrowed, so write "head_dim": {before.head_dim} into it'
        )
    if after.vocab_size != before.vocab_size:
        raise InputError(
            f"{file} has vocab_size {after.vocab_size} where {where} has {before.vocab_size}:"
            " inheriting keeps every row, so change the vocabulary before (compact_vocab)"
        )
    if _group(after) != _group(before):
        raise InputError(
            f"{file} has {after.num_attention_heads} heads for {after.num_key_value_heads}"
            f" key-value heads, but in {where} {_group(before)} share one: only whole groups are"
            " kept"
        )
    theirs, ours = dataclasses.asdict(after), dataclasses.asdict(before)
    differ = [f"{k} {theirs[k]!r}" for k in ours if k not in FREE and theirs[k] != ours[k]]
    if differ:
        raise InputError(
            f"{file} has {', '.join(differ)}, which {where} has not: only sizes can change"
        )
    return {key: getattr(after, key) for key in SIZES}


def _group(arch: Architecture) -> int:
    return arch.num_attention_heads // arch.num_key_value_heads
