import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.sampling import _number, sample


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=9), max_size=60), st.integers(0, 200))
def test_it_fits_keeps_the_order_and_counts_all(texts, most):
    found = sample(iter(texts), most)
    assert found.size == sum(len(text.encode()) for text in found.texts) <= most
    assert found.documents == len(texts)
    assert found.bytes == sum(len(text.encode()) for text in texts)
    rest = iter(texts)
    assert all(text in rest for text in found.texts), "a part of the corpus, in its order"
    if found.bytes <= most:
        assert found.texts == texts
    assert sample(iter(texts), most) == found


@pytest.mark.parametrize("seed", range(4))
def test_a_smaller_sample_is_a_part_of_a_larger_one(seed):
    """So a document's chance does not depend on how long it is."""
    chance = random.Random(seed)
    texts = [f"{i:03}".rjust(chance.choice([3, 4, 40])) for i in range(100)]
    numbers = {text: _number(place) for place, text in enumerate(texts)}
    before: set[str] = set()
    for most in range(0, sum(map(len, texts)), 7):
        now = set(sample(texts, most).texts)
        assert before <= now < set(texts)
        left_out = min(numbers[text] for text in texts if text not in now)
        assert all(numbers[text] < left_out for text in now)
        before = now


def test_as_many_as_fit():
    assert [len(sample(["123"] * 100, most).texts) for most in (0, 2, 3, 100, 300)] == [
        0,
        0,
        1,
        33,
        100,
    ]


def test_every_document_has_the_same_chance():
    texts = [f"{i:05}" for i in range(50_000)]
    found = sample(texts, 50_000)
    assert len(found.texts) == 10_000
    tenths = Counter(int(text) // 5_000 for text in found.texts)
    # 1,000 are expected in each tenth, with a standard deviation of 28.
    assert all(abs(tenths[i] - 1_000) < 120 for i in range(10)), tenths


def test_documents_of_the_same_text_are_chosen_one_by_one():
    found = sample(["same"] * 1_000, 400)
    assert found.texts == ["same"] * 100


def test_memory_does_not_grow_with_the_corpus():
    import tracemalloc

    def texts():
        for i in range(20_000):
            yield f"{i:>1000}"

    tracemalloc.start()
    found = sample(texts(), 100_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.texts) == 100 and peak < 1_000_000
