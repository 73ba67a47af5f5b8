"""Orders of chosen sequences: exactly these, once a pass, wherever reading begins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.data.kept import KeptOrder, kept_numbers
from maxlite.data.order import Order, OrderSource
from maxlite.errors import InputError


def source(name, weight=1.0, windows=40, **settings):
    return OrderSource(name, name * 4, weight, windows, **settings)


def two(**changes):
    """A base order of two sources, in the second of which the weight changes at a step."""
    some = (source("a", 3.0, 40), source("b", 1.0, 90, later=((6, 3.0),)))
    return Order(some, **{"seed": 0, "seq_len": 16, "batch_size": 8, **changes})


def read(order, start, count):
    """Source, epoch and window of so many sequences from a step on; int64 [3, count]."""
    steps = range(start, start + -(-count // order.batch_size))
    return np.concatenate([np.stack(order.batch(s)) for s in steps], axis=1)[:, :count]


@given(st.integers(1, 120), st.integers(1, 9), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_each_pass_reads_exactly_what_is_kept(size, batch_size, seed):
    base = two()
    kept = np.sort(np.random.default_rng(size).choice(200, size, replace=False))
    order = KeptOrder(base, kept, seed, batch_size)
    expected = sorted(zip(*(x.tolist() for x in base.places(kept)[::2]), strict=True))
    shown = read(order, 0, 3 * size)
    passes = []
    for turn in range(3):
        part = shown[:, turn * size : (turn + 1) * size]
        assert (part[1] == turn).all()
        passes.append(part[[0, 2]].T.tolist())
        assert sorted(map(tuple, passes[-1])) == expected
    if size > 20:
        assert passes[0] != passes[1] != passes[2]


def test_numbers_literally():
    """The order of every later round that was ever begun: it may never change."""
    kept = np.array([2, 3, 5, 7, 11, 13])
    assert kept_numbers(kept, 1, np.arange(12)).tolist() == [2, 5, 13, 3, 11, 7, 7, 13, 5, 2, 3, 11]
    assert kept_numbers(kept, 1, np.array([8, 0])).tolist() == [5, 2]


def test_a_number_means_the_same_whatever_the_batch():
    """Where weights change at steps, the base's batch size says after how many sequences."""
    kept = np.arange(0, 120, 3)
    small, large = (KeptOrder(two(), kept, 1, size) for size in (4, 20))
    np.testing.assert_array_equal(read(small, 0, 80), read(large, 0, 80))
    other = KeptOrder(two(batch_size=4), kept, 1, 4)
    assert (read(other, 0, 40) != read(small, 0, 40)).any()
    np.testing.assert_array_equal(small.batch(3, np.array([2, 0]))[2], small.batch(3)[2][[2, 0]])


def test_what_has_been_read():
    base = two()
    kept = np.sort(np.random.default_rng(0).choice(100, 60, replace=False))
    order = KeptOrder(base, kept, 1, 5)
    for steps in (1, 7, 12, 31):
        shown = read(order, 0, 5 * steps)[0]
        counts = np.bincount(shown, minlength=2)
        assert order.counts(5 * steps) == counts.tolist()
        of_all = np.bincount(base.places(kept)[0], minlength=2)
        for k, found in enumerate(order.read(steps).values()):
            assert found.asked == pytest.approx(of_all[k] / 60)
            assert found.share == pytest.approx(counts[k] / (5 * steps))
    assert order.once() == 12 and len(order.phases) == 1


def test_passes_are_through_what_is_kept():
    base = Order([source("a", windows=50, epochs=2.0)], 0, 16, 10)
    half = KeptOrder(base, np.arange(0, 50, 2), 1, 5)
    assert half.epochs(25) == [1.0] and half.epochs(50) == [2.0]
    half.check_length(50)
    with pytest.raises(InputError, match=r"'a' would be read 2\.2 times in 11 steps"):
        half.check_length(55)
    # Of 100 sequences of 50 windows each window is kept twice.
    assert KeptOrder(base, np.arange(100), 1, 5).epochs(100) == [2.0]
    none = KeptOrder(two(), np.flatnonzero(two().places(np.arange(60))[0] == 0), 1, 5)
    assert none.epochs(10)[1] == 0 and none.read(2)["b"] == (0, 0, 0)


def test_the_fingerprint_follows_what_is_kept():
    kept = np.arange(0, 40, 2)
    made = [
        KeptOrder(two(), kept, 1, 4),
        KeptOrder(two(), kept, 2, 4),
        KeptOrder(two(), kept, 1, 8),
        KeptOrder(two(), kept + 1, 1, 4),
        KeptOrder(two(seed=1), kept, 1, 4),
        KeptOrder(two(batch_size=4), kept, 1, 4),
        two(batch_size=4, seed=1),
    ]
    assert len({order.fingerprint for order in made}) == 7
    assert made[0].fingerprint == KeptOrder(two(), kept.copy(), 1, 4).fingerprint


def test_once_is_as_long_as_nothing_is_read_twice():
    for order in (two(), two(batch_size=1), Order([source("a")], 0, 16, 7)):
        steps = order.once()
        assert max(order.epochs(steps * order.batch_size)) <= 1
        assert max(order.epochs((steps + 1) * order.batch_size)) > 1
