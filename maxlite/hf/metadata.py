"""`maxlite.json`, the note that maxlite leaves in a model folder about where it came from.

Every key is optional and unknown ones are kept, so that an older maxlite carries what a newer one
wrote.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import maxlite
from maxlite import storage
from maxlite.errors import InputError
from maxlite.hf import json_values
from maxlite.storage import Place
from maxlite.transforms import Lora

NAME = "maxlite.json"
FORMAT = 1
TYPES = {
    **dict.fromkeys(("base", "origin", "vocabulary", "layers", "lora"), dict),
    "kept_ids": str,
    "adapters": list,  # that were merged into the weights
    "inherited": list,  # what smaller models were made by, one after the other
    "history": list,
}


def read(folder: Place) -> dict[str, Any]:
    """The parsed `maxlite.json` of a folder, or an empty dictionary if it has none."""
    path = storage.place(folder) / NAME
    if not path.is_file():
        return {}
    metadata = json_values.parse(path.read_bytes(), str(path))
    check(metadata, str(path))
    return metadata


def write(folder: Path, metadata: dict[str, Any]) -> None:
    """Write `maxlite.json` into a folder that is being made."""
    (Path(folder) / NAME).write_bytes(render(metadata))


def render(metadata: dict[str, Any]) -> bytes:
    """The content of `maxlite.json`."""
    metadata = {"format": FORMAT, **metadata}
    check(metadata, NAME)
    return json_values.dump(metadata)


def check(metadata: dict[str, Any], where: str) -> None:
    """Refuses metadata in which a known key holds something else than it should.

    Raises:
        InputError: with the key's name in it.
    """
    if metadata.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"{where} has format {metadata['format']!r} where this maxlite reads {FORMAT}:"
            " use a newer one"
        )
    for key, kind in TYPES.items():
        if key in metadata and not isinstance(metadata[key], kind):
            raise InputError(f"{where} has {key!r}: {metadata[key]!r}, expected a {kind.__name__}")
    for key in ("base_rows", "rows"):
        rows = metadata.get("vocabulary", {}).get(key, 1)
        if type(rows) is not int or rows <= 0:
            raise InputError(f"{where} has vocabulary.{key} {rows!r}, expected a positive number")
    kept = metadata.get("kept_ids", "kept_ids")
    if PurePosixPath(kept).name != kept:
        raise InputError(f"{where} has kept_ids {kept!r}, expected the name of a file beside it")


def based(metadata: dict[str, Any], source: Mapping[str, str]) -> dict[str, Any]:
    """The same with `base`: what the model was before maxlite changed it for the first time.

    Args:
        metadata: Of the model; with a history but without a base, that base is not known.
        source: The folder it was opened from, as `hub.source` tells of it.
    """
    known = "base" in metadata or "history" in metadata or not source
    return metadata if known else {**metadata, "base": dict(source)}


def noted(metadata: dict[str, Any], tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same with one more line of history: what `tool` did with which arguments."""
    entry = {"tool": tool, "arguments": arguments, "version": maxlite.__version__}
    return {**metadata, "history": [*metadata.get("history", []), entry]}


def base_rows(metadata: dict[str, Any], vocab_size: int, where: str) -> int:
    """The vocabulary rows from before the latest extension, 0 if there was none.

    Raises:
        InputError: they are more than there are rows.
    """
    rows = metadata.get("vocabulary", {}).get("base_rows", 0)
    if rows > vocab_size:
        raise InputError(
            f"{where} has vocabulary.base_rows {rows}, more than the model's {vocab_size} rows"
        )
    return rows


def inserted(metadata: dict[str, Any], where: str) -> list[int]:
    """The layers that an expansion has inserted; [] if there was none.

    Raises:
        InputError: it is no list of numbers.
    """
    layers = metadata.get("layers", {}).get("inserted", [])
    if not isinstance(layers, list) or any(type(i) is not int for i in layers):
        raise InputError(
            f"{where} has layers.inserted {layers!r}, expected a list of layer numbers"
        )
    return layers


def lora(metadata: dict[str, Any], where: str) -> Lora:
    """The adapters that a model's weights have beside them; rank 0 if it has none.

    Raises:
        InputError: they are no settings of adapters.
    """
    default = dataclasses.asdict(Lora())
    found = {k: v for k, v in metadata.get("lora", {}).items() if k not in ("adapter", "tables")}
    wrong = [k for k, v in found.items() if k not in default or type(v) is not type(default[k])]
    if wrong or (found and found.get("rank", 0) < 1):
        raise InputError(f"{where} has lora {found!r}, expected settings of adapters: restore it")
    return Lora(**found)
