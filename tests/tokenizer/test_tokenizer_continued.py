import random
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from continued_examples import KINDS, WORDS, forms, hangul, texts_of
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.continued import learn


@pytest.fixture(scope="session")
def pair(bases, korean):
    """pair(kind) -> (base, what was learnt, base extended by that); 200 pieces of Hangul."""

    @cache
    def make(kind):
        found = learn(bases[kind], korean, 200, keep=hangul, min_count=2)
        return bases[kind], found, bases[kind].extended(found.pieces, merges=found.merges)

    return make


# --- what is promised of the result ----------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_number_asked_for_and_none_that_is_never_made(kind, pair):
    base, found, new = pair(kind)
    assert len(found.pieces) == len(set(found.pieces)) == 200
    assert [p.text for p in new.pieces] == [p.text for p in base.pieces] + found.pieces
    assert found.dropped == []
    for tokenizer in forms(new):
        raw = [tokenizer.raw(index) for index in range(len(base.pieces), tokenizer.rows)]
        encoded = tokenizer.encode_inside(raw)
        assert [ids.tolist() for ids in encoded] == [[400 + i] for i in range(200)]


@pytest.mark.parametrize("kind", KINDS)
def test_text_gets_shorter_and_both_forms_agree(kind, pair, korean):
    base, found, new = pair(kind)
    before = sum(map(len, base.tokenizer().encode(korean)))
    encoded = [tokenizer.encode(korean) for tokenizer in forms(new)]
    assert sum(map(len, encoded[0])) < 0.35 * before
    for other in encoded[1:]:
        assert [ids.tolist() for ids in other] == [ids.tolist() for ids in encoded[0]]
    counts = np.bincount(np.concatenate(encoded[0]), minlength=len(new.pieces))[400:]
    made = texts_of(new, [p for p, count in zip(found.pieces, counts, strict=True) if count])
    assert len(made) > 120 and {"영화", " 재미없다", "ㅋㅋ"} <= {*made}


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_hold_what_shall_be_kept_and_no_space_inside(kind, pair):
    _, found, new = pair(kind)
    for text in texts_of(new, found.pieces):
        whole = text.removeprefix(" ")
        broken = whole.endswith("\ufffd") and kind == "byte_level"
        assert all(map(hangul, whole.rstrip("\ufffd") if broken else whole)), text
    assert any(text.startswith(" ") for text in texts_of(new, found.pieces))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_come_before_what_is_made_of_them(kind, pair):
    _, found, new = pair(kind)
    place = {piece.text: i for i, piece in enumerate(new.pieces)}
    if found.merges is None:
        assert kind != "byte_level"
        for index, piece in enumerate(found.pieces[found.characters :], 400 + found.characters):
            halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
            assert any(max(place.get(a, 999), place.get(b, 999)) < index for a, b in halves)
        assert all(len(piece) == 1 for piece in found.pieces[: found.characters])
        return
    made = {}
    for left, right in found.merges:
        made.setdefault(left + right, max(place[left], place[right]))
    assert list(made) == found.pieces, "in the order of their merges"
    assert all(parts < place[piece] for piece, parts in made.items())


