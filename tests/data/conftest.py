"""Documents as tokens, without a tokenizer."""

from pathlib import Path

import numpy as np
import pytest

from maxlite.data.tokens import TokenCache


@pytest.fixture
def make_cache():
    """Makes a cache of given documents (lists of ids) in memory."""

    def make(documents: list[list[int]], key: str = "k") -> TokenCache:
        lengths = [len(ids) for ids in documents]
        return TokenCache(
            path=Path(key),
            content=key,
            rows=max((max(ids) + 1 for ids in documents if ids), default=0),
            tokens=np.array([i for ids in documents for i in ids], np.uint16),
            offsets=np.cumsum([0, *lengths], dtype=np.uint64),
            bytes=np.array([3 * n for n in lengths], np.uint64),
            chars=np.array([2 * n for n in lengths], np.uint64),
            hashes=np.array([hash_of(ids) for ids in documents], np.uint64),
        )

    def hash_of(ids: list[int]) -> int:
        return int(np.random.default_rng(ids).integers(2**64, dtype=np.uint64))

    return make


@pytest.fixture
def random_documents():
    """Documents of random lengths, some empty; no id below 10."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 14, 60)
    return [rng.integers(10, 500, n).tolist() for n in lengths]
