"""Things taken several at a time: texts in batches that suit an encoder, however long they are."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")

CHARACTERS = 1 << 18  # enough for an encoder's threads; tokens take 100 bytes each meanwhile
TEXTS = 8192


def batched(things: Iterable[T], number: int) -> Iterator[list[T]]:
    """So many at a time, in their order; fewer in the last batch."""
    rest = iter(things)
    while batch := list(islice(rest, number)):
        yield batch


def batches(
    texts: Iterable[T],
    characters: int = 0,
    number: int = 0,
    size: Callable[[Any], int] = len,
) -> Iterator[list[T]]:
    """Texts, in order, as lists that end with the text by which they are long enough.

    Args:
      texts: any number of them.
      characters: that are enough; 0: as many as suit an encoder.
      number: of texts that is enough, however short they are; 0: likewise.
      size: characters of a text, where it is something that has one.
    """
    characters, number = characters or CHARACTERS, number or TEXTS
    batch: list[T] = []
    held = 0
    for text in texts:
        batch.append(text)
        held += size(text)
        if held >= characters or len(batch) >= number:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
