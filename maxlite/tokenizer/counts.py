"""How often each id of a tokenizer occurs: counts that add up, and the file that keeps them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from maxlite import outputs
from maxlite.errors import InputError
from maxlite.tokenizer.tokenizer import Tokenizer

FORMAT = 1
_KIND = "token counts"


@dataclass(frozen=True)
class FileCounts:
    """What was counted under one name; None where ids alone don't tell it.

    Words are what white space separates, bytes those of UTF-8, `skipped` what was no valid text.
    """

    name: str
    tokens: int = 0
    documents: int = 0
    words: int | None = 0
    characters: int | None = 0
    bytes: int | None = 0
    skipped: int = 0

    def __add__(self, other: "FileCounts") -> "FileCounts":
        ours, theirs = asdict(self), asdict(other)
        both = {key: (ours[key], theirs[key]) for key in FIGURES}
        sums: dict[str, Any] = {k: None if None in v else sum(v) for k, v in both.items()}
        return FileCounts(self.name, **sums)


FIGURES = tuple(field.name for field in fields(FileCounts) if field.name != "name")


@dataclass(frozen=True, eq=False)
class Counts:
    """How often the ids of one tokenizer occur.

    Attributes:
      fingerprint: `Tokenizer.fingerprint`.
      counts: int64 [rows].
      files: what they were counted in, in the order of names.
      total: the sums over `files`, under the name "total".
    """

    fingerprint: str
    counts: np.ndarray
    files: tuple[FileCounts, ...]

    def __post_init__(self) -> None:
        key = lambda file: [-1 if v is None else v for v in astuple(file)]  # noqa: E731
        object.__setattr__(self, "files", tuple(sorted(self.files, key=key)))

    @property
    def rows(self) -> int:
        """1 + the largest id."""
        return len(self.counts)

    @property
    def total(self) -> FileCounts:
        """The figures of all files together."""
        return reduce(FileCounts.__add__, self.files, FileCounts("total"))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Counts)
            and (self.fingerprint, self.files) == (other.fingerprint, other.files)
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: "Counts") -> "Counts":
        """Both together.

        Raises:
          InputError: they are of two tokenizers.
        """
        if (self.fingerprint, self.rows) != (other.fingerprint, other.rows):
            ours, theirs = (f"{c.rows} ids ({c.fingerprint[:12]}…)" for c in (self, other))
            raise InputError(
                f"counts of two tokenizers cannot be added: one has {ours}, the other {theirs}; "
                "count the text of one of them again"
            )
        return Counts(self.fingerprint, self.counts + other.counts, self.files + other.files)

    def check(self, *tokenizers: Tokenizer, where: str = "these counts") -> None:
        """Refuses counts that were made with none of some tokenizers (forms of one, say).

        Raises:
          InputError: both fingerprints.
        """
        known = {tokenizer.fingerprint: tokenizer.rows for tokenizer in tokenizers}
        if known.get(self.fingerprint) != self.rows:
            tokenizer = tokenizers[0]
            raise InputError(
                f"{where} were made with another tokenizer ({self.rows} ids, fingerprint "
                f"{self.fingerprint[:12]}…) than {tokenizer.path} ({tokenizer.rows} ids, "
                f"{tokenizer.fingerprint[:12]}…); count the text with this one"
            )

    def coverage(self, shares: Sequence[float]) -> list[int]:
        """How many ids, the most frequent first, make at least each share of the tokens."""
        reached = np.cumsum(np.sort(self.counts)[::-1])
        return [int(np.searchsorted(reached, share * reached[-1])) + 1 for share in shares]

    def write(self, path: Path) -> None:
        """Writes one JSON file, whole or not at all; what is there is replaced."""
        entries = {
            "kind": _KIND,
            "format": FORMAT,
            "tokenizer": self.fingerprint,
            **{key: getattr(self.total, key) for key in FIGURES},
            "rows": self.rows,
            "files": [asdict(file) for file in self.files],
            "counts": self.counts.tolist(),
        }
        lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items()]
        outputs.write_text(path, "{" + ",\n ".join(lines) + "}\n")


def read_counts(path: Path) -> Counts:
    """Reads what `Counts.write` wrote.

    Raises:
      InputError: it is something else, damaged, or holds no tokens.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("kind") != _KIND:
        raise InputError(f"{path} is not a file of token counts; make one with count_tokens")
    if value.get("format") != FORMAT:
        raise InputError(
            f"{path} has the format {value.get('format')!r} of token counts, not {FORMAT}; make it "
            "again with count_tokens"
        )
    try:
        counts = _parsed(value)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged: {said}; make it again with count_tokens") from None
    if not counts.counts.any():
        raise InputError(f"{path} holds no tokens: count some text first")
    return counts


def _parsed(value: dict[str, Any]) -> Counts:
    def whole(number: Any, what: str) -> int:
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError(f"{what} holds {number!r}, which is no count")
        return number

    def file_counts(entry: dict[str, Any]) -> FileCounts:
        figures: dict[str, Any] = {key: entry[key] for key in FIGURES}
        for key, figure in figures.items():
            if figure is not None or key not in ("words", "characters", "bytes"):
                whole(figure, repr(key))
        return FileCounts(str(entry["name"]), **figures)

    numbers = np.array([whole(number, "'counts'") for number in value["counts"]], np.int64)
    if len(numbers) != value["rows"]:
        raise ValueError(f"it has {len(numbers)} counts for {value['rows']} rows")
    counts = Counts(str(value["tokenizer"]), numbers, tuple(map(file_counts, value["files"])))
    total = asdict(counts.total)
    if any(total[key] != value[key] for key in FIGURES) or total["tokens"] != sum(value["counts"]):
        raise ValueError("its figures don't add up")
    return counts


def fallback_ids(tokenizer: Tokenizer) -> np.ndarray:
    """The ids that stand for bytes rather than characters: int64 [N], ascending.

    They are the byte pieces of SentencePiece ("<0x0A>"), and in byte-level BPE the pieces that hold
    a part of a character.
    """
    return np.array([i for i in range(tokenizer.rows) if _is_fallback(tokenizer, i)], np.int64)


def _is_fallback(tokenizer: Tokenizer, index: int) -> bool:
    raw = tokenizer.raw(index)
    if raw is None:
        return False
    if tokenizer.falls_back(index):
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False
