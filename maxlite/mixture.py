"""What a run reads, and in which shares: sources, whose weights may change at given steps."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

from maxlite.errors import InputError

Later = tuple[tuple[int, float], ...]


@dataclass
class Source:
    """Files that are read as one stream of documents.

    `weight` is the share of tokens this source contributes, relative to the other sources, in any
    unit; a source of weight 0 is not read. `field` names the text column of .jsonl and .parquet
    files. `epochs` caps how often the source may be read through (0: as often as the run needs).
    `later` changes the weight at steps: ((1000, 0.5), (2000, 0)) makes it 0.5 from step 1000 on and
    stops reading at step 2000.

    With a `template` the files hold conversations, and what counts is the responses in them:
    alpaca, llama2, llama3 or chatml, or "own" for the model's own chat template. `field` then names
    two columns, "question,answer", or the one that has the list of messages; by default what a
    record is shows by itself.
    """

    glob: str = ""
    weight: float = 1.0
    name: str = ""
    field: str = "text"
    epochs: float = 0.0
    later: Later = ()
    template: str = ""


def awaits(several: Any) -> bool:
    """Whether a file says what conversations are, and leaves their glob to the command line."""
    lone = several[0] if isinstance(several, (tuple, list)) and len(several) == 1 else None
    return isinstance(lone, Source) and bool(lone.template) and not lone.glob


def listed(text: str, domains: bool = False) -> tuple[Source, ...]:
    """Sources as a command line has them: [NAME=]GLOB[:WEIGHT], with commas between them.

    Example: `ko=korean/*.txt:9,english.jsonl:1`

    Args:
      text: what is given.
      domains: take en/news=GLOB for the name en/news, too.
    """
    name = r"[\w-]+(?:/[\w-]+)?" if domains else r"[\w-]+"
    form = re.compile(rf"(?:(?P<name>{name})=)?(?P<glob>.*?)(?::(?P<weight>\d+(?:\.\d+)?))?")
    found = []
    for part in text.split(",") if text else ():
        given, glob, weight = form.fullmatch(part).group("name", "glob", "weight")  # type: ignore[union-attr]
        found.append(Source(glob, float(weight or 1), given or ""))
    return tuple(found)


class Weighed(Protocol):
    """Anything with a weight that may change."""

    weight: float
    later: Later


def parsed_later(value: Any, key: str) -> Later:
    """Checks what a config has for `later`, at some key.

    Raises:
      InputError: it is no tuple of (step, weight), its steps do not ascend from 1, or a weight is
        negative.
    """

    def fits(pair: Any) -> bool:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            return False
        step, weight = pair
        return type(step) is int and type(weight) in (int, float) and 0 <= weight < math.inf

    if not isinstance(value, (tuple, list)) or not all(map(fits, value)):
        raise InputError(
            f"config key '{key}' must hold steps and the weights from there on, which are at least "
            f"0, such as ((1000, 0.5), (2000, 0.0)), not {value!r}"
        )
    if not all(a < b for a, b in pairwise([0, *(step for step, _ in value)])):
        raise InputError(f"config key '{key}' must have ascending steps from 1 on, not {value!r}")
    return tuple((step, float(weight)) for step, weight in value)


def phases(sources: Sequence[Weighed]) -> list[tuple[int, tuple[float, ...]]]:
    """The weights of all sources wherever one of them changes.

    Returns:
      Steps, ascending from 0, with the weight that each source has from there on.

    Raises:
      InputError: no source has a weight at some step.
    """
    found: list[tuple[int, tuple[float, ...]]] = []
    for step in sorted({0, *(step for source in sources for step, _ in source.later)}):
        weights = tuple(
            next((w for at, w in reversed(source.later) if at <= step), source.weight)
            for source in sources
        )
        if not any(weights):
            raise InputError(
                f"config key 'data.train' gives every source the weight 0 from step {step} on, so "
                "that there is nothing to read; give one of them another"
            )
        if not found or weights != found[-1][1]:
            found.append((step, weights))
    return found


def is_read(source: Weighed) -> bool:
    """Whether a source has a weight at some step."""
    return any((source.weight, *(weight for _, weight in source.later)))
