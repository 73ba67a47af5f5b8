import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maxlite.data.fitting import fitted


@given(st.integers(1, 40).flatmap(lambda r: st.tuples(st.just(r), st.lists(st.integers(1, r)))))
def test_every_document_is_in_one_row_and_none_overflows(case):
    room, lengths = case
    order, sizes = fitted(np.array(lengths, np.int64), room)
    assert sorted(order.tolist()) == list(range(len(lengths))) and sizes.sum() == len(lengths)
    rows = np.split(order, np.cumsum(sizes)[:-1]) if len(sizes) else []
    used = [sum(lengths[i] for i in row) for row in rows]
    assert all(0 < one <= room for one in used)
    least = -(-sum(lengths) // room)
    assert len(rows) <= max(least, least * 11 / 9 + 4, sum(2 * n > room for n in lengths))


def test_gaps_are_filled():
    lengths = np.array([3, 60, 50, 40, 97, 50])
    order, sizes = fitted(lengths, 100)
    assert sizes.tolist() == [2, 2, 2] and sorted(lengths[order[:2]].tolist()) == [3, 97]


@pytest.mark.parametrize("mean", [30, 200])
def test_many_rows_are_nearly_full(mean):
    lengths = np.random.default_rng(0).gamma(2, mean / 2, 5000).astype(np.int64).clip(1, 512)
    _, sizes = fitted(lengths, 512)
    assert lengths.sum() / (512 * len(sizes)) > 0.99
