"""What becomes of the text of a piece when a tokenizer no longer has that piece.

BPE makes a piece by merging two others, which come of merges again. It picks merges by rank alone,
so the merges that lead to a piece are always the same, wherever it stands, and taking away pieces
that are not among them changes none of them: it only spares merges that were never picked. Without
one that is among them a piece may still be made in another way, or be out of reach.

Unigram takes the most probable way to write a text. A piece needs no other there, and what it falls
apart into depends on which others there are.
"""

from collections import defaultdict
from collections.abc import Collection
from itertools import pairwise
from math import inf
from typing import Protocol

from maxlite.tokenizer import json_form
from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.pieces import Pair

Parts = tuple[int, ...]
UNKNOWN = -1  # in place of a part: a character that can then no longer be written
_PENALTY = 10.0  # of SentencePiece, for a character without a piece, below its lowest score


class Splitter(Protocol):
    """How the pieces of a tokenizer fall apart while one after the other is taken away."""

    def parts(self, index: int) -> Parts:
        """What the text of a piece would become without it: ids, `UNKNOWN` among them."""

    def remove(self, index: int) -> int | None:
        """Takes a piece away, unless another would then be out of reach: gives such a one."""


def splitter(base: Definition, hidden: Collection[int]) -> Splitter:
    """The way in which a tokenizer's pieces fall apart.

    Args:
      base: the tokenizer.
      hidden: ids that text never becomes, special tokens for instance.
    """
    return MergeSplitter(base, hidden) if base.model == "bpe" else UnigramSplitter(base, hidden)


class MergeSplitter:
    """Of BPE: a piece falls into the two that its last merge joins."""

    def __init__(self, base: Definition, hidden: Collection[int]):
        """Follows the merges of all pieces, as the encoder makes them (O(n²) for n characters)."""
        self._base = base
        kinds = {"normal", "unused"} | ({"byte"} if base.form == "byte_level" else set())
        self._ids = {
            piece.text: i
            for i, piece in enumerate(base.pieces)
            if piece.kind in kinds and i not in hidden
        }
        self._score: dict[str, float] = {}  # SentencePiece ranks what comes of a merge,
        self._rank: dict[Pair, int] | None = None  # tokenizer.json the merge
        if base.form == "sentencepiece":
            self._score = {text: base.pieces[i].score for text, i in self._ids.items()}
        else:
            assert base.tree is not None
            self._rank = {pair: i for i, pair in enumerate(json_form.merges(base.tree))}
        # The pair a piece is made of, and the other way round. A piece that is no merge's (whole
        # words may be looked up before merging) is in neither.
        self._made: dict[int, Pair] = {}
        self._users: defaultdict[int, set[int]] = defaultdict(set)
        for text, i in self._ids.items():
            self._make(i, self._pair(text))

    def parts(self, index: int) -> Parts:
        text = self._base.pieces[index].text
        found: list[int] = []
        for part in self._made.get(index) or self._merged(text):
            i = self._ids.get(part) if part != text else None
            if i is None:
                found += _in_bytes(self._base, part)
            elif self._base.pieces[i].kind == "unused":  # never given out itself
                found += self.parts(i)
            else:
                found.append(i)
        return tuple(found)

    def remove(self, index: int) -> int | None:
        text = self._base.pieces[index].text
        if len(text) == 1 and self._users[index]:
            return min(self._users[index])  # which begins with its characters
        del self._ids[text]
        others: dict[int, Pair] = {}
        todo = [index]
        while todo:  # all pieces that it is a step to, directly or not
            for user in sorted(self._users[todo.pop()] - others.keys()):
                pair = self._pair(self._base.pieces[user].text)
                if pair is None:
                    self._ids[text] = index
                    return user
                others[user] = pair
                todo.append(user)
        self._make(index, None)
        for user, pair in others.items():
            self._make(user, pair)
        return None

    def _make(self, index: int, pair: Pair | None) -> None:
        """Notes the pair that a piece is made of, in place of the one so far."""
        for part in self._made.pop(index, ()):
            self._users[self._base.ids[part]].discard(index)
        if pair:
            self._made[index] = pair
            for part in pair:
                if part in self._ids:
                    self._users[self._ids[part]].add(index)

    def _pair(self, text: str) -> Pair | None:
        """The last merge that leads to a piece, if merges do."""
        parts = self._merged(text)
        if len(parts) == 2 and self._order(parts[0], parts[1]) < inf:
            return parts[0], parts[1]
        return None

    def _merged(self, text: str) -> list[str]:
        """What the characters of a text are merged to, short of the text itself."""
        parts = list(text)
        order = [self._order(a, b) for a, b in pairwise(parts)]
        while len(parts) > 2:
            best = min(order)  # of equal ones the leftmost, as SentencePiece has it
            if best == inf:
                break
            at = order.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
            del order[at]
            if at:
                order[at - 1] = self._order(parts[at - 1], parts[at])
            if at < len(order):
                order[at] = self._order(parts[at], parts[at + 1])
        return parts

    def _order(self, left: str, right: str) -> float:
        """By which merges are picked, the lowest first; infinite if two texts don't merge."""
        made = left + right
        if made not in self._ids:
            return inf
        return -self._score[made] if self._rank is None else self._rank.get((left, right), inf)


class UnigramSplitter:
    """Of Unigram: a piece falls into the most probable others that are there."""

    def __init__(self, base: Definition, hidden: Collection[int]):
        self._base = base
        self._known = {
            piece.text: (piece.score, i)
            for i, piece in enumerate(base.pieces)
            if piece.kind == "normal" and i not in hidden
        }
        scores = [score for score, _ in self._known.values()]
        self._unknown = min(scores, default=0.0) - _PENALTY
        self._longest = max(map(len, self._known), default=1)

    def parts(self, index: int) -> Parts:
        text = self._base.pieces[index].text
        best = [(0.0, 0, UNKNOWN)] + [(-inf, 0, UNKNOWN)] * len(text)  # score, start, id
        for stop in range(1, len(text) + 1):
            for start in range(max(0, stop - self._longest), stop):
                score, found = self._known.get(text[start:stop], (-inf, UNKNOWN))
                if found in (index, UNKNOWN):
                    found, score = UNKNOWN, self._unknown if stop - start == 1 else -inf
                if best[start][0] + score > best[stop][0]:
                    best[stop] = (best[start][0] + score, start, found)
        parts: list[int] = []
        stop = len(text)
        while stop:
            _, start, found = best[stop]
            one = (found,) if found != UNKNOWN else _in_bytes(self._base, text[start:stop])
            parts[:0] = one
            stop = start
        return tuple(parts)

    def remove(self, index: int) -> int | None:
        del self._known[self._base.pieces[index].text]
        return None


def _in_bytes(base: Definition, text: str) -> Parts:
    """The byte pieces of a text, or that it is unknown."""
    found = [base.ids.get(f"<0x{byte:02X}>") for byte in text.encode()]
    return tuple(i for i in found if i is not None) if None not in found else (UNKNOWN,)
