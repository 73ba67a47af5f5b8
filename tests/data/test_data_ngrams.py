"""Words, their runs, and looking for them, against plain Python."""

import numpy as np
import pytest

from maxlite.data.ngrams import Wanted, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The CAT, sat!", "the cat sat"),
        ("Ｆｕｌｌ  width\n１２", "full width 12"),
        ("한국어를 배웁니다.", "한국어를   배웁니다"),
        ("漢字、かな", "漢 字 か な"),
        ("abc漢def", "abc 漢 def"),
        ("สวัสดี", " ".join(["ส", "วั", "ส", "ดี"])),
        ("don't", "don t"),
    ],
)
def test_what_a_reader_takes_for_the_same_words(one, other):
    found = words([one, other])
    assert found.sizes[0] == found.sizes[1] > 0
    np.testing.assert_array_equal(*np.split(found.hashes, 2))


def test_other_words_are_others():
    found = words(["3.5 a한 cafe", "35 b한 café"])
    assert len(set(found.hashes.tolist())) == len(found.hashes) == 7


@pytest.mark.parametrize("n", [1, 2, 3, 7, 40])
def test_runs_are_those_of_plain_python(n):
    rng = np.random.default_rng(n)
    texts = [" ".join(rng.choice(list("abc"), rng.integers(0, 9))) for _ in range(60)]
    expected = [
        (i, tuple(said[j : j + n]))
        for i, text in enumerate(texts)
        for said in [text.split()]
        for j in range(len(said) - n + 1)
    ]
    found = words(texts)
    starts, hashes = found.runs(n)
    assert found.text[starts].tolist() == [i for i, _ in expected]
    known = {}
    for (_, said), one in zip(expected, hashes.tolist(), strict=True):
        assert known.setdefault(said, one) == one
    assert len(set(known.values())) == len(known)


def test_the_order_of_words_counts():
    _, hashes = words(["a b c d", "b a c d", "d c b a", "a b c d"]).runs(4)
    assert len(set(hashes.tolist())) == 3 and hashes[0] == hashes[3]


def test_what_is_looked_for_is_found_where_it_came_by_first():
    rng = np.random.default_rng(0)
    hashes = rng.integers(2**64, size=5000, dtype=np.uint64)
    one = Wanted(np.concatenate([hashes[:1000], hashes[:10]]))
    one.see(hashes[900:3000], 0)
    one.see(hashes[500:1000][::-1], 1)
    one.see(hashes[:0], 2)
    expected = np.repeat([-1, 1, 0], [500, 400, 100])
    np.testing.assert_array_equal(one.where(hashes[:1000]), expected)


def test_no_text_at_all():
    found = words(["", "?!"])
    assert found.ends.tolist() == [0, 0] and not len(found.runs(1)[0])
    assert not len(words([]).runs(13)[1])
