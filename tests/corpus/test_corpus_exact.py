import hashlib
import random
from collections import Counter

import numpy as np
import pytest
from corpuswide import dropped, run
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.exact import ExactDuplicates, RepeatedLines, digests
from maxlite.errors import InputError

# Few words and many ways to write them, so that texts drawn at random meet.
word = st.sampled_from(["정말", "좋다", "Good", "good", " ", "!", "~", "3", ".", "\n"])
texts = st.lists(st.lists(word, max_size=4).map("".join), max_size=30)
division = st.tuples(st.sampled_from([1, 3, 7]), st.integers(1, 5), st.integers(1, 9))


def test_the_first_stays_whoever_it_is():
    reviews = [
        "정말 좋다!",
        "나쁘다",
        "정말좋다",
        "3.5점",
        "정말 좋다!",
        "35점",
        "나쁘다..",
        "",
        ".",
    ]
    assert dropped(ExactDuplicates(), reviews) == [2, 4, 6]
    assert dropped(ExactDuplicates(normalize=False), reviews) == [4]
    results = run(ExactDuplicates(), reviews)
    assert [text for text, _ in results] == reviews
    assert {reason for _, reason in results} == {"", "exact duplicate"}


@given(texts, division)
@settings(max_examples=150, deadline=None)
def test_any_division_finds_what_a_set_finds(texts, division):
    shards, parts, batch = division
    seen: set = set()
    expected = [i for i, text in enumerate(texts) if text in seen or seen.add(text)]
    assert dropped(ExactDuplicates(normalize=False), texts, shards, parts, batch) == expected
    whole = dropped(ExactDuplicates(), texts)
    assert dropped(ExactDuplicates(), texts, shards, parts, batch) == whole
    assert set(expected) <= set(whole)


def test_planted_copies():
    """Precision and recall, with copies that people would call the same."""
    rng = random.Random(0)
    syllables = [chr(0xAC00 + rng.randrange(11172)) for _ in range(300)]
    originals = [" ".join(rng.choices(syllables, k=rng.randint(6, 40))) for _ in range(2000)]
    others = [f"{text} {i}" for i, text in enumerate(originals[:300])]  # a number more: not a copy
    ways = (str, str.title, lambda t: t.replace(" ", ""), lambda t: f"“{t}…”\n", lambda t: f"{t}~~")
    copies = [rng.choice(ways)(rng.choice(originals)) for _ in range(500)]
    corpus = [*originals, *others, *copies]
    found = set(dropped(ExactDuplicates(), corpus, shards=3))
    planted = set(range(len(corpus) - len(copies), len(corpus)))
    precision, recall = len(found & planted) / len(found), len(found & planted) / len(planted)
    print(f"exact: precision {precision:.4f}, recall {recall:.4f}")
    assert precision == recall == 1


def test_digests_are_of_what_is_compared():
    def expected(data):
        return list(np.frombuffer(hashlib.blake2b(data, digest_size=16).digest(), "<u8"))

    found = digests(["A b.", "가" * 40_000, "\ud800"], normalize=True)
    assert found.dtype == np.uint64 and found.shape == (3, 2)
    assert list(found[0]) == expected("ab".encode("utf-32-le"))
    assert list(found[1]) == expected(("가" * 40_000).encode("utf-32-le"))
    assert list(digests(["A b."], normalize=False)[0]) == expected(b"A b.")
    assert digests([], normalize=True).shape == digests([], normalize=False).shape == (0, 2)


@pytest.mark.parametrize("step", [ExactDuplicates(), RepeatedLines(min_documents=2)])
def test_parts_share_the_work(step):
    docs = [f"document number {i % 400}\nof many lines {i % 200}" for i in range(1000)]
    signed = [step.sign(docs[:300]), step.sign(docs[300:])]
    sizes = [len(step.match(part, 4, signed)) for part in range(4)]
    assert sum(sizes) == len(step.match(0, 1, signed)) and min(sizes) > 10
    assert step.match_parts(1000) == 1 and step.match_parts(10**8) > 1


MENU = "처음으로 | 로그인 | 회원가입"


def test_lines_of_many_documents_go_from_all_of_them():
    pages = [f"{MENU}\n글 {i}번의 내용입니다\n\n네.\nCopyright 2020 Maxlite" for i in range(9)]
    pages += [f"{MENU}\r\n다른 글\r\n", f"{MENU}\nCopyright 2021 Maxlite", MENU, f"{MENU}\n{MENU}"]
    results = run(RepeatedLines(min_documents=9, min_chars=4), pages, shards=3)
    for i in range(9):
        assert results[i] == (f"글 {i}번의 내용입니다\n\n네.", "")
    assert results[9:] == [
        ("다른 글", ""),
        ("Copyright 2021 Maxlite", ""),
        (MENU, ""),  # one line is a document, not a part of one
        ("", "only repeated lines"),
    ]


def test_a_document_counts_once_and_short_lines_never():
    docs = ["같은 말을 여러 번 한다\n" * 20 + str(i) for i in range(2)] + [
        "네\n}\n-----\n   \n"
    ] * 9
    assert run(RepeatedLines(min_documents=3, min_chars=3), docs) == [(text, "") for text in docs]


line = st.sampled_from(["Home | About", "home, about!", "longer text", "no", "", "----", "다음 글"])


@given(st.lists(st.lists(line, max_size=5).map("\n".join), max_size=25), division)
@settings(max_examples=150, deadline=None)
def test_lines_against_counting_them(docs, division):
    def key(line):
        return "".join(filter(str.isalnum, line.casefold()))

    lines = [doc.split("\n") if "\n" in doc else [] for doc in docs]
    counts = Counter(k for some in lines for k in {key(line) for line in some})
    found = run(RepeatedLines(min_documents=3, min_chars=5), docs, *division)
    for doc, some, (text, reason) in zip(docs, lines, found, strict=True):
        kept = [line for line in some if counts[key(line)] < 3 or len(key(line)) < 5]
        less = len(kept) < len(some)
        assert text == ("\n".join(kept).strip("\n") if less else doc)
        assert bool(reason) == (less and not text)


@pytest.mark.parametrize("setting", ["min_documents", "min_chars"])
def test_bad_settings(setting):
    with pytest.raises(InputError, match=rf"RepeatedLines\({setting}=0\): it must be at least"):
        RepeatedLines(**{setting: 0}).check()
