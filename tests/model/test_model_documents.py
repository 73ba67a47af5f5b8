"""Where documents begin and how long they are: the tables, exactly."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from maxlite.model import documents


def by_hand(segments):
    """[(first place, tokens)] over all rows laid end to end."""
    found = []
    for number, row in enumerate(segments):
        edges = [0, *(np.flatnonzero(np.diff(row)) + 1), len(row)]
        found += [(number * len(row) + a, b - a) for a, b in itertools.pairwise(edges)]
    return found


def dealt(segments):
    """Levels as NumPy arrays, from a compiled program."""

    def arrays(segments):
        found = documents.levels(segments)
        return [vars(level) | {"length": level.length} for level in found.levels], found.fit

    return jax.tree.map(np.asarray, jax.jit(arrays)(segments))


def test_lengths_of_levels():
    assert documents.lengths(4096) == [4096, 512, 64]
    assert documents.lengths(1024) == [1024, 128]
    assert documents.lengths(100) == [100]
    assert documents.lengths(4095) == [4095]  # no eighth


@pytest.mark.parametrize("mean", [2, 20, 100, 500])
def test_every_document_is_in_one_table_and_as_it_is(mean):
    rng = np.random.default_rng(mean)
    segments = np.cumsum(rng.random((3, 1024)) < 1 / mean, axis=1).astype(np.int32)
    segments[1] = 7  # a row that is one document: its neighbours' edges are not its own
    levels, fit = dealt(segments)
    expected = by_hand(segments)
    assert fit == (sum(n <= 128 for _, n in expected) <= 3 * 8 * 8)
    assert fit or mean < 20
    lengths = [1024, 128]
    for number, level in enumerate(levels):
        below = lengths[number + 1] if number + 1 < len(lengths) else 0
        own = [(a, n) for a, n in expected if below < n <= level["length"]]
        room = len(level["begins_C"])
        assert room == 3 * 1024 // level["length"] * 8
        table = list(zip(level["begins_C"].tolist(), level["lengths_C"].tolist(), strict=True))
        assert table[: len(own)] == own[:room]
        assert set(table[len(own) :]) <= {(3 * 1024, 0)}
        for row, (a, n) in enumerate(own):
            here = slice(a, a + n)
            assert level["holds_P"][here].all()
            assert (level["row_P"][here] == row).all()
            assert (level["inner_P"][here] == np.arange(n)).all()
        assert level["holds_P"].sum() == sum(n for _, n in own)


def test_no_row_can_fill_a_level_but_the_last():
    """The most documents that are too long for the next level: each one token longer than it."""
    segments = np.arange(1024)[None] // 129
    levels, fit = dealt(np.tile(segments, (4, 1)).astype(np.int32))
    assert fit and (levels[0]["lengths_C"] == 129).sum() == 4 * 7 < len(levels[0]["lengths_C"])


def test_the_last_level_says_that_it_is_full():
    room = 128 // 128 * 8
    for count in (room, room + 1):
        segments = np.minimum(np.arange(128), count - 1)[None].astype(np.int32)
        assert dealt(segments)[1] == (count <= room)
