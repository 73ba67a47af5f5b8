"""What tells one state of a recipe's inputs from another, without reading them all."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from maxlite.config import Source
from maxlite.data.sources import expand
from maxlite.errors import InputError
from maxlite.storage import is_url

SAMPLE = 1 << 20  # bytes at each end of a file that are looked at


def of(inputs: Mapping[str, str], missing: bool = False) -> dict[str, str]:
    """Fingerprints of what a recipe reads and does not make.

    Args:
      inputs: keys of the recipe to what they name: a folder, or files as globs with commas between
        them. What is empty, at an address or on a hub has no fingerprint.
      missing: pass over what is not there, as a plan may.

    Returns:
      What the keys name to hexadecimal SHA-256 of names, sizes, and beginnings and ends of files.

    Raises:
      InputError: a key names what is not there.
    """
    found = {}
    for key, text in inputs.items():
        try:
            files = [
                file for part in text.split(",") if part for file in _files(part, key == "chat")
            ]
        except InputError as e:
            if missing:
                continue
            raise InputError(f"config key '{key}': {e}") from e
        if files:
            found[text] = _digest(files)
    return found


def _files(part: str, chat: bool) -> Iterable[Path]:
    path = Path(part).expanduser()
    if is_url(part):
        return []
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.is_file())
    return [Path(str(file)) for file in expand(Source(part, template="own" if chat else ""))]


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            digest.update(file.read(SAMPLE))
            file.seek(max(0, size - SAMPLE))
            digest.update(file.read(SAMPLE))
    return digest.hexdigest()
