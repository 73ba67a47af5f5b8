"""Models on the Hugging Face hub: what of them is fetched, at which commit, and what is known then.

huggingface_hub does the work: the cache, its locks, retries, progress bars, and the choice of a
token (HF_TOKEN, else that of `hf auth login`). Only data is fetched, never code or pickles.
"""

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maxlite.errors import InputError
from maxlite.storage import Place

ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
CARD = "README.md"
SIGN_IN = "log in with `hf auth login`, set HF_TOKEN, or give --token_file"
_CARD_BYTES = 1 << 16  # of a card, in which its front matter must end


def use_token(file: str) -> None:
    """Lets a token in a file be used from here on, by this process and those that it starts.

    A token is given in a file, not itself: everybody on a machine can read a command line.

    Args:
        file: Its path; "" changes nothing.

    Raises:
        InputError: There is no such file, or it holds no token; what it holds is never said.
    """
    if not file:
        return
    try:
        token = Path(file).expanduser().read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it holds something else than a token"
        raise InputError(f"--token_file={file} cannot be used: {why}") from None
    if not token or len(token.split()) > 1:
        raise InputError(f"--token_file={file} must hold a token and nothing else")
    os.environ["HF_TOKEN"] = token


def fetch(name: str, revision: str, patterns: Iterable[str], never: Iterable[str]) -> Path:
    """The folder of a model in the hub's cache, downloaded as far as it is not there.

    Without a connection a snapshot that is whole in the cache is used.

    Args:
        name: "organisation/name".
        revision: A branch, a tag or a commit; "" for the main branch.
        patterns: The files wanted, in the uppermost folder, or in one that a pattern names.
        never: Those of them that are not.

    Raises:
        InputError: It cannot be had; the sentence says what to do.
    """
    import huggingface_hub

    patterns = list(patterns)
    deeper = [f"*/{pattern}" for pattern in patterns if "/" not in pattern]
    try:
        return Path(
            huggingface_hub.snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=patterns,
                ignore_patterns=[*never, *deeper],
            )
        )
    except Exception as error:  # the hub's errors share no base class
        raise InputError(_why(name, revision, error)) from error


def _why(name: str, revision: str, error: Exception) -> str:
    """What went wrong, and what to do."""
    from huggingface_hub import constants, errors

    asked, page = _asked(name, revision), f"{constants.ENDPOINT}/{name}"
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        return f"{name} is gated: accept its conditions on {page}, then {SIGN_IN}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name} has no branch, tag or commit {revision!r}: {page}/tree/main lists them"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"there is no folder {name} here, and the hub shows no such model: correct the name,"
            f" or if it is private, {SIGN_IN}"
        )
    if status == 401:
        return f"the hub does not accept the token that it was sent for {name}: {SIGN_IN}"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if constants.HF_HUB_OFFLINE:
            return (
                f"HF_HUB_OFFLINE is set, and {asked} is not whole in the cache"
                f" {constants.HF_HUB_CACHE}: unset it, or bring the cache from another machine"
            )
        return (
            f"{constants.ENDPOINT} cannot be reached ({_told(error.__cause__ or error)}), and"
            f" {asked} is not whole in the cache {constants.HF_HUB_CACHE}: connect this machine,"
            " or bring the cache from another"
        )
    return f"downloading {asked} from {constants.ENDPOINT} failed: {_told(error)}"


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _asked(name: str, revision: str) -> str:
    return f"{name} at {revision}" if revision else name


def snapshot(folder: Place) -> tuple[str, str]:
    """The model and the commit that a folder of the hub's cache holds; "" and "" of others."""
    parts = Path(str(folder)).parts[-3:]
    if len(parts) < 3 or parts[1] != "snapshots" or not parts[0].startswith("models--"):
        return "", ""
    return parts[0].removeprefix("models--").replace("--", "/", 1), parts[2]


def source(folder: Place) -> dict[str, str]:
    """What a model that grows from a folder says of it, in `run.json` and `maxlite.json`.

    Returns:
        {"model": hub id, or the folder's name, "commit", "license", "license_name",
        "license_link"}, as far as the folder tells; the licence is what its model card says.
    """
    name, commit = snapshot(folder)
    told = _front_matter(folder / CARD)
    licence = {
        key: value
        for key in ("license", "license_name", "license_link")
        if isinstance(value := told.get(key), str) and value
    }
    known = {"model": name or folder.resolve().name, "commit": commit}
    return {key: value for key, value in (known | licence).items() if value}


def _front_matter(card: Place) -> dict[str, Any]:
    """The YAML at the beginning of a model card; {} where there is none that can be read."""
    import yaml

    if not card.is_file():
        return {}
    with card.open("rb") as file:
        text = file.read(_CARD_BYTES).decode("utf-8-sig", "ignore")
    found = re.match(r"---\s*?\n(.*?)\n---\s*?(\n|$)", text.replace("\r\n", "\n"), re.DOTALL)
    with contextlib.suppress(yaml.YAMLError):
        told = yaml.safe_load(found[1]) if found else None
        return told if isinstance(told, dict) else {}
    return {}