OTHERS = st.lists(
    st.one_of(
        st.characters(exclude_categories=["Cs", "Cn"]).filter(lambda c: not hangul(c)),
        # Neighbours of Hangul in UTF-8, and the best known letters of the base.
        st.sampled_from("ㄅㆠ㆑ꥠꤰꦀힰ\u3130\u115f豈㈠㉠ 　▁etaonshrdlu.0").filter(
            lambda c: not hangul(c)
        ),
        st.sampled_from(["the ", " moon", "  ", "\n", "<s>", "<0xEA>", "<|end_of_text|>", "2016"]),
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(OTHERS)
def test_other_text_keeps_its_ids(kind, pair, text):
    base, _, new = pair(kind)
    for old, now in zip(forms(base), forms(new), strict=True):
        assert now.encode_one(text).tolist() == old.encode_one(text).tolist()


MIXED = st.lists(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(
            [*"영화재미있다최고의감동ㅋㅠ힣힘\u1112\u1161", " ", "  ", "the", "▁", "\n"]
        ),
        st.sampled_from(WORDS),
    ),
    max_size=40,
).map("".join)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(MIXED)
def test_text_comes_back_wherever_it_did(kind, pair, text):
    base, _, new = pair(kind)
    for old, now in zip(forms(base), forms(new), strict=True):
        assume(old.decode(old.encode_one(text)) == text)
        assert now.decode(now.encode_one(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=100, deadline=None)
@given(MIXED)
def test_no_text_gets_longer(kind, pair, text):
    """New merges only join what the base had."""
    base, _, new = pair(kind)
    for old, now in zip(forms(base), forms(new), strict=True):
        before, after = old.encode_one(text), now.encode_one(text)
        assert len(after) <= len(before)
        ends = np.cumsum([len(old.raw(i) or b"") for i in before.tolist()])
        assert set(np.cumsum([len(now.raw(i) or b"") for i in after.tolist()])) <= set(ends)


# --- what is learnt --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("가나다라", min_size=1, max_size=7), st.integers(1, 6)),
        min_size=1,
        max_size=12,
    )
)
def test_each_merge_is_the_most_frequent_pair_of_its_time(kind, bases, words):
    """Against counting everything again after every merge."""
    texts = [" ".join([word] * count) for word, count in words]
    found = learn(bases[kind], texts, 30, keep=hangul, min_count=2)
    pieces = texts_of(bases[kind].extended(found.pieces, merges=found.merges), found.pieces)
    counted = Counter()
    for word, count in words:
        counted[word] += count
    counted = {" " + word: count for word, count in counted.items()}
    if kind == "byte_level":  # a text's first word has no space before it there
        changed = Counter()
        for word, count in words:
            changed[word] += 1
            changed[" " + word] += count - 1
        counted = {word: count for word, count in changed.items() if count}
    characters = {piece for piece in pieces if len(piece) == 1} - {"\ufffd"}
    split = {word: list(word) for word in counted}
    single = Counter()
    for word, count in counted.items():
        for character in word.strip():
            single[character] += count
    assert characters == {c for c, count in single.items() if count >= 2}
    merged = [p for p in pieces if len(p) > 1 and "\ufffd" not in p]
    for piece in [*merged, None]:
        pairs = Counter()
        for word, parts in split.items():
            for left, right in pairwise(parts):
                if all(part == " " or set(part.strip()) <= characters for part in (left, right)):
                    pairs[left, right] += counted[word]
        most = max(pairs.values(), default=0)
        if piece is None:
            assert most < 2 or len(pieces) == 30, "there was more to learn"
            break
        best = {left + right for (left, right), count in pairs.items() if count == most}
        assert most >= 2 and piece in best
        for word, parts in split.items():
            joined = []
            for part in parts:
                if joined and joined[-1] + part == piece:
                    joined[-1] += part
                else:
                    joined.append(part)
            split[word] = joined


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_texts_does_not_matter(kind, pair, bases, korean):
    shuffled = random.Random(1).sample(korean, len(korean))
    assert learn(bases[kind], iter(shuffled), 200, keep=hangul, min_count=2) == pair(kind)[1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_size_is_the_beginning(kind, pair, bases, korean):
    small = learn(bases[kind], korean, 120, keep=hangul, min_count=2)
    assert small.pieces == pair(kind)[1].pieces[:120]


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_fallback"])
def test_characters_come_first_and_the_rare_ones_not_at_all(kind, bases):
    texts = ["가나 다"] * 5 + ["라마", "나"] + ["가라"] * 3
    found = learn(bases[kind], texts, 99, keep=hangul, min_count=4)
    assert found.pieces[:4] == ["가", "나", "다", "라"], "by count: 8, 6, 5, 4"
    assert found.characters == 4 and "마" not in "".join(found.pieces)
    assert set(found.pieces[4:]) == {"▁가", "▁가나", "▁다"}
    assert learn(bases[kind], texts, 99, keep=hangul, min_count=5).characters == 3
    assert learn(bases[kind], texts, 2, keep=hangul, min_count=4).pieces == ["가", "나"]


def test_a_character_of_several_bytes_takes_its_beginning_too(bases):
    found = learn(bases["byte_level"], ["한국 한국"] * 5, 99, keep=hangul, min_count=2)
    new = bases["byte_level"].extended(found.pieces, merges=found.merges)
    tokenizer = new.tokenizer()
    raw = [tokenizer.raw(tokenizer.find(piece)) for piece in found.pieces]
    assert raw[:4] == [b"\xea\xb5", "국".encode(), b"\xed\x95", "한".encode()]
    assert [data.decode() for data in raw[4:]] == ["한국", " 한국"]
    assert found.characters == 4
    few = learn(bases["byte_level"], ["한국 한국"] * 5, 3, keep=hangul, min_count=2)
    assert few.pieces == found.pieces[:2], "half of a character is of no use"


def test_a_beginning_that_other_scripts_share_is_left_alone(bases):
    """ㄱ begins as the letters of Bopomofo do, and the base has no piece for that beginning."""
    base, texts = bases["byte_level"], ["ㄱㄱ ㅋㅋ"] * 9
    found = learn(base, texts, 99, keep=hangul, min_count=2)
    assert sorted(texts_of(base.extended(found.pieces, merges=found.merges), found.pieces)) == [
        " ㅋㅋ",
        "ㅋ",
        "ㅋㅋ",
        "\ufffd",
    ]
    free = learn(base, texts, 99, min_count=2)
    assert "ㄱㄱ" in texts_of(base.extended(free.pieces, merges=free.merges), free.pieces)


@pytest.mark.parametrize("kind", KINDS)
def test_long_pieces_are_not_learnt(kind, bases):
    texts = ["ㅋ" * 64] * 9
    found = learn(bases[kind], texts, 99, keep=hangul, min_count=2, max_length=8)
    new = bases[kind].extended(found.pieces, merges=found.merges)
    assert max(map(len, texts_of(new, found.pieces))) == 8
