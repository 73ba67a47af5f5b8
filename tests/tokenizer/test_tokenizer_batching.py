from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer import batching
from maxlite.tokenizer.batching import batches


@given(st.lists(st.text(max_size=9), max_size=40), st.integers(1, 30), st.integers(1, 9))
@settings(max_examples=150, deadline=None)
def test_batches_end_where_they_are_long_enough(texts, characters, documents):
    before = batching.CHARACTERS, batching.DOCUMENTS
    batching.CHARACTERS, batching.DOCUMENTS = characters, documents
    try:
        found = list(batches(iter(texts)))
    finally:
        batching.CHARACTERS, batching.DOCUMENTS = before
    assert [text for batch in found for text in batch] == texts
    for i, batch in enumerate(found):
        short = sum(map(len, batch[:-1])) < characters and len(batch) <= documents
        enough = sum(map(len, batch)) >= characters or len(batch) == documents
        assert batch and short and (enough or i == len(found) - 1)
