"""Counting of characters by kind, against one by one."""

import unicodedata

import numpy as np
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus import kinds
from maxlite.corpus.kinds import counted
from maxlite.errors import InputError

KINDS = (r"[\p{L}\p{M}]", r"\p{N}", r"\p{Script=Hangul}")


@given(st.lists(st.text(st.characters(), max_size=20), max_size=8))
@settings(max_examples=200, deadline=None)
def test_counts_are_those_of_single_characters(texts):
    counts = counted(texts, KINDS)
    assert counts.shape == (len(texts), 3) and counts.dtype == np.int64
    for text, (letters, numbers, hangul) in zip(texts, counts.tolist(), strict=True):
        categories = [unicodedata.category(c)[0] for c in text if not regex.match(KINDS[2], c)]
        assert hangul == len(regex.findall(KINDS[2], text))
        # Python's Unicode may be older than that of regex: it then lacks letters, never has more.
        assert letters >= sum(c in "LM" for c in categories)
        assert numbers >= categories.count("N")


def test_many_texts_are_counted_in_parts(monkeypatch):
    texts = ["가a1", "", "나", "bb", "", "다라마", "1"] * 5
    whole = counted(texts, KINDS)
    for most in (1, 2, 7):
        monkeypatch.setattr(kinds, "_AT_ONCE", most)
        assert np.array_equal(counted(texts, KINDS), whole)
    assert counted([], KINDS).shape == (0, 3)


def test_what_is_no_set_is_refused():
    with pytest.raises(InputError, match="no set of characters"):
        counted(["a"], (r"\p{Nonsense}",))
