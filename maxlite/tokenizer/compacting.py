"""A tokenizer with fewer pieces: those that save the most tokens of a corpus, in their old order.

PanGu-π Pro (arXiv 2402.02791, section 3.1) keeps the most frequent pieces. In BPE that cuts the
merges which lead to many of them, and they are never produced again. Here pieces are taken away one
after the other, whichever costs the fewest tokens, and only where all that stay can still be made
(for fixed merges that is leaf-based pruning, arXiv 2512.03989); what was counted for a piece counts
for its parts from then on.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from heapq import heapify, heappop, heappush

import numpy as np

from maxlite.errors import InputError
from maxlite.tokenizer.batching import batched
from maxlite.tokenizer.counts import Counts
from maxlite.tokenizer.definition import JSON, MODEL, Definition
from maxlite.tokenizer.pieces import SPACE
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.splitting import UNKNOWN, splitter
from maxlite.tokenizer.tokenizer import Tokenizer

KEPT_IDS = "kept_ids.txt"
_UNKNOWN_PRICE = 10  # in tokens
_BATCH = 1024  # texts that are encoded at once

Progress = Callable[[int, int], None]


def check(base: Definition, counts: Counts, size: int) -> None:
    """Refuses what cannot be compacted.

    Raises:
      InputError: counts that are empty or of another tokenizer; a size that leaves no room for
        special tokens and bytes, or nothing to take away.
    """
    counts.check(*forms(base).values())
    if not counts.counts.any():
        raise InputError("the counts hold no tokens: count some text first")
    rows, least = len(base.pieces), len(_fixed(base))
    if size < least:
        raise InputError(
            f"{size} pieces are too few for {base.where}: its special tokens, its bytes and the "
            f"mark for spaces are {least}, which must be kept"
        )
    if size >= rows:
        raise InputError(
            f"{base.where} has {rows} pieces, so {size} are not fewer: choose a smaller size"
        )


def closed_ids(
    base: Definition, counts: Counts, size: int, progress: Progress | None = None
) -> np.ndarray:
    """The pieces that are left when the cheapest is taken away again and again, all within reach.

    With `ignore_merges` (Llama 3) words are looked up whole before anything is merged; a piece
    still keeps what it is made of, since it is also met inside other words.

    Without byte pieces, a character that could no longer be written counts as ten tokens, and goes
    last of what the corpus does not have.

    Args:
      base: the tokenizer.
      counts: of its tokens in a corpus.
      size: how many to keep; special tokens, bytes and the mark for spaces always are.
      progress: called with (pieces taken away, pieces to take away).

    Returns:
      Ids, int64 [size], ascending; fewer where the tokenizer has no more that can be produced.

    Raises:
      InputError: see `check`.
    """
    check(base, counts, size)
    dead = {i for i in unreachable(_first(base)).tolist() if base.pieces[i].kind != "unused"}
    fixed = _fixed(base)
    kept = [i in fixed or i not in dead for i in range(len(base.pieces))]
    split = splitter(base, _silent(base) | dead)
    mass = counts.counts.tolist()
    # Prices only rise, so it is enough to look again at what was the cheapest.
    heap = [(mass[i], False, -i) for i, stays in enumerate(kept) if stays and i not in fixed]
    heapify(heap)
    waiting: defaultdict[int, list[int]] = defaultdict(list)  # until a piece is taken away
    total = left = sum(kept) - size
    while left > 0:
        entry = heappop(heap)
        index = -entry[2]
        parts = split.parts(index)
        lost = parts.count(UNKNOWN)
        # A letter's byte is one token as well, but says less: so at least one.
        price = mass[index] * max(1, len(parts) - 1 + _UNKNOWN_PRICE * lost)
        if (price, lost > 0, -index) > entry:
            heappush(heap, (price, lost > 0, -index))
            continue
        if (user := split.remove(index)) is not None:
            waiting[user].append(index)
            continue
        kept[index] = False
        for part in parts:
            if part != UNKNOWN:
                mass[part] += mass[index]
        for freed in waiting.pop(index, ()):
            heappush(heap, (mass[freed], False, -freed))
        left -= 1
        if progress and left % 256 == 0:
            progress(total - left, total)
    return np.flatnonzero(kept)


def published_ids(base: Definition, counts: Counts, size: int) -> np.ndarray:
    """The pieces that PanGu-π Pro's code keeps (arXiv 2402.02791, section 3.1).

    First what looks special (in angle or square brackets, longer than two characters), then the
    most frequent; of equally frequent ones those with lower ids.

    Args:
      base: the tokenizer.
      counts: of its tokens in a corpus.
      size: how many to keep. Special tokens and bytes that do not look so come before all.

    Returns:
      Ids, int64 [size], ascending.

    Raises:
      InputError: see `check`.
    """
    check(base, counts, size)
    silent = _silent(base)

    def place(index: int) -> tuple[bool, bool, int, int]:
        piece = base.pieces[index]
        must = piece.kind in ("special", "byte") or index in silent
        looks = len(piece.text) > 2 and piece.text[0] + piece.text[-1] in ("<>", "[]")
        return not must, not looks, -int(counts.counts[index]), index

    return np.sort(np.array(sorted(range(len(base.pieces)), key=place)[:size], np.int64))


def compact(base: Definition, ids: np.ndarray) -> Definition:
    """The tokenizer of some ids, with a file of them that tells which rows of a model to keep.

    Args:
      base: the whole tokenizer.
      ids: that stay, int64 [N], ascending; an id's new one is its place among them.

    Raises:
      InputError: what `Definition.kept` refuses.
    """
    smaller = base.kept(ids)
    listed = "".join(f"{i}\n" for i in ids.tolist()).encode()
    return Definition({**smaller.files, KEPT_IDS: listed}, smaller.where)


@lru_cache(maxsize=4)  # they take seconds to make where there are many pieces
def forms(of: Definition) -> Mapping[str, Tokenizer]:
    """The encoders of a tokenizer by the names of their files, tokenizer.model first."""
    names = {MODEL: "model", JSON: "json"}
    return {name: of.tokenizer(form) for name, form in names.items() if name in of.files}


@dataclass(frozen=True)
class Outcome:
    """What a compacted tokenizer does with what was counted.

    Attributes:
      rows: its pieces.
      coverage: the share of the counted tokens that it has.
      dead: old ids of its pieces that it never produces, int64 [N].
      stranded: the share of the counted tokens that these are.
      growth: how many more tokens there would be, as a share, if each counted token became what its
        own text becomes; by form. An estimate: neighbours could merge otherwise.
      unknown: characters and pieces that it cannot write though the whole tokenizer could.
      unknown_share: the share of the counted tokens that these are.
      broken: old ids of those whose text, encoded and decoded, is no longer itself, int64 [B].
    """

    rows: int
    coverage: float
    dead: np.ndarray
    stranded: float
    growth: Mapping[str, float]
    unknown: list[str]
    unknown_share: float
    broken: np.ndarray


def outcome(base: Definition, ids: np.ndarray, smaller: Definition, counts: Counts) -> Outcome:
    """Tries a compacted tokenizer on the pieces of the whole one.

    Args:
      base: the whole.
      ids: int64 [R], the old ids that `smaller` has.
      smaller: the compacted one.
      counts: of the tokens of `base` in a corpus.
    """
    mass = counts.counts / counts.counts.sum()
    growth: dict[str, float] = {}
    lost: set[int] = set()
    broken: set[int] = set()
    before = forms(base)
    for name, now in forms(smaller).items():
        known = {i: raw for i in range(len(mass)) if (raw := before[name].raw(i)) is not None}
        lengths = np.ones(len(mass))
        texts = list(known.values())
        pairs = zip(before[name].encode_inside(texts), now.encode_inside(texts), strict=True)
        for (index, raw), (was, is_now) in zip(known.items(), pairs, strict=True):
            if _text(before[name], was) != raw:
                continue  # it did not come back before either
            lengths[index] = max(1, len(is_now))
            if not len(is_now):
                lost.add(index)
            elif _text(now, is_now) != raw:
                broken.add(index)
        growth[name] = float(mass @ lengths) - 1
    dead = ids[unreachable(_first(smaller))]
    unknown = sorted(lost)
    return Outcome(
        rows=len(ids),
        coverage=float(mass[ids].sum()),
        dead=dead,
        stranded=float(mass[dead].sum()),
        growth=growth,
        unknown=[base.pieces[i].text for i in unknown],
        unknown_share=float(mass[unknown].sum()),
        broken=np.array(sorted(broken), np.int64),
    )


@dataclass
class Lengths:
    """How long some texts are in several tokenizers.

    Attributes:
      texts: how many there are.
      tokens: of each tokenizer.
      broken: texts that come back, encoded and decoded, from the first tokenizer and not from each.
    """

    texts: int = 0
    tokens: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)


def measure(tokenizers: Iterable[Tokenizer], texts: Iterable[str]) -> Lengths:
    """Encodes texts with several tokenizers, and decodes them.

    Raises:
      InputError: one of them cannot encode a text.
    """
    all_of = list(tokenizers)
    found = Lengths(0, [0] * len(all_of), [0] * len(all_of))
    for batch in batched(texts, _BATCH):
        found.texts += len(batch)
        exact: list[str] = []
        for i, tokenizer in enumerate(all_of):
            encoded = tokenizer.encode(batch)
            found.tokens[i] += sum(map(len, encoded))
            pairs = zip(batch, encoded, strict=True)
            if i == 0:
                exact = [text for text, ids in pairs if tokenizer.decode(ids) == text]
                continue
            wanted = set(exact)
            found.broken[i] += sum(
                tokenizer.decode(ids) != text for text, ids in pairs if text in wanted
            )
    return found


def _first(of: Definition) -> Tokenizer:
    return next(iter(forms(of).values()))


def _text(tokenizer: Tokenizer, ids: np.ndarray) -> bytes:
    return b"".join(tokenizer.raw(i) or b"" for i in ids.tolist())


def _silent(base: Definition) -> set[int]:
    """The ids that text never becomes, in one form or another: what is special, by any file."""
    kinds = {i for i, piece in enumerate(base.pieces) if piece.kind == "special"}
    found = [{i for i in range(t.rows) if t.raw(i) is None} for t in forms(base).values()]
    return kinds.union(*found)


def _fixed(base: Definition) -> set[int]:
    """The ids that are always kept: special tokens, bytes, and the mark for spaces.

    In bytes that mark would be decoded as itself, not as a space.
    """
    found = {i for i, piece in enumerate(base.pieces) if piece.kind == "byte"}
    if base.form != "byte_level" and SPACE in base.ids:
        found.add(base.ids[SPACE])
    return found | _silent(base)
