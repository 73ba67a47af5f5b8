"""Text to token ids and back, with the tokenizer files of a Hugging Face folder.

Ids follow the model file itself (SentencePiece's own segmentation, or the pipeline written in
tokenizer.json). Text is only ever text: the string of a special token in it is encoded as its
characters, and BOS and EOS are placed by whoever builds sequences, never here.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path

import numpy as np

from maxlite import storage
from maxlite.errors import InputError
from maxlite.storage import Url
from maxlite.tokenizer.backends import Backend
from maxlite.tokenizer.json_file import JsonFile
from maxlite.tokenizer.pieces import BYTE
from maxlite.tokenizer.sentencepiece_file import SentencePieceFile
from maxlite.tokenizer.settings import Files, Settings, read_model_ends, read_settings

_STANDARD = ("tokenizer.json", "tokenizer.model")
COMPANIONS = (  # what belongs to the model file in a folder
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
)


class Tokenizer:
    """A tokenizer, as read from its files.

    Attributes:
      path: the model file.
      rows: 1 + the largest id, added tokens included: the rows a model's embedding must have.
      bos, eos, unk: ids, or None where there is no such token; text gets the last where no other
        piece can write it.
      files: what belongs to it, by the name it should have in a model folder.
      fingerprint: SHA-256 (hex) of the model file and the settings that change how text is encoded.
    """

    def __init__(self, path: Path, data: bytes, settings: Settings, model_ends: dict[str, int]):
        self.path = path
        self.files: Files = {}
        prefix_space = settings.prefix_space or path.suffix == ".json"  # which says it itself
        self._backend: Backend
        if path.suffix == ".json":
            self._backend = JsonFile(path, data, settings.special)
        else:
            self._backend = SentencePieceFile(path, data, settings.special, prefix_space)
        extra = self._extra(settings.added)
        self._literal = {**self._backend.literal, **extra}
        self._extra_ids = {text: index for index, text in extra.items()}
        self.rows = 1 + max(self._backend.rows - 1, *extra) if extra else self._backend.rows
        self.bos = self._end("bos", settings, model_ends)
        self.eos = self._end("eos", settings, model_ends)
        self.unk = self._backend.unk
        digest = hashlib.sha256(data)
        digest.update(json.dumps([sorted(self._literal.items()), prefix_space]).encode())
        self.fingerprint = digest.hexdigest()

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Encodes many texts in parallel threads, without BOS and EOS.

        Returns:
          One int32 array [T] per text.

        Raises:
          InputError: the tokenizer has no way to write some character.
        """
        try:
            return self._backend.encode(list(texts))
        except Exception as error:  # bare Exceptions again
            raise InputError(f"{self.path} cannot encode some text: {error}") from error

    def encode_one(self, text: str) -> np.ndarray:
        """Encodes one text; an int32 array [T]."""
        return self.encode([text])[0]

    def encode_inside(self, parts: Sequence[bytes]) -> list[np.ndarray]:
        """Encodes parts of texts as they are inside one: no space is put before them.

        Args:
          parts: UTF-8, which need not begin or end with a whole character.

        Returns:
          One int32 array [T] per part; empty where this tokenizer cannot write the part.

        Raises:
          InputError: the library cannot encode one.
        """
        try:
            encoded = self._backend.encode_inside(list(parts))
        except Exception as error:
            raise InputError(f"{self.path} cannot encode some text: {error}") from error
        unk = self._backend.unk
        return [ids[:0] if unk is not None and (ids == unk).any() else ids for ids in encoded]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text that ids stand for.

        Args:
          ids: token ids; those without a piece stand for nothing.
          skip_special: leave out BOS and EOS. Other special tokens are always written as they are.
        """
        kept = [int(i) for i in ids]
        if skip_special:
            kept = [i for i in kept if i not in (self.bos, self.eos)]
        parts: list[str] = []
        for whole, run in groupby(kept, key=self._literal.__contains__):
            if whole:
                parts += [self._literal[i] for i in run]
                continue
            span = [i for i in run if self._backend.piece(i) is not None]
            if not parts:
                parts.append(self._backend.decode(span))
            else:
                # A decoder drops the space before its first piece; here that isn't a text's start.
                anchor = [int(self.encode_one("a")[-1])]
                head = self._backend.decode(anchor)
                parts.append(self._backend.decode(anchor + span)[len(head) :])
        return "".join(parts)

    def piece(self, index: int) -> str:
        """The piece an id stands for, as the tokenizer's file writes it; "" if there is none."""
        return self._literal.get(index) or self._backend.piece(index) or ""

    def raw(self, index: int) -> bytes | None:
        """The bytes of text an id stands for; None if text never produces it (special tokens)."""
        return None if index in self._literal else self._backend.raw(index)

    def falls_back(self, index: int) -> bool:
        """Whether an id is a byte ("<0x0A>") that text falls back to where it has no piece."""
        raw = self.raw(index)
        return raw is not None and len(raw) == 1 and bool(BYTE.fullmatch(self.piece(index)))

    def find(self, piece: str) -> int | None:
        """The id of a piece, None if there is no such piece."""
        return self._extra_ids.get(piece, self._backend.find(piece))

    def _extra(self, added: dict[int, str]) -> dict[int, str]:
        """The tokens that only the settings know, checked against those of the model file."""
        extra = {}
        for index, text in added.items():
            known, elsewhere = self._backend.piece(index), self._backend.find(text)
            if known is None and elsewhere is None:
                extra[index] = text
            elif known != text:
                other = f"has {known!r} there" if known is not None else f"has it at {elsewhere}"
                raise InputError(
                    f"{self.path.parent} gives the id {index} to the added token {text!r}, but "
                    f"{self.path.name} {other}; put one of the two right"
                )
        if len(set(extra.values())) < len(extra):
            raise InputError(f"{self.path.parent} adds the same token twice with different ids")
        return extra

    def _end(self, key: str, settings: Settings, model_ends: dict[str, int]) -> int | None:
        own = self._backend.ends if self.path.suffix != ".json" else {}
        for ends in (settings.ends, own, model_ends, self._backend.ends):
            if key not in ends:
                continue
            end = ends[key]
            index = self.find(end) if isinstance(end, str) else end
            if index is None and end is not None:
                raise InputError(
                    f"{self.path.parent} names {end!r} as its {key}_token, which {self.path.name} "
                    "does not have; correct it in tokenizer_config.json"
                )
            if index is not None and not self.piece(index):
                raise InputError(
                    f"{self.path.parent} names {index} as its {key}_token_id, which "
                    f"{self.path.name} does not have; name the token in tokenizer_config.json"
                )
            return index
        return None


