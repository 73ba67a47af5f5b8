import numpy as np
import pytest

from maxlite.data.view import View, split


def test_lengths_and_documents(make_cache, random_documents):
    cache = make_cache(random_documents)
    for bos, eos in ((None, None), (1, None), (1, 2)):
        extra = (bos is not None) + (eos is not None)
        for index in (None, np.array([3, 4, 50])):
            chosen = random_documents if index is None else [random_documents[i] for i in index]
            view = View(cache, bos, eos, index)
            assert view.ends.tolist() == np.cumsum([len(d) + extra for d in chosen]).tolist()
            assert view.length == view.ends[-1] and len(view) == len(chosen)
            assert view.tokens == sum(map(len, chosen))
            assert (view.bytes, view.chars) == (3 * view.tokens, 2 * view.tokens)
            assert [d.tolist() for d in view.documents()] == chosen
            assert all(d.dtype == np.int32 for d in view.documents())


def test_split_is_by_text_and_complete(make_cache):
    documents = [[i % 500] for i in range(2000)]
    cache = make_cache(documents)
    train, held = split(cache, 1, 2, 0.2)
    assert sorted([*train.index, *held.index]) == list(range(2000))
    sides = [{d[0] for d in view.documents()} for view in (train, held)]
    assert not sides[0] & sides[1]  # duplicates are on the same side
    assert 0.14 < len(sides[1]) / 500 < 0.26
    # A larger share holds out the same documents and more.
    assert set(held.index) < set(split(cache, 1, 2, 0.4)[1].index)


def test_split_of_nothing(make_cache):
    train, held = split(make_cache([[1, 2], [3]]), None, None, 0.0)
    assert train.index is None and len(train) == 2
    assert (len(held), held.length, held.tokens, held.bytes, list(held.documents())) == (0,) * 4 + (
        [],
    )


def test_take_spreads_evenly(make_cache):
    view = View(make_cache([[i] for i in range(100)]), None, None)
    assert [d[0] for d in view.take(5).documents()] == [0, 20, 40, 60, 80]
    odd = View(view.cache, None, None, np.arange(1, 100, 2))
    assert [d[0] for d in odd.take(5).documents()] == [1, 21, 41, 61, 81]
    assert view.take(0) is view and view.take(100) is view and len(view.take(99)) == 99


def test_content_names_what_sequences_depend_on(make_cache):
    a, b = make_cache([[1]], key="a"), make_cache([[1]], key="b")
    views = [*split(a, 1, 2, 0.1), *split(a, 1, 2, 0.2), split(a, 1, None, 0.1)[0], View(b, 1, 2)]
    views += [View(a, 1, 2), View(a, None, 2), View(make_cache([[i] for i in range(9)]), 1, 2)]
    views += [views[-1].take(4), views[-1].take(5)]
    assert len({view.content for view in views}) == len(views)
    assert split(a, 1, 2, 0.1)[0].content == split(a, 1, 2, 0.1)[0].content


@pytest.mark.parametrize("held_out", [0.5, 0.999999])
def test_large_shares(held_out, make_cache):
    cache = make_cache([[i] for i in range(500)])
    assert len(split(cache, None, None, held_out)[1]) > 200
