from itertools import chain

from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.batching import batched, batches


@settings(deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 9))
def test_so_many_at_a_time(things, number):
    found = list(batched(iter(things), number))
    assert list(chain(*found)) == things
    assert all(len(batch) == number for batch in found[:-1])
    assert all(0 < len(batch) <= number for batch in found)


@settings(deadline=None)
@given(st.lists(st.text("ab", max_size=9), max_size=30), st.integers(1, 20), st.integers(1, 9))
def test_a_batch_of_texts_ends_as_soon_as_it_is_full(texts, characters, number):
    found = list(batches(iter(texts), characters, number))
    assert list(chain(*found)) == texts

    def full(batch):
        return len("".join(batch)) >= characters or len(batch) >= number

    assert all(map(full, found[:-1]))
    assert all(batch and not full(batch[:-1]) for batch in found)


def test_things_may_have_a_text_rather_than_be_one():
    things = [("a", 3), ("b", 4), ("c", 1)]
    assert list(batches(things, 6, size=lambda thing: thing[1])) == [things[:2], things[2:]]
