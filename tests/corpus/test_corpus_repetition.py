"""Repetition, against Gopher's definitions counted the slow way."""

import random
from collections import Counter

import corpus_examples as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.repetition import Phrases, Repetition
from maxlite.errors import InputError

PARAGRAPH = (
    "The quiet river runs past the old house and under a bridge. Nobody remembers who built it, "
    "but every winter the ice takes a stone of it, and every spring somebody puts one back."
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ""),
        (" \n ", ""),
        ("very very good", ""),
        ("very very very good", ""),
        ("정말 정말 정말 좋다", ""),
        ("최고 최고 최고 최고 최고 최고", "frequent 2-gram"),
        ("사랑해요 우리 사랑해요 우리 사랑해요 우리", "frequent 2-gram"),
        ("我们我们我们我们我们", "frequent 2-gram"),
        ("ดีมากดีมากดีมากดีมาก", "frequent 2-gram"),
        ("ㅋㅋㅋㅋㅋㅋ", "mostly runs of a character"),
        ("굿굿굿굿굿굿굿굿!", "mostly runs of a character"),
        ("재밌어요 ㅋㅋㅋㅋㅋㅋㅋ", ""),
        ("와아아아아 1000000 won", ""),
        (
            "재미있는 영화 " + "ㅋ" * 51 + " 그리고 조금 더 길게 써 봅니다" * 2,
            "long run of a character",
        ),
        ("-" * 80 + "\n" + PARAGRAPH, ""),
        (PARAGRAPH, ""),
        (f"{PARAGRAPH}\n\n{PARAGRAPH}", "repeated paragraphs"),
        ("가나다\n라마바\n가나다\n사아자\n가나다", "repeated lines"),
        ("a b\nc d\n\ne f\ng h", ""),
        (f"{PARAGRAPH} {PARAGRAPH}", "repeated 5-grams"),
    ],
)
def test_what_is_dropped(text, reason):
    step = Repetition()
    step.check()
    assert step.reason(text) == reason


def test_settings():
    six = "최고 최고 최고 최고 최고 최고"
    off = Repetition(1, 1, 1, 1, top=(), repeated=(), max_run=0, max_run_share=1)
    off.check()
    for text in (six, "ㅋㅋㅋㅋㅋㅋ", "a\na\na", f"{PARAGRAPH} {PARAGRAPH}", "ㅋ" * 1000):
        assert off.reason(text) == ""
    assert Repetition(top=((1, 0.5),)).reason(six) == "frequent 1-gram"
    assert Repetition(repeated=((2, 0.5),), top=()).reason(six) == "repeated 2-grams"
    assert (
        Repetition(max_run_share=0.3).reason("재밌어요 ㅋㅋㅋㅋㅋ") == "mostly runs of a character"
    )


@pytest.mark.parametrize(
    "step",
    [
        Repetition(max_lines=1.1),
        Repetition(max_run=-1),
        Repetition(top=((0, 0.5),)),
        Repetition(repeated=((5, 2.0),)),
    ],
)
def test_wrong_settings_are_refused(step):
    with pytest.raises(InputError, match=r"Repetition\("):
        step.check()


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "d"]), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None)
def test_phrases_are_those_counted_one_by_one(words):
    phrases = Phrases(words)
    for n in range(1, len(words) + 2):
        starts = range(len(words) - n + 1)
        grams = [tuple(words[i : i + n]) for i in starts]
        counts = Counter(grams)
        more = phrases.grow()
        assert more == any(count > 1 for count in counts.values())
        if not more:
            break
        assert phrases.n == n
        first = {gram: grams.index(gram) for gram in counts}
        assert phrases.again() == chars({i for i in starts if i != first[grams[i]]}, n, words)
        most = max(counts.values())
        frequent = [{i for i in starts if grams[i] == gram} for gram in counts]
        room = [
            chars(places, n, words)
            for places in frequent
            if len(places) == most and len(covered(places, n)) >= 3 * n
        ]
        assert phrases.frequent() == max(room, default=0)


def covered(places, n):
    return {place + k for place in places for k in range(n)}


def chars(places, n, words):
    return sum(len(words[k]) for k in covered(places, n))


def test_ordinary_documents_are_kept():
    """Sentences of random words of a small list: nothing is repeated on purpose."""
    kept = [Repetition().reason(text) for text in made.documents(1000)]
    assert kept.count("") > 950
    rng = random.Random(0)
    spam = [" ".join([made.sentence(rng, "ko")] * rng.randint(4, 9)) for _ in range(200)]
    assert all(map(Repetition().reason, spam))
