"""`benchmark record`: puts figures into a page, by hardware, verb and name.

The page's text stays. Between two marks stands a section for each machine and in it a table for
each verb, in order of the alphabet; a row that is there is replaced, one that is not is added.
Whoever has a machine of another kind adds theirs with the same command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from maxlite import outputs
from maxlite.console import say
from maxlite.errors import InputError

BEGIN = "<!-- measured: `benchmark record` writes what is below, up to the next mark -->"
END = "<!-- end of measured -->"
COLUMNS = ("", "ours", "peer", "ratio", "unit", "MiB", "peer's", "TFLOP/s", "MFU", "measured")
SHOWN = ("maxlite", "jax", "torch", "transformers")
Table = dict[str, str]  # a row's name to its line
Sections = dict[str, dict[str, Table]]  # by hardware, by verb


def record(figures: Iterable[str], page: Path, dry_run: bool = False) -> None:
    """Writes the rows of files into a page.

    Args:
      figures: files that --json has written.
      page: the Markdown file, with the two marks.
      dry_run: say what would be written, and write nothing.

    Raises:
      InputError: a file holds no such figures, or the page has no marks or is not to be read.
    """
    rows = [row for file in figures for row in _rows(Path(file).expanduser())]
    before, sections, after = _read(page)
    for row in rows:
        told = row["measured"]
        tables = sections.setdefault(told["hardware"], {})
        tables.setdefault(told["verb"], {})[row["name"]] = _line(row)
    if dry_run:
        say(f"would write {len(rows)} rows into {page}")
        return
    outputs.write_text(page, f"{before}{BEGIN}\n{_text(sections)}\n{END}{after}")
    say(f"{len(rows)} rows are in {page}")


def _rows(file: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{file} cannot be read: {e}") from e
    if not isinstance(found, list) or not found:
        raise InputError(f"{file} has no rows of a benchmark")
    for row in found:
        if not isinstance(row, dict) or not {"name", "ours", "unit", "measured"} <= row.keys():
            raise InputError(
                f"{file} does not say where it was measured; make it again with --json of"
                " tools.benchmark"
            )
    return found


def _read(page: Path) -> tuple[str, Sections, str]:
    """The text before the marks, what is between them, and the text after."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise InputError(f"--page={page} cannot be read: {e}") from e
    parts = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", text)
    if len(parts) != 3 or text.index(BEGIN) > text.index(END):
        raise InputError(f"--page={page} needs each of these lines once: {BEGIN} and {END}")
    sections: Sections = {}
    tables: dict[str, Table] = {}
    table: Table = {}
    for line in parts[1].splitlines():
        if line.startswith("### "):
            tables = sections.setdefault(line[4:], {})
        elif line.startswith("**"):
            table = tables.setdefault(line.strip("*"), {})
        elif line.startswith("| ") and not line.startswith(("|  |", "| --- ")):
            table[line.split(" | ")[0].removeprefix("| ").replace("\\|", "|")] = line
    return parts[0], sections, parts[2]


def _text(sections: Sections) -> str:
    lines: list[str] = []
    for hardware, tables in sorted(sections.items()):
        lines += ["", f"### {hardware}"]
        for verb, table in sorted(tables.items()):
            lines += ["", f"**{verb}**", "", f"| {' | '.join(COLUMNS)} |"]
            lines += ["| --- " * len(COLUMNS) + "|", *(table[name] for name in sorted(table))]
    return "\n".join([*lines, ""]).lstrip("\n")


def _line(row: dict[str, Any]) -> str:
    told = row["measured"]
    known = told["versions"]  # the rest is in the JSON
    used = ", ".join(f"{name} {known[name].split('+')[0]}" for name in SHOWN if name in known)
    cells = [
        row["name"],
        *(_number(row.get(key)) for key in ("ours", "peer", "ratio")),
        row["unit"],
        *(_number(row.get(key)) for key in ("peak_mib", "peer_peak_mib", "tflops")),
        f"{row['mfu']:.1%}" if row.get("mfu") else "",
        f"{told['date']}, {used}",
    ]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _number(value: float | None) -> str:
    """Three digits that count, and every one before the point."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
