"""Lists of layers: which old layer each layer of a deeper (or shallower) model is.

Layers are counted from 0. A seam is where a layer does not follow the one before it in the old
model: there it reads what it was not trained to read.
"""

import re
import textwrap
from collections.abc import Sequence

from maxlite.errors import InputError

METHODS = {"dus": ("drop",), "interlocked": ("drop", "group"), "llama_pro": ("add",)}
BARS = "▁▂▃▄▅▆▇█"
WIDTH = 96

Source = tuple[str, int]  # model by name ("" where there is one only), layer


def dus(layers: int, drop: int) -> list[int]:
    """All but the last `drop` layers, then all but the first (SOLAR, arXiv 2312.15166, 2)."""
    return interlocked(layers, drop, layers - drop)


def interlocked(layers: int, drop: int, group: int) -> list[int]:
    """The layers of `dus`, `group` of the one copy and of the other in turn.

    (iDUS, github.com/gauss5930/iDUS; there in groups of 8, or of 1.)

    Raises:
        InputError: `drop` is out of range, or `group` does not divide what is left of a copy.
    """
    if not 0 < drop < layers:
        raise InputError(
            f"drop is {drop}, but of {layers} layers at least 1 and at most {layers - 1} can be"
            " left out of each copy"
        )
    left = layers - drop
    if group < 1 or left % group:
        raise InputError(
            f"group {group} does not divide the {left} layers that are left of each copy"
            f" ({layers} - {drop}): choose a divisor of {left}"
        )
    starts = range(0, left, group)
    return [i for a in starts for copy in (a, drop + a) for i in range(copy, copy + group)]


def llama_pro(layers: int, add: int) -> tuple[list[int], list[int]]:
    """Block expansion (LLaMA-Pro, arXiv 2401.02415, 3.2).

    Returns:
        The old layer of each new one, and which of the new ones are inserted: a copy of the last
        layer after each of `add` groups of equal size.

    Raises:
        InputError: `add` does not divide the layers.
    """
    if add < 1 or layers % add:
        raise InputError(
            f"add {add} does not divide the {layers} layers: one is inserted after each of `add`"
            " groups of equal size"
        )
    group = layers // add
    sources: list[int] = []
    for end in range(group, layers + 1, group):
        sources += [*range(end - group, end), end - 1]
    return sources, list(range(group, len(sources), group + 1))


def parse(text: str, layers: int) -> list[int]:
    """The list that a text such as "0-23,8-31" says, ends included.

    Raises:
        InputError: it is malformed, or names a layer that the model does not have.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if not match:
            raise InputError(
                f"layers {text!r} has {part.strip()!r} where a layer or a range is expected: write"
                " it like 0-23,8-31"
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"layers {text!r} has {part.strip()!r}, which runs backwards")
        if last >= layers:
            raise InputError(
                f"layers {text!r} names layer {last}, but the model has {layers}, counted from 0"
            )
        found += range(first, last + 1)
    return found


def chosen(
    depth: int, *, method: str = "", drop: int = 0, group: int = 0, add: int = 0, layers: str = ""
) -> tuple[list[int], list[int]]:
    """The list that settings ask for, and which of its layers are inserted.

    Args:
        depth: Layers of the model.
        method: One of `METHODS`, with the settings that it needs and no other; or
        layers: The list itself.

    Raises:
        InputError: no or contradicting settings, or a list that the model cannot give.
    """
    numbers = {"drop": drop, "group": group, "add": add}
    given = [name for name, value in numbers.items() if value]
    if layers:
        if method or given:
            more = ", ".join(["method"] * bool(method) + given)
            raise InputError(f"layers gives the whole list, so {more} beside it must be left out")
        return parse(layers, depth), []
    if not method:
        beside = f"{', '.join(given)} needs a method" if given else "there is no method"
        raise InputError(f"{beside}: give method ({', '.join(METHODS)}), layers or mergekit")
    if method not in METHODS:
        raise InputError(f"method is {method!r}, but it must be one of {', '.join(METHODS)}")
    missing = [name for name in METHODS[method] if not numbers[name]]
    if missing:
        raise InputError(f"method {method} needs {' and '.join(missing)}")
    useless = [name for name in given if name not in METHODS[method]]
    if useless:
        raise InputError(f"method {method} has no use for {' and '.join(useless)}: leave it out")
    if method == "llama_pro":
        return llama_pro(depth, add)
    return (dus(depth, drop) if method == "dus" else interlocked(depth, drop, group)), []


def ends(layers: int, keep: int) -> list[int]:
    """The `keep` layers nearest to either end, one more at the begin where they are odd.

    RethinkTinyLM (arXiv 2402.02791, 3.3) finds that layers near both ends matter more than those in
    the middle; its exact rule is not known, so this one is ours.
    """
    return [*range(-(-keep // 2)), *range(layers - keep // 2, layers)]


def seams(sources: Sequence[Source]) -> list[int]:
    """The new layers whose source does not follow the source of the layer before."""
    return [
        i
        for i, (name, layer) in enumerate(sources)
        if i and (name, layer) != (sources[i - 1][0], sources[i - 1][1] + 1)
    ]


def picture(sources: Sequence[Source], depth: int, inserted: Sequence[int] = ()) -> list[str]:
    """A few lines for the terminal: the height of each layer's source, then the runs of layers.

    Args:
        sources: Of each new layer.
        depth: Layers of the (deepest) old model.
        inserted: New layers that change nothing yet; marked by a star.
    """
    breaks, last = {*seams(sources), len(sources)}, len(sources) - 1
    names = dict.fromkeys(name for name, _ in sources)
    letters = {name: chr(ord("A") + i) for i, name in enumerate(names)}
    bars, runs, start = "", "", 0
    for i, (name, layer) in enumerate(sources):
        bars += "|" * (i in breaks) + BARS[len(BARS) * layer // depth]
        star = i in inserted
        if i + 1 in breaks or star != (i + 1 in inserted):
            first = sources[start][1]
            runs += f"{letters[name]}:" if len(letters) > 1 else ""
            runs += (f"{first}-{layer}" if first < layer else f"{layer}") + "*" * star
            runs += " | " if i + 1 in breaks and i < last else " "
            start = i + 1
    legend = [f"{letter}: {name}" for name, letter in letters.items() if len(letters) > 1]
    return [*textwrap.wrap(bars, WIDTH), *textwrap.wrap(runs, WIDTH), *legend]
