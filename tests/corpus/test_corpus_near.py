import random
import re
import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pytest
from corpuswide import dropped, run
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus import near
from maxlite.corpus.near import NearDuplicates
from maxlite.errors import InputError


def grams(text: str, n: int = 5) -> frozenset[str]:
    """The set that a text stands for, made in another way than the product does."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = re.sub(r"(?<=\d)[\s.,!]+(?=\d)", "\0", text)
    text = re.sub(r"[\s.,!~]+", "", text)
    return frozenset(text[i : i + n] for i in range(max(1, len(text) - n + 1)))


def jaccard(one: str, two: str) -> float:
    a, b = grams(one), grams(two)
    return len(a & b) / len(a | b)


def similarities(texts: list[str]) -> dict[tuple[int, int], float]:
    """The exact similarity of all pairs (later, earlier) that have anything in common."""
    sets = [grams(text) for text in texts]
    places, both = defaultdict(list), Counter()
    for i, some in enumerate(sets):
        for gram in some:
            both.update((i, j) for j in places[gram])
            places[gram].append(i)
    return {
        (i, j): shared / (len(sets[i]) + len(sets[j]) - shared) for (i, j), shared in both.items()
    }


SYLLABLES = [chr(0xAC00 + 17 * i) for i in range(600)]


def sentence(rng: random.Random, words: int) -> str:
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(2, 4))) for _ in range(words))


def edited(rng: random.Random, text: str) -> str:
    """A text with one of the changes by which copies differ."""
    words = text.split(" ")
    kind = rng.randrange(6)
    if kind == 0:  # a few characters
        chars = list(text)
        for _ in range(rng.randint(1, max(1, len(text) // 40))):
            chars[rng.randrange(len(chars))] = rng.choice(SYLLABLES)
        return "".join(chars)
    if kind == 1:  # a sentence more
        return f"{text}. {sentence(rng, 3)}"
    if kind == 2 and len(words) > 1:  # words that changed places
        i, j = rng.sample(range(len(words)), 2)
        words[i], words[j] = words[j], words[i]
        return " ".join(words)
    if kind == 3:  # spacing and punctuation
        return text.replace(" ", rng.choice(["", "  ", ", "])) + "!!"
    if kind == 4:  # the end is missing
        return " ".join(words[: -rng.randint(1, 3)])
    return text.replace("1", "2").replace("5", "8")


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    rng = random.Random(3)
    texts = [sentence(rng, rng.randint(8, 60)) for _ in range(700)]
    for _ in range(250):  # short ones in which a number is much
        texts.append(f"{rng.randint(10, 99)}월 {rng.randint(1, 31)}일 {sentence(rng, 3)}")
    for text in rng.choices(texts, k=900):
        texts.insert(rng.randrange(len(texts)), edited(rng, text))
    return texts


def test_planted_duplicates_against_all_pairs(corpus):
    """Precision and recall by similarity, and that what is dropped is like something that stays."""
    gone = set(dropped(NearDuplicates(), corpus, shards=3))
    closest = dict.fromkeys(range(len(corpus)), 0.0)
    for (later, earlier), similarity in similarities(corpus).items():
        if earlier not in gone:
            closest[later] = max(closest[later], similarity)
    assert min(closest[i] for i in gone) >= 0.72
    found = {}
    for low, high in ((0, 0.72), (0.72, 0.8), (0.8, 0.88), (0.88, 1.01)):
        here = [i for i, similarity in closest.items() if low <= similarity < high]
        found[low] = len(gone.intersection(here)) / len(here)
        print(f"similarity from {low}: {found[low]:.3f} of {len(here)} dropped")
        assert len(here) > 50
    right = sum(closest[i] >= 0.8 for i in gone) / len(gone)
    print(f"{len(gone)} dropped, {right:.3f} of them at or above the threshold")
    assert found[0] == 0 and found[0.8] > 0.8 and found[0.88] == 1 and right > 0.95


def test_numbers_make_a_difference_in_short_texts_only():
    short = ["1월 5일 날씨 맑음", "2월 5일 날씨 맑음", "1월 5일, 날씨 맑음!"]
    assert dropped(NearDuplicates(), short) == [2]
    rest = sentence(random.Random(0), 60)
    assert dropped(NearDuplicates(), [f"{text} {rest}" for text in short]) == [1, 2]


def test_texts_shorter_than_an_n_gram_are_compared_whole():
    texts = ["네", "네.", "네네", "아니", "", "네네!", "!", "?", "", "가나다라", "가나다라마"]
    assert dropped(NearDuplicates(), texts) == [1, 5, 8]


def test_no_chains():
    """The third is like the second, which is dropped, and not like the first: it stays."""
    long = sentence(random.Random(1), 200)
    first, second, third = long[:300], long[25:325], long[50:350]
    assert jaccard(first, second) > 0.8 > 0.75 > jaccard(first, third)
    assert dropped(NearDuplicates(), [first, second, third]) == [1]
    assert dropped(NearDuplicates(), [second, first, third]) == [1, 2]
    # A twin of the second goes with it, although the one before it does not stay.
    assert dropped(NearDuplicates(), [first, second, second, third, second]) == [1, 2, 4]


@pytest.mark.parametrize(
    "shards, parts, batch", [(1, 1, 5000), (3, 5, 7), (7, 32, 200), (7, 40, 1)]
)
def test_any_division_gives_the_same(corpus, monkeypatch, shards, parts, batch):
    some = corpus[:500]
    whole = run(NearDuplicates(), some, 1, 1)
    assert {reason for _, reason in whole} == {"", "near duplicate"}
    assert [text for text, _ in whole] == some
    monkeypatch.setattr(near, "_BLOCK", 16)
    monkeypatch.setattr(near, "_CHUNK", 5)
    monkeypatch.setattr(near, "_STRIDE", 9)
    assert run(NearDuplicates(), some, shards, parts, batch) == whole


def test_groups_of_very_many():
    """200 like one another and 200 that are like no other, all of which share a band."""
    rng = np.random.default_rng(0)
    step = NearDuplicates(neighbours=2)
    signatures = rng.integers(0, 256, (401, 256), dtype=np.uint8)
    signatures[::2] = np.where(rng.random((201, 256)) < 0.02, signatures[::2], signatures[0])
    signatures[:, :8] = 7
    (verdict,) = step.resolve([signatures], [step.match(0, 1, [signatures])])
    assert np.flatnonzero(verdict).tolist() == list(range(2, 401, 2))
    pairs = step.match(0, 32, [signatures])
    assert pairs.dtype == np.int64 and len(pairs) <= 3 * 401
    assert (pairs[:, 0] >= pairs[:, 1]).all() and (pairs % 2 == 0).all()


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60), st.integers(1, 4))
@settings(max_examples=150, deadline=None)
def test_resolving_is_walking_through_the_documents(pairs, parts):
    likes = defaultdict(set)
    for a, b in pairs:
        likes[max(a, b)].add(min(a, b))
    kept = []
    for i in range(31):
        if i not in likes[i] and not likes[i].intersection(kept):
            kept.append(i)
    ordered = np.array([(max(p), min(p)) for p in pairs], np.int64).reshape(-1, 2)
    shards = [np.zeros((n, 256), np.uint8) for n in (4, 0, 20, 7)]
    verdicts = NearDuplicates().resolve(shards, np.array_split(ordered, parts))
    assert [len(verdict) for verdict in verdicts] == [4, 0, 20, 7]
    assert np.flatnonzero(~np.concatenate(verdicts)).tolist() == kept


@given(st.integers(0, 1 << 30), st.sampled_from([0.6, 0.8, 0.9]))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_properties(seed, threshold):
    """What stays covers what is dropped; texts that are like no other are all kept.

    Both to about four standard deviations of the estimate, so always on the same examples.
    """
    rng = random.Random(seed)
    texts = [sentence(rng, rng.randint(5, 15)) for _ in range(8)]
    for _ in range(12):
        texts.append(edited(rng, rng.choice(texts)))
    rng.shuffle(texts)
    step = NearDuplicates(threshold=threshold)
    gone = dropped(step, texts)
    kept = [i for i in range(len(texts)) if i not in gone]
    for i in gone:
        assert max(jaccard(texts[i], texts[j]) for j in kept if j < i) >= threshold - 0.13
    for i in kept:
        assert (
            max([jaccard(texts[i], texts[j]) for j in kept if j < i], default=0) < threshold + 0.13
        )
    unlike = []
    for text in texts:
        if all(jaccard(text, other) < threshold - 0.15 for other in unlike):
            unlike.append(text)
    assert dropped(step, unlike, shards=3) == []


@pytest.mark.parametrize(
    "setting, value, why",
    [
        ("threshold", 0.2, "from 0.5 to 1"),
        ("ngram", 0, "from 1 to 100"),
        ("permutations", 12, "from 16 to 4096"),
        ("permutations", 100, "a multiple of 8"),
        ("neighbours", 0, "at least 1"),
    ],
)
def test_bad_settings(setting, value, why):
    with pytest.raises(InputError, match=rf"NearDuplicates\({setting}={value}\): it must be {why}"):
        NearDuplicates(**{setting: value}).check()


def test_parts_grow_with_the_corpus():
    step = NearDuplicates()
    assert [step.match_parts(rows) for rows in (0, 10**5, 10**6, 10**8)] == [1, 1, 8, 32]
    assert step.match_parts(10**10) == 32  # rows only estimate documents, which may be long


def test_more_documents_than_pairs_can_number_are_refused():
    shard = np.broadcast_to(np.uint8(0), (3_100_000_000, 256))
    with pytest.raises(InputError, match="at most 3,000,000,000 documents, and these are 3,100"):
        NearDuplicates().match(0, 1, [shard])
