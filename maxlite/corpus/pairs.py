"""Parallel text as paragraphs that hold both languages.

KoSOLAR-10.7B-v0.3 learnt from 5.86 % of them, says its model card. Which files hold pairs is told
in `maxlite.corpus.pair_files`. A file is always one part: consecutive pairs make groups,
and where a file is cut must not change them.
"""

import hashlib
import json
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxlite.corpus import pair_files
from maxlite.corpus.pair_files import Field, Where
from maxlite.errors import InputError

_NAMES = {"first", "second", "first_name", "second_name"}


@dataclass
class Pairs:
    """How pairs are read and become paragraphs.

    Attributes:
      fields: the two fields of records, or columns of .tsv files: names that are in the first line,
        or numbers from 1 on where no line has names. Files of lines need none.
      template: what a paragraph is: "{first}" and "{second}" stand for the sides, "{first_name}"
        and "{second_name}" for the names of their languages.
      names: of the two languages, in the order of `fields`.
      group: so many consecutive pairs become one; pairs of sentences so become pairs of paragraphs.
        The last of a file may have fewer.
      between: what stands between sentences of a group.
      swap: share of paragraphs in which the second language comes first.
      seed: of which these are. A paragraph's direction is a hash of the seed and its text, so it
        depends on nothing else.
      skip_incomplete: leave out pairs that lack a side, and count them; otherwise they are refused.
    """

    fields: tuple[Field, Field] = ("en", "ko")
    template: str = "{first}\n{second}"
    names: tuple[str, str] = ("", "")
    group: int = 1
    between: str = " "
    swap: float = 0.5
    seed: int = 0
    skip_incomplete: bool = False

    def check(self) -> None:
        """Refuses settings that cannot work.

        Raises:
          InputError: with the setting's name in it.
        """
        one_kind = {type(field) for field in self.fields} in ({str}, {int})
        if len(self.fields) != 2 or not one_kind or self.fields[0] == self.fields[1]:
            raise self._refuse("fields", "it must be two names, or two numbers of columns")
        if any(field == "" or (isinstance(field, int) and field < 1) for field in self.fields):
            raise self._refuse("fields", "columns count from 1, and a name is not empty")
        try:
            found = [part[1:] for part in string.Formatter().parse(self.template)]
        except ValueError as error:
            raise self._refuse("template", f"{error}; write a brace as two") from None
        used = {name for name, _, _ in found if name is not None}
        plain = all(not form and not conversion for _, form, conversion in found)
        if not {"first", "second"} <= used <= _NAMES or not plain:
            allowed = ", ".join(f"{{{name}}}" for name in sorted(_NAMES))
            raise self._refuse("template", f"it must have both sides, and nothing but {allowed}")
        if used & {"first_name", "second_name"} and not (len(self.names) == 2 and all(self.names)):
            raise self._refuse("names", "the template uses the names of both languages")
        if self.group < 1:
            raise self._refuse("group", "it must be at least 1")
        if not 0 <= self.swap <= 1:
            raise self._refuse("swap", "it must be from 0 to 1")

    def parts(self, pattern: str, size: int = 0) -> list["PairsPart"]:
        """The files that a glob, or a glob with {en,ko} in it, names; sorted by path.

        Files stay whole, whatever `size` is asked for, so that groups don't depend on it.

        Raises:
          InputError: nothing matches, a file of another kind, or one without its other half.
        """
        self.check()
        return [PairsPart(files, self) for files in pair_files.find(pattern)]

    def paragraph(self, pairs: Sequence[tuple[str, str]]) -> str:
        """One paragraph of some pairs."""
        sides = [self.between.join(side) for side in zip(*pairs, strict=True)]
        sides, names = list(sides), list(self.names)
        if self.swap and self._number(sides) < self.swap:
            sides.reverse()
            names.reverse()
        return self.template.format(
            first=sides[0], second=sides[1], first_name=names[0], second_name=names[1]
        )

    def _number(self, sides: Sequence[str]) -> float:
        """Of the paragraph, from 0 to below 1."""
        said = json.dumps([self.seed, *sides]).encode()
        return int.from_bytes(hashlib.blake2b(said, digest_size=6).digest(), "big") / 2**48

    def _refuse(self, setting: str, why: str) -> InputError:
        return InputError(f"Pairs({setting}={getattr(self, setting)!r}): {why}")


@dataclass(frozen=True)
class PairsPart:
    """A file of pairs, or two files whose lines belong together.

    Attributes:
      files: one or two.
      how: they are read.
    """

    files: tuple[Path, ...]
    how: Pairs

    @property
    def path(self) -> Path:
        """The file, or the first of two."""
        return self.files[0]

    @property
    def name(self) -> str:
        """The path, as text."""
        return str(self.path)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.files)

    def read(self, advance: Callable[[int], None], skipped: Callable[[int], None]) -> Iterator[str]:
        """Yields the paragraphs.

        Args:
          advance: called now and then with the bytes read since the last call.
          skipped: called with the number of pairs that were left out.

        Raises:
          InputError: a record that cannot be read, or lacks a side; files of unlike lengths.
        """
        held: list[tuple[str, str]] = []
        for where, values in pair_files.records(self.files, self.how.fields, advance):
            first, second = (
                self._side(where, name, value)
                for name, value in zip(self._names, values, strict=True)
            )
            if not first or not second:
                skipped(1)
                continue
            held.append((first, second))
            if len(held) == self.how.group:
                yield self.how.paragraph(held)
                held = []
        if held:
            yield self.how.paragraph(held)

    @property
    def _names(self) -> Sequence[Field]:
        """What the sides are called where one is wrong."""
        return tuple(str(path) for path in self.files) if len(self.files) > 1 else self.how.fields

    def _side(self, where: Where, name: Field, value: Any) -> str:
        """The text of a side; "" if the pair is to be left out."""
        called = f"column {name}" if isinstance(name, int) else repr(name)
        if value is None or (isinstance(value, str) and (not value or value.isspace())):
            if self.how.skip_incomplete:
                return ""
            raise InputError(
                f"{where()}: {called} is empty, and a pair has two sides; mend the file, or set "
                "skip_incomplete=True to leave such pairs out"
            )
        if not isinstance(value, str):
            raise InputError(f"{where()}: {called} is not text but {type(value).__name__}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:  # JSON can write half of a surrogate pair
            raise InputError(
                f"{where()}: {called} holds a lone surrogate, which is not text"
            ) from None
        return value
