"""What tokenizers make of texts: tokens by file, and how often each piece occurs."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from maxlite.tokenizer.counting import Part, count
from maxlite.tokenizer.counts import Counts, FileCounts, fallback_ids
from maxlite.tokenizer.definition import Definition
from maxlite.tokenizer.oddities import written
from maxlite.tokenizer.tokenizer import Tokenizer

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
_POINTS = 160  # of a curve

Advance = Callable[[int], None]
Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Text:
    """A file to look at.

    Attributes:
      name: of the file; the names of its parts, too.
      group: its language or domain.
      parts: what is counted.
      read: gives its documents again, and calls its argument with bytes read.
    """

    name: str
    group: str
    parts: Sequence[Part]
    read: Callable[[Advance], Iterable[str]]


@dataclass(frozen=True)
class Subject:
    """A tokenizer under a name that is told apart from the others'."""

    name: str
    definition: Definition

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its encoder: of tokenizer.model where there is one, which is faster."""
        return self.definition.tokenizer("model" if self.definition.form == "sentencepiece" else "")


@contextlib.contextmanager
def silent(what: str) -> Iterator[Callable[[int, int], None]]:
    """No bar."""
    yield lambda done, total: None


class Usage:
    """What one tokenizer makes of the texts.

    Attributes:
      total: counts of all of them.
      files: figures by name.
      new: tokens that are new pieces, by name.
    """

    def __init__(
        self, subject: Subject, texts: Sequence[Text], fresh: np.ndarray, workers: int, bar: Bar
    ):
        self._subject, self._fresh = subject, fresh
        tokenizer = subject.tokenizer
        counts = np.zeros(tokenizer.rows, np.int64)
        self.files: dict[str, FileCounts] = {}
        self.new: dict[str, int] = {}
        size = sum(part.size for text in texts for part in text.parts)
        before = 0
        with bar(f"counting {subject.name}") as progress:
            for text in texts:
                past = before

                def moved(done: int, total: int, past: int = past) -> None:
                    progress(past + done, size)

                found = count(tokenizer, text.parts, workers, moved)
                counts += found.counts
                self.files[text.name] = found.total
                self.new[text.name] = int(found.counts[fresh].sum())
                before += sum(part.size for part in text.parts)
        self.total = Counts(tokenizer.fingerprint, counts, tuple(self.files.values()))

    def figures(self, examples: int) -> dict[str, Any]:
        """Of all the texts together."""
        counts, tokens = self.total.counts, self.total.total.tokens
        tokenizer, fresh = self._subject.tokenizer, self._fresh
        ordered = np.sort(counts)[::-1]
        ordered = ordered[ordered > 0]
        ranks = np.unique(np.geomspace(1, len(ordered), _POINTS).round().astype(np.int64))
        reached = np.cumsum(ordered)[ranks - 1] / tokens
        most = np.argsort(-np.where(fresh, counts, -1), kind="stable")[:examples].tolist()
        frequent = [
            {"id": i, "piece": tokenizer.piece(i), "count": int(counts[i])}
            for i in most
            if fresh[i] and counts[i]
        ]
        texts = written(tokenizer)
        ordinary = np.isin(np.arange(tokenizer.rows), [*texts])
        unknown = 0 if tokenizer.unk is None else int(counts[tokenizer.unk])
        return {
            "tokens": tokens,
            "used": len(ordered),
            "never": int((ordinary & (counts == 0)).sum()),
            "never_new": int((fresh & (counts == 0)).sum()),
            "unknown_share": unknown / tokens,
            "fallback_share": int(counts[fallback_ids(tokenizer)].sum()) / tokens,
            "coverage": dict(zip(map(str, SHARES), self.total.coverage(SHARES), strict=True)),
            "ranks": ranks.tolist(),
            "frequencies": ordered[ranks - 1].tolist(),
            "reached": reached.tolist(),
            "frequent_new": frequent,
        }


def sizes(name: str, group: str, files: Sequence[str], used: Mapping[str, Usage]) -> dict[str, Any]:
    """Sizes of some files, the tokens that each tokenizer makes of them, and the ratios of both."""
    totals = {
        who: sum((usage.files[f] for f in files), FileCounts(name)) for who, usage in used.items()
    }
    any_ = next(iter(totals.values()))
    sizes = {key: getattr(any_, key) for key in ("documents", "words", "characters", "bytes")}
    tokens = {who: total.tokens for who, total in totals.items()}
    first = next(iter(tokens.values()))
    return {
        "name": name,
        "group": group,
        "files": len(files),
        **sizes,
        "tokens": tokens,
        "tokens_per_character": {who: _ratio(n, sizes["characters"]) for who, n in tokens.items()},
        "tokens_per_word": {who: _ratio(n, sizes["words"]) for who, n in tokens.items()},
        "tokens_per_byte": {who: _ratio(n, sizes["bytes"]) for who, n in tokens.items()},
        "of_first": {who: _ratio(n, first) for who, n in tokens.items()},
        "new_share": {
            who: _ratio(sum(usage.new[f] for f in files), tokens[who])
            for who, usage in used.items()
        },
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def first(documents: Iterable[str], most: int) -> Iterable[str]:
    """So many documents at most; all if `most` is 0."""
    return islice(documents, most) if most else documents


@contextlib.contextmanager
def steps(bar: Bar, what: str, texts: Sequence[Text]) -> Iterator[Callable[[Text], Iterable[str]]]:
    """Gives a function that reads a text, with one bar for all of them."""
    total = sum(part.size for text in texts for part in text.parts)
    done = 0
    with bar(what) as progress:

        def advance(size: int) -> None:
            nonlocal done
            done += size
            progress(min(done, total), total)

        yield lambda text: text.read(advance)
