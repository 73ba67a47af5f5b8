"""What an evaluation found, for a terminal: one table, before beside after, and texts side by side.

It is made of the figures that `maxlite.evaluate` gives, which --json writes. No jax here.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maxlite.errors import InputError

Figures = dict[str, Any]

TOTAL = "total"
_NEEDED = ("bits_per_byte", "bytes", "documents", "tokens_per_char", "context_chars")
_SHOWN = 0.00005  # what four decimals show of a difference
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")  # what could move a terminal's cursor


def read(path: Path) -> Figures:
    """The figures that an evaluation wrote with --json.

    Raises:
      InputError: there are none.
    """
    try:
        told = json.loads(path.read_bytes())
        for entry in (*told["groups"], told[TOTAL]):
            if not all(isinstance(entry[key], (int, float)) for key in _NEEDED):
                raise ValueError(f"{entry} lacks a figure")
        for sample in told["samples"]:
            if not all(isinstance(sample[key], str) for key in ("prompt", "text")):
                raise ValueError(f"{sample} is no sample")
        return {key: told[key] for key in ("model", "seq_len", "files", "groups", TOTAL, "samples")}
    except FileNotFoundError:
        raise InputError(f"there is no file {path} with an earlier evaluation") from None
    except (AttributeError, ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path} is not what evaluate writes with --json: {e!r}") from None


def check(before: Figures, names: Sequence[str], window: int, prompts: Sequence[str]) -> None:
    """Refuses to compare with an earlier evaluation of other things, before anything is computed.

    Args:
      before: its figures.
      names: of the rows.
      window: tokens at a time.
      prompts: that are gone on with.

    Raises:
      InputError: other texts, another window or other prompts.
    """
    was = [row["name"] for row in before["groups"]]
    if {*was} != {*names}:
        raise InputError(
            f"the evaluation before is of {', '.join(was)}, and not of {', '.join(names)}; "
            "evaluate the same text under the same names"
        )
    if before["seq_len"] != window:
        raise InputError(
            f"the evaluation before read {before['seq_len']} tokens at a time, and this one would "
            f"read {window}; give both the same --seq_len"
        )
    if prompts and [sample["prompt"] for sample in before["samples"]] != list(prompts):
        raise InputError("the evaluation before went on with other prompts; give both the same")


def compared(before: Figures, after: Figures) -> Figures:
    """Two models on the same text.

    Returns:
      `after`, with `before` in it whole, and in each of its groups and in its total `gain`: bits
      per byte that are no longer needed. Below 0 it is what was forgotten.

    Raises:
      InputError: the sets hold other text.
    """
    was = _rows(before)
    for name, row in _rows(after).items():
        sizes = [tuple(one[key] for key in ("documents", "bytes")) for one in (row, was[name])]
        if sizes[0] != sizes[1]:
            raise InputError(
                f"{name} has {sizes[0][0]} documents of {sizes[0][1]} bytes now, and had "
                f"{sizes[1][0]} of {sizes[1][1]}; evaluate the same text again"
            )

    def gained(row: Figures) -> Figures:
        gain = was[row.get("name", TOTAL)]["bits_per_byte"] - row["bits_per_byte"]
        return {**row, "gain": gain}

    groups = [gained(row) for row in after["groups"]]
    return {**after, "groups": groups, TOTAL: gained(after[TOTAL]), "before": before}


def _rows(figures: Figures) -> dict[str, Figures]:
    return {row["name"]: row for row in figures["groups"]} | {TOTAL: figures[TOTAL]}


def table(figures: Figures) -> str:
    """Bits per byte, gain beside forgetting, tokens per character and effective context.

    A row without documents, where nothing of a file is held out, has no figures.

    Args:
      figures: of an evaluation, or of `compared`.

    Returns:
      Lines, without the last one's end.
    """
    was = _rows(figures["before"]) if "before" in figures else {}
    rows = _rows(figures)
    if len(figures["groups"]) == 1:
        del rows[TOTAL]
    bits = {name: _digits(row, "bits_per_byte") for name, row in rows.items()}
    names, room = list(rows), f"{figures['seq_len']} tokens"
    if not was:
        told = [["bits/byte", "loss", "tokens", "tokens/char", f"chars in {room}"]]
        for name, row in rows.items():
            some = [bits[name], _digits(row, "loss"), str(row["tokens"])]
            told.append([*some, *_length(row)])
        return _joined([_block("", told)[1:]], ["", *names])
    lost, fertility, context = ([["before", "after"]] for _ in range(3))
    lost[0] += ["gain", "forgotten"]
    for name, row in rows.items():
        gain = row["gain"]
        changed = [f"{gain:.4f}" if gain > _SHOWN else "", f"{-gain:.4f}" if -gain > _SHOWN else ""]
        lost.append([_digits(was[name], "bits_per_byte"), bits[name], *changed])
        lengths = zip(_length(was[name]), _length(row), strict=True)
        for block, pair in zip((fertility, context), lengths, strict=True):
            block.append(list(pair))
    titles = "bits per byte", "tokens per character", f"characters in {room}"
    blocks = map(_block, titles, (lost, fertility, context))
    return _joined(list(blocks), ["", "", *names])


def _length(row: Figures) -> tuple[str, str]:
    """Tokens per character, and characters in a window."""
    return _digits(row, "tokens_per_char"), _digits(row, "context_chars", ",.0f")


def _digits(row: Figures, key: str, format_: str = ".4f") -> str:
    return format(row[key], format_) if row["documents"] else "–"


def _block(title: str, rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns below a title."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
    width = max(len(title), len(lines[0]))
    return [title.ljust(width), *(line.rjust(width) for line in lines)]


def _joined(blocks: Sequence[Sequence[str]], names: Sequence[str]) -> str:
    lines = zip(*blocks, names, strict=True)
    return "\n".join("   ".join(line).rstrip() for line in lines)


def side_by_side(figures: Figures, width: int = 100) -> str:
    """What two models go on with after each prompt, in two columns; of one model, in one.

    Args:
      figures: of an evaluation, or of `compared`.
      width: of the terminal, in columns; a Korean or Chinese character has two.

    Returns:
      Lines, without the last one's end.
    """
    told = [figures["before"]] if "before" in figures else []
    told.append(figures)
    room = max(8, (width - 3 * (len(told) - 1)) // len(told))
    lines = []
    for several in zip(*(one["samples"] for one in told), strict=True):
        lines += ["", f"▸ {several[0]['prompt']}"]
        columns = [_wrapped(sample["text"], room) for sample in several]
        for row in range(max(map(len, columns))):
            cells = [column[row] if row < len(column) else "" for column in columns]
            padded = [cell + " " * (room - _width(cell)) for cell in cells]
            lines.append(" │ ".join(padded).rstrip())
    heads = ["before", "after"] if len(told) > 1 else ["text"]
    return "\n".join([" │ ".join(f"{head:<{room}}" for head in heads).rstrip(), *lines])


def _wrapped(text: str, room: int) -> list[str]:
    """Text in lines of so many columns, broken at spaces where there are some."""
    lines = []
    for line in _CONTROL.sub("\ufffd", text.strip()).split("\n"):
        while _width(line) > room:
            cut, used = 0, 0
            while used + _width(line[cut]) <= room:
                used, cut = used + _width(line[cut]), cut + 1
            space = line.rfind(" ", 1, cut + 1)
            at = space if space > 0 else cut
            lines.append(line[:at])
            line = line[at:].lstrip(" ")
        lines.append(line)
    return lines


def _width(text: str) -> int:
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(bool(unicodedata.combining(char)) for char in text)
