"""Which texts a new tokenizer segments otherwise than the one before it, and should not."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import regex

from maxlite.tokenizer.batching import batches
from maxlite.tokenizer.tokenizer import Tokenizer

_AROUND, _MOST = 4, 24  # pieces of an example: beside what differs, and of what differs


@dataclass(frozen=True)
class Change:
    """Where one text is segmented otherwise.

    Attributes:
      number: of the text, from 1.
      before, after: pieces, those that differ and a few beside them.
      lead: how many at the beginning are alike.
      tail: how many at the end are alike.
    """

    number: int
    before: list[str]
    after: list[str]
    lead: int
    tail: int

    @property
    def differing(self) -> tuple[str, ...]:
        """The pieces before that are others now."""
        return tuple(self.before[self.lead : len(self.before) - self.tail])


@dataclass
class Changes:
    """What was found in some texts.

    Attributes:
      texts: how many there were.
      compared: how many of them hold no character that the new pieces are for.
      changed: how many of those are segmented otherwise.
      tokens_before, tokens_after: how many tokens the changed ones have.
      examples: the first of them, no two with the same difference.
    """

    texts: int = 0
    compared: int = 0
    changed: int = 0
    tokens_before: int = 0
    tokens_after: int = 0
    examples: list[Change] = field(default_factory=list)


class Target:
    """A tokenizer to compare with a base.

    Attributes:
      tokenizer: itself.
      meant_for: finds the characters that its new pieces are for; None: there are none.
      same: int64 [rows], for each id that of the same piece in the base, -1 if it is new.
    """

    def __init__(self, base: Tokenizer, tokenizer: Tokenizer, meant_for: regex.Pattern | None):
        self.tokenizer, self.meant_for = tokenizer, meant_for
        self.same = same_pieces(base, tokenizer)


def same_pieces(base: Tokenizer, new: Tokenizer) -> np.ndarray:
    """For each id of a tokenizer that of the same piece in another one; int64 [rows], -1 for none.

    Pieces are the same if they stand for the same bytes, however they are written; a byte that text
    falls back to is not the same as the character of that byte.
    """
    known = {_meaning(base, index): index for index in reversed(range(base.rows))}
    same = np.array([known.get(_meaning(new, i), -1) for i in range(new.rows)], np.int64)
    shared = min(base.rows, new.rows)
    alike = [base.piece(i) == new.piece(i) for i in range(shared)]
    same[:shared][alike] = np.arange(shared)[alike]  # where several mean the same
    return same


def _meaning(tokenizer: Tokenizer, index: int) -> tuple[str, bool] | bytes:
    if index == tokenizer.unk:
        return "", True
    raw = tokenizer.raw(index)
    if raw is None or tokenizer.falls_back(index):
        return tokenizer.piece(index), False
    return raw


def compare_texts(
    base: Tokenizer, targets: Sequence[Target], texts: Iterable[str], examples: int = 5
) -> list[Changes]:
    """Encodes texts with a base and with others, and looks where they differ.

    Args:
      base: the tokenizer before.
      targets: the tokenizers after.
      texts: a few hundred kilobytes of them are in memory at a time.
      examples: how many to keep of each.

    Returns:
      For each target, in their order.
    """
    found = [Changes() for _ in targets]
    number = 0
    for batch in batches(texts):
        wanted = [
            [i for i, t in enumerate(batch) if not (of.meant_for and of.meant_for.search(t))]
            for of in targets
        ]
        needed = sorted(set().union(*wanted))
        before = dict(zip(needed, base.encode([batch[i] for i in needed]), strict=True))
        for target, changes, places in zip(targets, found, wanted, strict=True):
            changes.texts += len(batch)
            changes.compared += len(places)
            after = target.tokenizer.encode([batch[i] for i in places])
            for place, ids in zip(places, after, strict=True):
                old = before[place]
                if len(old) == len(ids) and (target.same[ids] == old).all():
                    continue
                changes.changed += 1
                changes.tokens_before += len(old)
                changes.tokens_after += len(ids)
                if len(changes.examples) < examples:
                    change = _change(number + place + 1, base, old, target, ids)
                    if change.differing not in {other.differing for other in changes.examples}:
                        changes.examples.append(change)
        number += len(batch)
    return found


def _change(
    number: int, base: Tokenizer, old: np.ndarray, target: Target, new: np.ndarray
) -> Change:
    mapped = target.same[new]
    most = min(len(old), len(new))
    lead = _alike(old[:most], mapped[:most])
    rest = most - lead
    tail = _alike(old[::-1][:rest], mapped[::-1][:rest])
    first, shown = max(0, lead - _AROUND), min(tail, _AROUND)
    windows = []
    for tokenizer, ids in ((base, old), (target.tokenizer, new)):
        stop = len(ids) - tail
        middle = ids[first : min(stop, lead + _MOST)].tolist()
        cut = stop > lead + _MOST
        after = ids[stop : stop + shown].tolist()
        window = [tokenizer.piece(i) for i in middle]
        window += ["…"] * cut + [tokenizer.piece(i) for i in after]
        windows.append(window)
    return Change(number, windows[0], windows[1], lead - first, shown)


def _alike(a: np.ndarray, b: np.ndarray) -> int:
    """How many at the beginning are equal."""
    differ = np.flatnonzero(a != b)
    return int(differ[0]) if len(differ) else len(a)
