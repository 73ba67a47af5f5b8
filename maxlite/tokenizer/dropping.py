"""Which new pieces are too rare, and which fall so that what they are made of is not."""

from collections import defaultdict
from collections.abc import Mapping

from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.growth import Growth, broken


def to_drop(
    base: Definition,
    growth: Growth,
    seen: Mapping[str, int],
    least: int,
    keep: set[str],
    always: bool = True,
    scores: str = "ranked",
) -> set[str]:
    """The pieces to drop after a count.

    Longer pieces fall first, and what falls is then seen in the next longest of its parts, which
    may be frequent enough by that. A rare piece that frequent ones are made of is spared as long as
    there are such: so many of them are dropped, the rarest first, that it can be expected to be
    seen often enough. If any piece is rare, and not because of what to keep, something is dropped.

    Args:
      base: the tokenizer they extend.
      growth: all new pieces.
      seen: how often each was counted.
      least: how often a piece must be seen.
      keep: pieces that stay, and with them what they are made of.
      always: do so with all pieces, rather than with single characters alone and drop the others.
      scores: as in `Definition.extended`.
    """
    rare = {piece for piece in growth.pieces if seen[piece] < least} - keep
    if not rare:
        return set()
    parts = {piece: _parts(piece) for piece in growth.pieces}
    holders: dict[str, set[str]] = defaultdict(set)  # the longer pieces that a rare one stands in
    for piece, inside in parts.items():
        for part in inside & rare:
            holders[part].add(piece)
    stranded = growth.stranded(base, rare, scores)  # frequent pieces that some rare ones lead to
    above = stranded | rare
    staying = keep.union(*map(_parts, keep))
    fallen: set[str] = set()

    def expected(part: str) -> int:
        """How often it will be seen: also where what fell has no longer part that is left."""
        left = holders[part] - fallen
        free = (p for p in holders[part] & fallen if left.isdisjoint(parts[p]))
        return seen[part] + sum(seen[piece] * piece.count(part) for piece in free)

    for part in sorted(rare, key=lambda piece: (-len(piece), piece)):
        users = (holders[part] & stranded) - fallen
        if not (always or len(part) == 1 or users & keep):
            fallen.add(part)
            continue
        if not broken(base, part):
            cost = {u: sum(seen[other] for other in users if u in other) for u in users}
            rarest = sorted(users - staying, key=lambda u: (-cost[u], len(u), u))
            while rarest and expected(part) < least:
                fallen.add(rarest.pop())
        needed = (holders[part] & above) - fallen
        if not needed and (broken(base, part) or expected(part) < least):
            fallen.add(part)
    return fallen | growth.stranded(base, fallen, scores) - keep


def _parts(piece: str) -> set[str]:
    """All that is shorter and stands in a piece."""
    size = len(piece)
    return {piece[i:j] for i in range(size) for j in range(i + 1, size + 1)} - {piece}
