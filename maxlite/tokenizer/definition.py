"""A tokenizer as data: its pieces, and the files that say what they are.

SentencePiece models (`tokenizer.model`) and `tokenizer.json` are both read, extended and cut down;
where a folder has both, they stay two forms of the same thing.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maxlite.errors import InputError
from maxlite.tokenizer import companions, conversion, json_form
from maxlite.tokenizer import proto as sp
from maxlite.tokenizer.companions import CONFIG, write_definition
from maxlite.tokenizer.json_form import Tree
from maxlite.tokenizer.pieces import SPACE, Pair, Piece, listed, splits
from maxlite.tokenizer.settings import Files, Settings, read_json, read_settings
from maxlite.tokenizer.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Definition", "Piece", "open_definition", "write_definition"]

MODEL, JSON = "tokenizer.model", "tokenizer.json"


class Definition:
    """What the files of a tokenizer say. It is never changed in place.

    Attributes:
      where: the folder or file it was read from, for messages.
      files: all that a user needs, by name.
      form: "sentencepiece" (it has a tokenizer.model; tokenizer.json goes with it, unless
        `without_json` says why there is none), "byte_fallback" (a tokenizer.json whose pieces are
        characters, as Llama 2's) or "byte_level" (one whose pieces are bytes, as Llama 3's).
      model: "bpe" or "unigram".
      pieces: by id, without holes; tokens added outside of the model are among them.
      without_json: why a SentencePiece model has no tokenizer.json that segments as it does.
    """

    def __init__(self, files: Files, where: str):
        """Reads what the files hold.

        Args:
          files: by the names they have in a folder; tokenizer.model, tokenizer.json or both.
          where: for messages.

        Raises:
          InputError: damaged files, pieces that are empty or doubled, ids with holes, or two forms
            that contradict each other.
        """
        self.where, self.files = where, dict(files)
        self._settings: Settings = read_settings(self.files, Path(where))
        self._proto: Any = None
        if MODEL in files:
            self._proto = sp.parse(self.read(MODEL), self._at(MODEL))
        self._tree = json_form.parse(self.read(JSON), self._at(JSON)) if JSON in files else None
        self.without_json = ""
        if self._proto is not None:
            self.form, self.model = "sentencepiece", sp.model(self._proto)
            self.pieces: Sequence[Piece] = (*sp.pieces(self._proto), *self._outside())
            if self._tree is None:
                self.without_json = conversion.obstacle(self._proto, self._settings)
            else:
                theirs = json_form.pieces(self._tree, self._at(JSON))
                rows, alike = len(self._proto.pieces), json_form.model(self._tree) == self.model
                conversion.check_forms(self.pieces, theirs, rows, alike, where)
        else:
            assert self._tree is not None, "a tokenizer has at least one of the two files"
            in_bytes = json_form.byte_level(self._tree)
            self.form = "byte_level" if in_bytes else "byte_fallback"
            self.model = json_form.model(self._tree)
            self.pieces = tuple(json_form.pieces(self._tree, self._at(JSON)))

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """The ids by piece."""
        return {piece.text: index for index, piece in enumerate(self.pieces)}

    @property
    def tree(self) -> Tree | None:
        """What tokenizer.json holds, if there is one; not to be changed."""
        return self._tree

    def tokenizer(self, form: str = "") -> Tokenizer:
        """The encoder and decoder of these files.

        Args:
          form: "json" or "model" picks one of two; "" takes tokenizer.json if it is there.

        Raises:
          InputError: it has no such form.
        """
        name = {"json": JSON, "model": MODEL, "": JSON if JSON in self.files else MODEL}[form]
        if name not in self.files:
            reason = f": {self.without_json}" if self.without_json else ""
            raise InputError(f"{self.where} has no {name}{reason}")
        return load_tokenizer(
            {n: f for n, f in self.files.items() if n == name or n not in (MODEL, JSON)}
        )

    def extended(
        self,
        pieces: Sequence[str],
        *,
        scores: str = "ranked",
        merges: Sequence[Pair] | None = None,
        special: Sequence[str] = (),
    ) -> "Definition":
        """More pieces behind all ids; what is there keeps its id and its score.

        Args:
          pieces: new ones, as the file writes them, in the order of their ids.
          scores: of a SentencePiece model. "ranked" gives each its own score, downward from the
            lowest ordinary one, so that both forms segment alike; "published" gives all 0, as the
            published merges do, which tokenizer.json cannot express.
          merges: of a tokenizer.json alone, put behind its own; None makes each new piece of any
            two known ones. SentencePiece has no merges: there any two pieces do it.
          special: tokens that text never produces, behind the new pieces. One named "pad" becomes
            the padding token if there is none.

        Raises:
          InputError: a Unigram model, tokens added outside of the model, a piece that is empty,
            known or not written as this tokenizer writes text; no room for distinct scores; with
            "ranked", a piece that holds a character which is no piece.
        """
        if self.model != "bpe":
            raise InputError(
                f"{self.where} is a Unigram model, which cannot be extended; take a BPE tokenizer"
            )
        self._check_outside("extended")
        self._check_new(pieces, special)
        rows = len(self.pieces)
        files, tree = companions.carried(self.files), self._tree
        if tree is not None:
            tree = json_form.extended(tree, pieces, special, rows)
        if self._proto is not None:
            if scores == "ranked":
                self._check_characters(pieces)
            data = sp.extended(self.read(MODEL), self._at(MODEL), pieces, scores, special)
            files[MODEL] = data
            if tree is not None:
                before, now = json_form.merges(tree), sp.pieces(sp.parse(data, self._at(MODEL)))
                hidden = {token["content"] for token in tree.get("added_tokens") or []}
                every = conversion.updated(before, now, hidden, self.where)
                tree = json_form.with_merges(tree, every)
        elif scores == "published":
            raise InputError(f"{self._at(JSON)} has no scores, which published ones need")
        else:
            assert tree is not None
            whole = ("normal", "byte") if self.form == "byte_level" else ("normal",)
            known = {p.text for p in self.pieces if p.kind in whole} | set(pieces)
            fresh = splits(pieces, known) if merges is None else list(merges)
            json_form.check_merges(fresh, known, self._at(JSON))
            tree = json_form.with_merges(tree, [*json_form.merges(tree), *fresh])
        if tree is not None:
            files[JSON] = json_form.dump(tree)
        files |= companions.with_special(files, special, rows + len(pieces), self.where)
        return Definition(files, self.where)

    def kept(
        self, ids: np.ndarray | Sequence[int], unused: np.ndarray | Sequence[int] = ()
    ) -> "Definition":
        """Some of the pieces, in their order: new id i is old id `ids[i]`.

        Args:
          ids: int [R], ascending; all special tokens and byte pieces must be among them.
          unused: int [U], those of them that shall never be given out, but still be steps on the
            way to longer pieces. Only SentencePiece has that, so there is no tokenizer.json then.

        Raises:
          InputError: ids that are not ascending or not there, a special token or byte left out, or
            `unused` for a tokenizer.json alone.
        """
        keep, hidden = np.asarray(ids, np.int64), np.asarray(unused, np.int64)
        if keep.ndim != 1 or not len(keep) or (np.diff(keep) <= 0).any():
            raise InputError("the ids to keep must be one list, ascending, none twice")
        if keep[0] < 0 or keep[-1] >= len(self.pieces) or not np.isin(hidden, keep).all():
            raise InputError(
                f"the ids to keep must be from 0 to {len(self.pieces) - 1} for {self.where}, and "
                "those marked as unused be among them"
            )
        place = {old: new for new, old in enumerate(keep.tolist())}
        gone = [p for i, p in enumerate(self.pieces) if i not in place]
        if wrong := [p.text for p in gone if p.kind in ("special", "byte")]:
            raise InputError(
                f"special tokens and byte pieces of {self.where} must be kept; "
                f"{len(wrong)} are not: {listed(wrong)}"
            )
        marked = [self.pieces[i] for i in hidden.tolist()]
        if wrong := [p.text for p in marked if p.kind not in ("normal", "unused")]:
            raise InputError(
                f"only normal pieces of {self.where} can become unused, not {listed(wrong)}"
            )
        self._check_settings_only("cut down")
        files, tree = companions.carried(self.files), self._tree
        if self._proto is not None:
            inside = [i for i in place if i < len(self._proto.pieces)]
            chosen = hidden.tolist()
            files[MODEL] = sp.kept(self.read(MODEL), self._at(MODEL), inside, chosen)
        elif len(hidden):
            raise InputError(
                f"{self._at(JSON)} cannot mark pieces as unused; only a tokenizer.model can"
            )
        if tree is not None and not len(hidden):
            files[JSON] = json_form.dump(json_form.kept(tree, place))
        files |= companions.renumbered(files, place, self.where)
        return Definition(files, self.where)

    def read(self, name: str) -> bytes:
        """The bytes of one of the files.

        Raises:
          InputError: it cannot be read.
        """
        file = self.files[name]
        try:
            return file if isinstance(file, bytes) else file.read_bytes()
        except OSError as error:
            raise InputError(f"{self._at(name)} cannot be read: {error.strerror}") from None

    def _at(self, name: str) -> str:
        file = self.files[name]
        return f"{name} of {self.where}" if isinstance(file, bytes) else str(file)

    # --- tokens added outside of the model ---------------------------------------------------

    def _outside(self) -> list[Piece]:
        """The tokens behind those of a tokenizer.model that the files beside it add."""
        added = dict(self._settings.added)
        for token in (self._tree or {}).get("added_tokens") or []:
            added[token["id"]] = token["content"]
        rows = len(self._proto.pieces)
        found = {i: text for i, text in sorted(added.items()) if i >= rows}
        if [*found] != [*range(rows, rows + len(found))]:
            raise InputError(
                f"{self.where} adds tokens with the ids {listed(map(str, found))}, but its "
                f"tokenizer.model ends at {rows - 1}: there are holes; number them without"
            )
        return [Piece(text, "special") for text in found.values()]

    def _check_outside(self, what: str) -> None:
        if self._proto is not None and len(self.pieces) > len(self._proto.pieces):
            names = listed(p.text for p in self.pieces[len(self._proto.pieces) :])
            raise InputError(
                f"{self.where} has tokens added outside of its tokenizer.model ({names}), whose "
                f"ids would change, so it cannot be {what}; extend the tokenizer without them, and "
                "add them again with --add_special"
            )
        self._check_settings_only(what)

    def _check_settings_only(self, what: str) -> None:
        """Refuses tokens that tokenizer.json does not know, and the files beside it do."""
        if self._tree is None:
            return
        inside = {token["id"] for token in self._tree.get("added_tokens") or []}
        rows = len(self._proto.pieces) if self._proto is not None else len(self.pieces)
        unknown = [t for i, t in self._settings.added.items() if i >= rows and i not in inside]
        if unknown:
            raise InputError(
                f"{self.where} adds tokens that its tokenizer.json does not have "
                f"({listed(unknown)}), so it cannot be {what}; write them into it first "
                "(transformers does so with tokenizer.save_pretrained)"
            )

    # --- checks ------------------------------------------------------------------------------

    def _check_new(self, pieces: Sequence[str], special: Sequence[str]) -> None:
        new = [*pieces, *special]
        if known := [text for text in new if text in self.ids]:
            raise InputError(f"{self.where} has {listed(known)} already")
        if not all(new) or len(set(new)) < len(new):
            raise InputError(f"new pieces of {self.where} must not be empty, nor given twice")
        if self.form == "byte_level":
            wrong = [text for text in pieces if not json_form.BYTE_ALPHABET.issuperset(text)]
        else:
            wrong = [text for text in pieces if " " in text]
        if wrong:
            how = "in the byte-level alphabet" if self.form == "byte_level" else f"with {SPACE!r}"
            raise InputError(f"{self.where} writes spaces {how}, not as in {listed(wrong)}")

    def _check_characters(self, pieces: Sequence[str]) -> None:
        """SentencePiece merges characters without a piece; tokenizer.json has bytes for them."""
        if wrong := without_characters(self, pieces):
            raise InputError(
                f"{listed(wrong)} hold characters that are no pieces: tokenizer.model would make "
                "them and tokenizer.json would not; add the characters as well"
            )


def without_characters(base: Definition, pieces: Collection[str]) -> list[str]:
    """Those new pieces that hold a character which neither the base nor they have as a piece."""
    known = {p.text for p in base.pieces if len(p.text) == 1 and p.kind == "normal"}
    known |= {text for text in pieces if len(text) == 1}
    return [text for text in pieces if not known.issuperset(text)]


def open_definition(source: str | os.PathLike[str]) -> Definition:
    """Reads a tokenizer.

    A SentencePiece model without a tokenizer.json gets one (unless `Definition.without_json` says
    why there is none), and a bare file gets the config that transformers needs to encode alike.

    Args:
      source: a folder, or a single .model or .json file.

    Raises:
      InputError: nothing there, damaged files, or files that contradict each other.
    """
    loaded = load_tokenizer(source)
    name = MODEL if loaded.path.suffix == ".model" else JSON
    files = {(name if n == loaded.path.name else n): f for n, f in loaded.files.items()}
    where = str(source)
    definition = Definition(files, where)
    more: dict[str, Any] = {}
    if JSON not in files and not definition.without_json:
        proto, settings = definition._proto, definition._settings
        config = read_json(files, CONFIG, Path(where))
        more[JSON] = json_form.dump(conversion.to_json(proto, settings, config))
    if CONFIG not in files and not definition.without_json:
        unknown = definition.tokenizer().find("<unk>")
        named = {"bos": loaded.bos, "eos": loaded.eos, "unk": unknown}
        tokens = {key: loaded.piece(i) for key, i in named.items() if i is not None}
        more[CONFIG] = companions.minimal_config(tokens)
    return Definition({**files, **more}, where) if more else definition
