"""The pieces that training continues with, those it has found, and the merges that make them."""

import copy
from collections.abc import Iterable

from maxlite.tokenizer.characters import begins_only, open_end
from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.runs import Keep

Group = tuple[int, ...]  # ids of the base that stand for whole characters together


class Stock:
    """New pieces of a BPE tokenizer, in the order of their ranks.

    Attributes:
      explicit: whether merges are pairs that someone must list (byte-level bases), not any way to
        split a piece in two known ones (as SentencePiece has it).
      texts: how the piece of a group of tokens is written.
      pieces: the new ones.
      merges: pairs, in the order of their ranks.
    """

    def __init__(self, base: Definition, keep: Keep | None):
        self.explicit = base.form == "byte_level"
        self.texts: dict[Group, str] = {}
        self.pieces: dict[str, None] = {}
        self.merges: dict[tuple[str, str], None] = {}
        self._base = base.pieces
        self._keep = keep
        # Bytes that text falls back to can't merge; those that byte-level pieces are made of can.
        self._mergeable = {"normal", "byte"} if self.explicit else {"normal"}
        self._old = {piece.text for piece in base.pieces if piece.kind in self._mergeable}
        self._taken = {piece.text for piece in base.pieces} - self._old
        tokenizer = base.tokenizer()
        self._raw = [tokenizer.raw(index) or b"" for index in range(len(base.pieces))]

    def copy(self) -> "Stock":
        """Another one that can grow by itself."""
        other = copy.copy(self)
        other.texts, other.pieces, other.merges = (
            dict(self.texts),
            dict(self.pieces),
            dict(self.merges),
        )
        return other

    def add_character(self, group: Group, size: int) -> None:
        """Lets a group of tokens be one piece, if that can be done with `size` pieces in all.

        The tokens of a byte-level base are joined from left to right. What that makes on the way
        may not be the beginning of a character that isn't kept, or text of others would change.
        """
        pieces = [self._base[index] for index in group]
        kinds = {piece.kind for piece in pieces}
        if kinds <= self._mergeable and len(group) == 1:
            self.texts[group] = pieces[0].text
        elif kinds <= self._mergeable and self.explicit:
            steps = [pieces[0].text]
            for piece in pieces[1:]:
                steps.append(steps[-1] + piece.text)
            new = [step for step in steps if not self._knows(step)]
            safe = all(map(self._only_kept, (group[:end] for end in range(2, len(group) + 1))))
            room = len(self.pieces) + len(new) <= size
            if safe and room and self._taken.isdisjoint(new):
                self.pieces.update(dict.fromkeys(new))
                joined = zip(steps, [piece.text for piece in pieces[1:]], strict=False)
                self.merges.update(dict.fromkeys(joined))
                self.texts[group] = steps[-1]
        elif kinds == {"byte"} and len(self.pieces) < size:
            text = self._bytes(group).decode()
            self.pieces[text] = None
            self.texts[group] = text

    def add_merge(self, left: str, right: str) -> None:
        """Adds a pair and the piece it makes, unless a part is missing or the piece is special."""
        made = left + right
        if self._knows(left) and self._knows(right) and made not in self._taken:
            self.merges.setdefault((left, right))
            if made not in self._old:
                self.pieces.setdefault(made)

    def remove(self, pieces: Iterable[str]) -> None:
        """Forgets pieces and all merges that they have a part in."""
        for piece in pieces:
            del self.pieces[piece]
        self.merges = {
            (left, right): None
            for left, right in self.merges
            if all(map(self._knows, (left, right, left + right)))
        }

    def _knows(self, text: str) -> bool:
        return text in self._old or text in self.pieces

    def _bytes(self, group: Group) -> bytes:
        return b"".join(self._raw[index] for index in group)

    def _only_kept(self, group: Group) -> bool:
        """Whether these tokens side by side are met only where a character to keep is."""
        if self._keep is None:
            return True
        written = self._bytes(group)
        start = open_end(written)
        whole = written.removesuffix(start).decode().lstrip(" ")
        return any(map(self._keep, whole)) or (bool(start) and begins_only(start, self._keep))
