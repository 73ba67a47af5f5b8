from collections import Counter

import pytest
from continued_examples import KINDS, hangul

from maxlite.tokenizer.runs import count_runs


@pytest.mark.parametrize("kind", KINDS)
def test_words_and_runs(kind, bases):
    runs = count_runs(bases[kind], ["한국어 CD로 한국어", "x가 12나  다, 라\n마"], hangul)
    first = "한국어" if kind == "byte_level" else " 한국어"
    expected = Counter({first: 1}) + Counter(
        {" 한국어": 1, "로": 1, "가": 1, "나": 1, " 다": 1, " 라": 1, "마": 1}
    )
    assert runs == expected


def test_all_words(bases):
    text = "It's 20 cats, 한국어CD!\n▁더"
    assert count_runs(bases["byte_fallback"], [text]) == Counter(
        [" It", "'", "s", " 2", "0", " cats", ",", " 한국어CD", "!", " 더"]
    )
    assert count_runs(bases["byte_level"], [text]) == Counter(
        ["It", "'s", " ", "20", " cats", ",", " 한국어CD", "!\n", "▁더"]
    ) - Counter([" "])


def test_words_are_counted_in_batches(bases, korean, monkeypatch):
    from maxlite.tokenizer import runs

    whole = count_runs(bases["byte_fallback"], korean, hangul)
    monkeypatch.setattr(runs, "_BATCH", 100)
    assert count_runs(bases["byte_fallback"], iter(korean), hangul) == whole
    assert sum(whole.values()) > 5000
