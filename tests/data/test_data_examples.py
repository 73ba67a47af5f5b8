import numpy as np
import pytest

from maxlite.data.corpus import Corpus
from maxlite.data.examples import examples
from maxlite.data.order import Order, OrderSource
from maxlite.data.orders import OrderFile
from maxlite.data.packing import windows
from maxlite.data.view import View

SEQ_LEN = 8


@pytest.mark.parametrize("ends", [(1, 2), (1, None), (None, None)])
@pytest.mark.parametrize("chosen", [None, np.arange(3, 60, 2)])
def test_examples_are_the_documents_of_the_rows(ends, chosen, make_cache, random_documents):
    """All rows of a source, sorted, hold all of its documents again, each with its number."""
    view = View(make_cache(random_documents), *ends, chosen, "x")
    count = windows(view, SEQ_LEN)
    order = Order([OrderSource("a", view.content, 1.0, count)], 0, SEQ_LEN, 4)
    corpus = Corpus(order, [view], {}, OrderFile((), "", *ends, 0, SEQ_LEN))
    shown = list(examples(corpus, 0, count))
    assert [(e.step, e.row) for e in shown] == [(n // 4, n % 4) for n in range(count)]
    assert {(e.source, e.epoch) for e in shown} == {("a", 0)}
    found: dict[int, list[int]] = {}
    open_one = None
    for example in sorted(shown, key=lambda e: e.window):
        assert 0 < sum(len(part.ids) for part in example.parts) <= SEQ_LEN
        for part in example.parts:
            assert part.begun == (part.document == open_one)
            open_one = part.document if part.goes_on else None
            found.setdefault(part.document, []).extend(part.ids.tolist())
    numbers = range(60) if chosen is None else chosen.tolist()
    before, after = ([] if end is None else [end] for end in ends)
    expected = {i: [*before, *random_documents[i], *after] for i in numbers}
    expected = {i: ids for i, ids in expected.items() if ids}
    last = max(expected)  # whose last token is a target alone
    expected[last].pop()
    assert found == {i: ids for i, ids in expected.items() if ids}


def test_examples_begin_at_a_step(make_cache):
    view = View(make_cache([[7, 8, 9]] * 50), 1, 2)
    order = Order([OrderSource("a", "a", 1.0, windows(view, SEQ_LEN))], 0, SEQ_LEN, 4)
    corpus = Corpus(order, [view], {}, OrderFile((), "", 1, 2, 0, SEQ_LEN))
    whole = list(examples(corpus, 0, 12))
    assert [e.window for e in examples(corpus, 2, 4)] == [e.window for e in whole[8:]]
    assert list(examples(corpus, 2, 0)) == []
