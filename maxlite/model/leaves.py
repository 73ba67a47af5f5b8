"""Leaves: a parameter is one array on the devices, or several that each hold some rows of axis 0.

Axis 0 is the rows of a vocabulary table and the layers of a stacked parameter. What trains and what
is frozen are different leaves, so nothing has to be masked. A leaf is named after its parameter and
its rows, `model.embed_tokens.weight[32000:40960]`, or after its parameter alone if it is all of it;
the names of a model's leaves say everything about how it is laid out. (No jax here.)
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeVar

from maxlite.parameters import LAYERS

Rows = range | tuple[int, ...]
Claim = TypeVar("Claim", bound=Hashable)


@dataclass(frozen=True)
class Leaf:
    """Rows of a parameter (a stacked name), ascending; None: all of them."""

    parameter: str
    rows: Rows | None = None

    @cached_property
    def name(self) -> str:
        """The parameter's, with the rows in brackets where they are not all."""
        return self.parameter if self.rows is None else f"{self.parameter}[{_text(self.rows)}]"

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The leaf's shape, from the parameter's."""
        return whole if self.rows is None else (len(self.rows), *whole[1:])

    def taken(self, whole: tuple[int, ...]) -> Rows:
        """The rows, also where they are all."""
        return range(whole[0]) if self.rows is None else self.rows


def leaf(name: str) -> Leaf:
    """The leaf of a name."""
    match = re.fullmatch(r"(.+)\[([\d:,]+)\]", name)
    if not match:
        return Leaf(name)
    parts = [_range(part) for part in match[2].split(",")]
    rows = parts[0] if len(parts) == 1 else tuple(i for part in parts for i in part)
    return Leaf(match[1], rows)


def _range(text: str) -> range:
    numbers = [int(n) for n in text.split(":")]
    return range(numbers[0], numbers[0] + 1) if len(numbers) == 1 else range(*numbers)


def _text(rows: Rows) -> str:
    if isinstance(rows, range):
        return f"{rows.start}:{rows.stop}" + (f":{rows.step}" if rows.step > 1 else "")
    parts: list[range] = []
    for row in rows:
        if parts and parts[-1].stop == row:
            parts[-1] = range(parts[-1].start, row + 1)
        else:
            parts.append(range(row, row + 1))
    return ",".join(_text(part) if len(part) > 1 else str(part.start) for part in parts)


def _rows(taken: Sequence[int], count: int) -> Rows | None:
    """Rows in their shortest form: None for all `count`, a range where they are evenly spaced."""
    if len(taken) == count:
        return None
    step = taken[1] - taken[0] if len(taken) > 1 else 1
    even = range(taken[0], taken[-1] + 1, step)
    return even if list(even) == list(taken) else tuple(taken)


@dataclass(frozen=True)
class Loop:
    """Layers from `first` on: a pattern of `period` layers, `repeats` times; one loop."""

    first: int
    period: int
    repeats: int


def loops(signatures: Sequence[Hashable]) -> list[Loop]:
    """Cuts a stack into loops so that the fewest layers have to be compiled.

    Args:
      signatures: of each layer; layers of one signature are computed by the same code.
    """
    best: list[tuple[int, int, list[Loop]]] = [
        (0, 0, [])
    ]  # layers compiled, loops, for each prefix
    for end in range(1, len(signatures) + 1):
        options = []
        for first in range(end):
            period = _period(signatures[first:end])
            compiled, count, before = best[first]
            loop = Loop(first, period, (end - first) // period)
            options.append((compiled + period, count + 1, [*before, loop]))
        best.append(min(options, key=lambda option: option[:2]))
    return best[-1][2]


def _period(signatures: Sequence[Hashable]) -> int:
    """The length of the shortest pattern that a list repeats."""
    length = len(signatures)
    divisors = (p for p in range(1, length + 1) if length % p == 0)
    return next(p for p in divisors if signatures[p:] == signatures[:-p] or p == length)


def divide(
    shapes: Mapping[str, tuple[int, ...]], claims: Mapping[str, Sequence[tuple[int, int, Claim]]]
) -> dict[str, Claim]:
    """The leaves of a model whose rows are claimed differently.

    Args:
      shapes: stacked names to shapes.
      claims: for each of them, (start, stop, claim) over axis 0, in order and without gaps; a
        parameter outside the layers and the tables has one. Rows of different claims, and layers of
        different loops, become different leaves.

    Returns:
      Leaf names to claims.
    """
    found: dict[str, Claim] = {}
    layered = {name: _expanded(claims[name]) for name in shapes if name.startswith(LAYERS)}
    depth = len(next(iter(layered.values()), []))
    stack = loops([tuple(row[i] for row in layered.values()) for i in range(depth)])
    for name, shape in shapes.items():
        if name not in layered:
            for start, stop, claim in _merged(claims[name]):
                rows = None if stop - start == shape[0] else range(start, stop)
                found[Leaf(name, rows).name] = claim
            continue
        for loop in stack:
            layers = range(loop.first, loop.first + loop.period * loop.repeats)
            for claim in dict.fromkeys(layered[name][i] for i in layers):
                taken = [i for i in layers if layered[name][i] == claim]
                found[Leaf(name, _rows(taken, depth)).name] = claim
    return found


def _expanded(spans: Iterable[tuple[int, int, Claim]]) -> list[Claim]:
    return [claim for start, stop, claim in spans for _ in range(start, stop)]


def _merged(spans: Iterable[tuple[int, int, Claim]]) -> list[tuple[int, int, Claim]]:
    merged: list[tuple[int, int, Claim]] = []
    for start, stop, claim in spans:
        if merged and merged[-1][2] == claim:
            start = merged.pop()[0]
        merged.append((start, stop, claim))
    return merged


Places = Mapping[str, tuple[tuple[str, int], ...]]


@dataclass(frozen=True)
class Layout:
    """How the leaves of a model are computed with.

    Attributes:
      tables: for each parameter outside the layers, its leaves in the order of their rows.
      stack: loops of layers.
      places: for each loop, by parameter, the leaf of each place in the pattern and how many of the
        leaf's rows in one repeat come before it.
    """

    tables: Mapping[str, tuple[str, ...]]
    stack: tuple[Loop, ...]
    places: tuple[Places, ...]


@lru_cache(maxsize=64)
def layout(names: tuple[str, ...], parameters: tuple[tuple[str, tuple[int, ...]], ...]) -> Layout:
    """The layout that leaf names describe.

    Args:
      names: of leaves.
      parameters: stacked names and shapes of the whole parameters.

    Raises:
      ValueError: rows of a parameter are missing or in two leaves, or a parameter is not known.
    """
    shapes = dict(parameters)
    owner: dict[str, list[str]] = {name: [""] * shape[0] for name, shape in shapes.items()}
    for leaf_ in map(leaf, names):
        if leaf_.parameter not in shapes:
            raise ValueError(f"{leaf_.name} is of no parameter of this model")
        for row in leaf_.taken(shapes[leaf_.parameter]):
            if row >= len(owner[leaf_.parameter]) or owner[leaf_.parameter][row]:
                raise ValueError(f"row {row} of {leaf_.parameter} is in two leaves, or none")
            owner[leaf_.parameter][row] = leaf_.name
    lacking = [name for name, rows in owner.items() if "" in rows]
    if lacking:
        raise ValueError(f"no leaf has all rows of {', '.join(lacking)}")
    layered = {name: rows for name, rows in owner.items() if name.startswith(LAYERS)}
    tables = {name: tuple(dict.fromkeys(owner[name])) for name in owner.keys() - layered.keys()}
    depth = len(next(iter(layered.values()), []))
    stack = loops([tuple(rows[i] for rows in layered.values()) for i in range(depth)])
    places = []
    for loop in stack:
        pattern = range(loop.first, loop.first + loop.period)
        of: dict[str, tuple[tuple[str, int], ...]] = {}
        for name, rows in layered.items():
            here = [rows[i] for i in pattern]
            of[name] = tuple((own, here[:i].count(own)) for i, own in enumerate(here))
        places.append(of)
    return Layout(tables, tuple(stack), tuple(places))
