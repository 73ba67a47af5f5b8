"""The files beside a tokenizer's model: settings, special tokens, chat template; and its folder."""

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxlite import outputs
from maxlite.errors import InputError
from maxlite.tokenizer.json_form import added_token
from maxlite.tokenizer.settings import Files, read_json
from maxlite.tokenizer.tokenizer import COMPANIONS

if TYPE_CHECKING:
    from maxlite.tokenizer.definition import Definition

CONFIG, SPECIAL_MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
# What still holds when the vocabulary changes; vocab.json, merges.txt and the like would not.
_CARRIED = (CONFIG, SPECIAL_MAP, ADDED, "chat_template*")
_MADE = ("kept_ids.txt", "refine.json", "counts.json")  # by tools, beside what they are about


def carried(files: Files) -> dict[str, Path | bytes]:
    """Those that go along with a changed vocabulary."""
    return {n: f for n, f in files.items() if any(fnmatch(n, pattern) for pattern in _CARRIED)}


def with_special(
    files: Files, special: Sequence[str], first: int, where: str
) -> dict[str, Path | bytes]:
    """The files that tell of more special tokens, with ids from `first` on."""
    changed: dict[str, Path | bytes] = {}
    config = read_json(files, CONFIG, Path(where))
    if special and config.get("added_tokens_decoder"):
        for index, text in enumerate(special, first):
            entry = added_token(index, text)
            del entry["id"]
            config["added_tokens_decoder"][str(index)] = entry
        changed[CONFIG] = _dump(config)
    pads = [text for text in special if text.strip("<>[]|").lower() == "pad"]
    if pads and not config.get("pad_token"):
        changed[CONFIG] = _dump({**config, "pad_token": pads[0]})
        beside = read_json(files, SPECIAL_MAP, Path(where))
        if beside and not beside.get("pad_token"):
            changed[SPECIAL_MAP] = _dump({**beside, "pad_token": pads[0]})
    return changed


def renumbered(files: Files, place: Mapping[int, int], where: str) -> dict[str, Path | bytes]:
    """The files that name ids, with new ids by old ones."""
    changed: dict[str, Path | bytes] = {}
    config = read_json(files, CONFIG, Path(where))
    if decoder := config.get("added_tokens_decoder"):
        decoder = {str(place[int(i)]): t for i, t in decoder.items() if int(i) in place}
        changed[CONFIG] = _dump({**config, "added_tokens_decoder": decoder})
    if added := read_json(files, ADDED, Path(where)):
        changed[ADDED] = _dump({text: place[i] for text, i in added.items() if i in place})
    return changed


def minimal_config(tokens: Mapping[str, str]) -> bytes:
    """A tokenizer_config.json by which transformers takes the pipeline of tokenizer.json as it is.

    Its class for Llama would put its own in that place, which drops a space before a text.

    Args:
      tokens: strings of the special tokens there are, by "bos", "eos" and "unk".
    """
    return _dump(
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **{f"{key}_token": text for key, text in tokens.items()},
            "clean_up_tokenization_spaces": False,
            "model_max_length": 10**30,
        }
    )


def write_definition(
    definition: "Definition", out: str | os.PathLike[str], overwrite: bool = False
) -> None:
    """Writes the files of a tokenizer as a folder, all or nothing.

    Args:
      definition: what to write.
      out: the folder to make.
      overwrite: replace a folder that is there; it may hold nothing but a tokenizer.

    Raises:
      InputError: `out` exists, or cannot be written.
    """
    target = Path(os.path.realpath(Path(out).expanduser()))
    check_folder(target, overwrite)
    with outputs.new_folder(target, overwrite) as folder:
        outputs.fill(folder, definition.files)


def check_folder(target: Path, overwrite: bool = False) -> None:
    """Refuses a name that a new tokenizer folder cannot take; cheap, for before the work.

    Raises:
      InputError: something is there that may not be replaced.
    """
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise InputError(f"{target} exists already: choose another name, or pass --overwrite")
    names = [path.name for path in target.iterdir()] if target.is_dir() else [target.name]
    ours = (*COMPANIONS, *_MADE)
    if not target.is_dir() or not all(any(fnmatch(n, p) for p in ours) for n in names):
        raise InputError(
            f"{target} is more than a tokenizer, so it is not overwritten: choose another name"
        )


def _dump(value: dict[str, Any]) -> bytes:
    return outputs.json_text(value).encode()
