"""New pieces behind those of a tokenizer, and what they need to be made: they come and go."""

import sys
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass
from functools import cache
from itertools import chain

import regex
from tokenizers import decoders, pre_tokenizers

from maxlite.tokenizer.definition import Definition, without_characters
from maxlite.tokenizer.pieces import SPACE, Pair, splits
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.selection import selection
from maxlite.tokenizer.stock import Stock

_BYTES = decoders.ByteLevel()


@dataclass(frozen=True)
class Growth:
    """New pieces, as the base writes its own.

    Attributes:
      pieces: in the order of their ids.
      merges: that make them, in the order of their ranks, where such pairs have to be listed
        (byte-level bases); None where any two neighbours can merge.
    """

    pieces: tuple[str, ...]
    merges: tuple[Pair, ...] | None = None

    def on(self, base: Definition, scores: str = "ranked") -> Definition:
        """The base with these pieces."""
        return base.extended(self.pieces, scores=scores, merges=self.merges)

    def without(self, gone: Set[str]) -> "Growth":
        """Those that are left, and their merges among themselves."""
        pieces = tuple(piece for piece in self.pieces if piece not in gone)
        if self.merges is None:
            return Growth(pieces)
        return Growth(pieces, tuple(p for p in self.merges if gone.isdisjoint({*p, "".join(p)})))

    def with_pieces(self, base: Definition, new: Iterable[str]) -> "Growth":
        """These and others, which any two known parts make."""
        pieces = (*self.pieces, *new)
        if self.merges is None:
            return Growth(pieces)
        known = {piece.text for piece in base.pieces if piece.kind != "special"} | set(pieces)
        more = splits(pieces[len(self.pieces) :], known)
        return Growth(pieces, (*self.merges, *more))

    def with_characters(
        self, base: Definition, new: Iterable[str], own: Collection[str]
    ) -> "Growth":
        """These and single characters that the base writes in several tokens.

        A byte-level base gets the parts of characters that lead there as well, unless they would be
        met in other characters than `own`.

        Args:
          base: the tokenizer.
          new: characters that are no pieces yet.
          own: the characters whose text may be segmented otherwise than before.
        """
        characters = list(new)
        if self.merges is None or not characters:
            return Growth((*self.pieces, *characters), self.merges)
        stock = Stock(base, own.__contains__)
        stock.pieces, stock.merges = dict.fromkeys(self.pieces), dict.fromkeys(self.merges)
        inside = base.tokenizer().encode_inside([c.encode() for c in characters])
        for ids in inside:
            stock.add_character(tuple(ids.tolist()), sys.maxsize)
        return Growth(tuple(stock.pieces), tuple(stock.merges))

    def stranded(self, base: Definition, gone: Set[str], scores: str = "ranked") -> set[str]:
        """Which of the others could no longer be made if some pieces were gone."""
        left = self.without(gone)
        if left.merges is not None:
            return set(left.pieces) - left._made(base)
        lost = set(without_characters(base, left.pieces)) if scores == "ranked" else set()
        left = left.without(lost)
        if not left.pieces:
            return lost
        first = len(base.pieces)
        ids = range(first, first + len(left.pieces))
        found = unreachable(left.on(base, scores), ids)
        return lost | {left.pieces[index - first] for index in found.tolist()}

    def _made(self, base: Definition) -> set[str]:
        """Which pieces some merges lead to."""
        pieces, made = set(self.pieces), set[str]()
        todo = list(self.merges or ())
        known = base.ids.keys() | made
        while True:
            ready = {a + b for a, b in todo if a in known and b in known} & pieces - made
            if not ready:
                return made
            made |= ready
            known |= ready


def proposed(base: Definition, other: Definition, script: str, scores: str = "ranked") -> Growth:
    """The pieces of another tokenizer that are of a script, and that the base does not have.

    Args:
      base: a tokenizer whose pieces are written in characters.
      other: of any kind; special tokens and parts of characters are left out.
      script: Unicode's names, with | between them: the pieces are those of
        `selection("script:...")`, and single letters and marks.
      scores: with "ranked", pieces that hold a character which is no piece are left out.

    Raises:
      InputError: a script that is not known.
    """
    keep, own = selection(f"script:{script}"), characters(script)
    tokenizer = other.tokenizer()
    texts: dict[str, None] = {}
    for index in range(tokenizer.rows):
        try:
            text = (tokenizer.raw(index) or b"").decode()
        except UnicodeDecodeError:
            continue
        if text in own or keep(text):
            texts[text.replace(" ", SPACE)] = None
    growth = Growth(tuple(text for text in texts if text not in base.ids))
    if scores == "ranked":
        growth = growth.without(set(without_characters(base, growth.pieces)))
    return growth


@cache
def characters(script: str) -> frozenset[str]:
    """The letters and marks of scripts (Unicode's names, with | between them)."""
    selection(f"script:{script}")  # which knows what to say of wrong names
    own = "".join(rf"\p{{Script={name}}}" for name in script.split("|"))
    every = "".join(map(chr, chain(range(0xD800), range(0xE000, 0x110000))))
    return frozenset(regex.findall(rf"(?V1)[[{own}]&&[\p{{L}}\p{{M}}]]", every))


def written(base: Definition, text: str) -> str:
    """How the base writes a text as one piece."""
    text = text.replace(SPACE, " ")
    if base.form != "byte_level":
        return text.replace(" ", SPACE)
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return "".join(part for part, _ in whole.pre_tokenize_str(text))


def readable(base: Definition, piece: str) -> str:
    """A piece for people, with ▁ for spaces; parts of characters stay as the base writes them."""
    if base.form != "byte_level" or broken(base, piece):
        return piece
    return str(_BYTES.decode([piece])).replace(" ", SPACE)


def broken(base: Definition, piece: str) -> bool:
    """Whether a piece begins or ends inside a character."""
    return base.form == "byte_level" and "\ufffd" in _BYTES.decode([piece])
