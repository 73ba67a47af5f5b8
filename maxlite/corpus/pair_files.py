"""Files of parallel text, as records with two sides. They are known by their names:

    *.jsonl, *.parquet   records with a field for each language
    *.tsv                columns with a tab between, named by the first line or told by number
    NAME.{en,ko}         two files whose lines belong together (braces as in a shell)

All but parquet may be compressed, as in pairs.tsv.gz.
"""

import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from maxlite.data import sources
from maxlite.errors import InputError

_BRACES = re.compile(r"(.*)\{([^{},]*),([^{},]*)\}(.*)", re.DOTALL)
_PACKED = (".gz", ".zst")

Field = str | int  # its name, or the number of its column from 1 on
Where = Callable[[], str]  # the file and line a record is at, for messages
Record = tuple[Where, Sequence[Any]]  # and its two sides, which may be anything yet
Advance = Callable[[int], None]


def find(pattern: str) -> list[tuple[Path, ...]]:
    """The files that a glob names, one by one, or two by two if it has {en,ko} in it; sorted.

    Raises:
      InputError: nothing matches, a file of another kind, or one without its other half.
    """
    expanded = os.path.expanduser(pattern)
    braces = _BRACES.fullmatch(expanded)
    if os.path.exists(expanded):  # a name that holds such characters itself
        names = [expanded]
    elif braces:
        return _aligned(pattern, *braces.groups())
    else:
        names = glob.glob(expanded, recursive=True)
    files = sorted({Path(name) for name in names if os.path.isfile(name)})
    if not files:
        raise InputError(f"no file matches {pattern!r}")
    for path in files:
        _kind(path)
    return [(path,) for path in files]


def records(files: Sequence[Path], fields: Sequence[Field], advance: Advance) -> Iterator[Record]:
    """The records of a file, or of two files whose lines belong together.

    Args:
      files: one or two, as `find` gave them.
      fields: of the two sides; not looked at for two files.
      advance: called now and then with the bytes read since the last call.

    Raises:
      InputError: the file cannot be read, a record that lacks a field or has too many columns, a
        line without a counterpart.
    """
    if len(files) > 1:
        return _beside(files[0], files[1], advance)
    reader = {"jsonl": _jsonl, "parquet": _parquet, "tsv": _tsv}[_kind(files[0])]
    return reader(files[0], fields, advance)


def _kind(path: Path) -> str:
    name = path.name.lower()
    for end in _PACKED:
        name = name.removesuffix(end)
    kind = name.rpartition(".")[2]
    if kind not in ("tsv", "jsonl", "parquet"):
        raise InputError(
            f"{path} is of a kind that pairs cannot be read from; name .tsv, .jsonl or .parquet "
            "files, or two files of lines as NAME.{en,ko}"
        )
    return kind


def _aligned(
    pattern: str, before: str, first: str, second: str, after: str
) -> list[tuple[Path, ...]]:
    if glob.has_magic(after):
        raise InputError(f"{pattern!r}: what comes after the braces must not have *, ? or [ in it")
    if first == second:
        raise InputError(f"{pattern!r} names each file twice; write it as NAME.{{en,ko}}")
    ends = first + after, second + after
    ours, theirs = (
        {name.removesuffix(e) for name in glob.glob(before + glob.escape(e), recursive=True)}
        for e in ends
    )
    if not ours and not theirs:
        raise InputError(f"no file matches {pattern!r}")
    for stem in sorted(ours ^ theirs):
        here, missing = ends if stem in ours else reversed(ends)
        raise InputError(f"{stem}{here} has no other half: there is no {stem}{missing}")
    return [(Path(stem + ends[0]), Path(stem + ends[1])) for stem in sorted(ours)]


def _lines(path: Path, advance: Advance) -> Iterator[tuple[Where, str]]:
    with sources.readable(path), sources.Lines(path, advance) as lines:
        for line in lines:
            yield lines.where, line


def _beside(one: Path, other: Path, advance: Advance) -> Iterator[Record]:
    for ours, theirs in zip_longest(_lines(one, advance), _lines(other, advance)):
        if ours is None or theirs is None:
            where, short = (theirs[0], one) if ours is None else (ours[0], other)
            raise InputError(f"{where()} has no counterpart: {short} has fewer lines")
        yield ours[0], (ours[1], theirs[1])


def _tsv(path: Path, fields: Sequence[Field], advance: Advance) -> Iterator[Record]:
    columns: list[int] = []
    width = 0
    for where, line in _lines(path, advance):
        cells = line.split("\t")
        if not columns:
            width = len(cells)
            columns = [_column(where, cells, field) for field in fields]
            if isinstance(fields[0], str):
                continue
        if not line:  # a pair of which both sides are missing
            cells = [""] * width
        if len(cells) != width:
            raise InputError(f"{where()} has {len(cells)} columns, where the first has {width}")
        yield where, [cells[column] for column in columns]


def _column(where: Where, cells: Sequence[str], field: Field) -> int:
    """The place of a column, from 0."""
    if isinstance(field, int):
        if field > len(cells):
            raise InputError(f"{where()} has {len(cells)} columns and no number {field}")
        return field - 1
    if cells.count(field) != 1:
        said = "has several columns named" if field in cells else "names no column"
        raise InputError(
            f"{where()} {said} {field!r}; set fields to two names in it, or to numbers of columns "
            "such as (1, 2) if the first line is text already"
        )
    return cells.index(field)


def _jsonl(path: Path, fields: Sequence[Field], advance: Advance) -> Iterator[Record]:
    with sources.readable(path), sources.Lines(path, advance) as lines:
        for record in sources.json_records(lines):
            _check_fields(lines.where, "field", fields, list(record))
            yield lines.where, [record[field] for field in fields]


def _parquet(path: Path, fields: Sequence[Field], advance: Advance) -> Iterator[Record]:
    with sources.readable(path):
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            _check_fields(lambda: str(path), "column", fields, file.schema_arrow.names)
            size, rows, row = path.stat().st_size, max(file.metadata.num_rows, 1), 0

            def where() -> str:
                return f"{path}, row {row}"

            for batch in file.iter_batches(batch_size=1024, columns=list(fields)):
                for pair in zip(*(batch.column(field) for field in fields), strict=True):
                    row += 1
                    try:
                        sides = [value.as_py() for value in pair]
                    except UnicodeDecodeError:
                        raise InputError(f"{where()}: not valid UTF-8") from None
                    yield where, sides
                advance(size * batch.num_rows // rows)


def _check_fields(where: Where, kind: str, fields: Sequence[Field], names: Sequence[str]) -> None:
    for field in fields:
        if field not in names:
            has = ", ".join(map(repr, names[:8])) or "nothing"
            raise InputError(f"{where()}: no {kind} {field!r} (it has {has}); set fields")
