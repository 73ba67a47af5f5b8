"""Texts in batches that suit an encoder, however long or short they are."""

from collections.abc import Iterable, Iterator

CHARACTERS = 1 << 18  # enough for an encoder's threads; tokens take 100 bytes each meanwhile
DOCUMENTS = 8192


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yields the texts, in order, as lists that end with the text by which they are long enough."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= CHARACTERS or len(batch) >= DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