def load_tokenizer(source: str | os.PathLike[str] | Url | Files) -> Tokenizer:
    """Loads a tokenizer.

    Args:
      source: a folder (tokenizer.json is preferred, then tokenizer.model, then the only *.model),
        one .json or .model file, or the files of a folder that is not there yet. The settings
        beside a file count if it has a standard name. An address is taken as a folder.

    Raises:
      InputError: nothing there, a damaged file, or files that contradict each other.
    """
    if isinstance(source, Mapping):
        name = _main(source, "the model")
        file = source[name]
        return _loaded(name, source, file.parent if isinstance(file, Path) else Path())
    given = storage.place(source)
    if isinstance(given, Url):
        return load_tokenizer(_fetched(given))
    if given.is_dir():
        files = _in(given)
        return _loaded(_main(files, str(given)), files, given)
    if not given.is_file():
        raise InputError(f"there is no tokenizer at {given}; name a folder or a file")
    if given.suffix not in (".json", ".model"):
        raise InputError(f"{given} is not a tokenizer; name a folder, a .json or a .model file")
    if given.name not in _STANDARD:
        # A lone file gets the name under which a folder's tokenizer is looked for.
        return _loaded(
            "tokenizer" + given.suffix, {"tokenizer" + given.suffix: given}, given.parent
        )
    # Of two forms only the one that is read counts, or a copy would differ.
    others = {n: f for n, f in _in(given.parent).items() if n not in _STANDARD}
    return _loaded(given.name, {given.name: given, **others}, given.parent)


def _fetched(folder: Url) -> Files:
    """The files of a tokenizer's folder at an address."""
    ours = (*_STANDARD, "*.model", *COMPANIONS)
    inside = (file for file in folder.iterdir() if any(fnmatch(file.name, own) for own in ours))
    found = {file.name: file.read_bytes() for file in inside if file.is_file()}
    if not found:
        raise InputError(f"there is no tokenizer at {folder}; name a folder that has one")
    return found


def _in(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}


def _loaded(name: str, files: Files, where: Path) -> Tokenizer:
    file = files[name]
    path = where / name if isinstance(file, bytes) else file
    try:
        data = file if isinstance(file, bytes) else file.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    settings, ends = read_settings(files, where), read_model_ends(files, where)
    tokenizer = Tokenizer(path, data, settings, ends)
    beside = {n: f for n, f in files.items() if any(fnmatch(n, own) for own in COMPANIONS)}
    tokenizer.files = {name: file} | beside
    return tokenizer


def check_rows(has_rows: Tokenizer, rows: int, where: str = "the model") -> None:
    """Refuses a tokenizer (or anything else with `rows` and `path`) whose ids exceed a table.

    Args:
      has_rows: `rows` is 1 + its largest id.
      rows: rows of the model's embedding.
      where: what has these rows, for the sentence.

    Raises:
      InputError: they do.
    """
    if has_rows.rows > rows:
        raise InputError(
            f"{has_rows.path} has token ids up to {has_rows.rows - 1}, but {where} has only {rows} "
            "rows; use the model's own tokenizer, or extend its vocabulary first"
        )


def _main(files: Files, where: str) -> str:
    """The name of the model file among those of a folder."""
    for name in _STANDARD:
        if name in files:
            return name
    models = sorted(name for name in files if name.endswith(".model"))
    if len(models) == 1:
        return models[0]
    if models:
        names = ", ".join(models)
        raise InputError(f"{where} has several *.model files ({names}); name the one to use")
    raise InputError(
        f"{where} has no tokenizer.json and no SentencePiece *.model; add one of them (the "
        "transformers library writes tokenizer.json with tokenizer.save_pretrained)"
    )
