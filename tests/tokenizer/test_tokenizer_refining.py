"""The loop that refines a vocabulary: what stays, what falls, and that it ends."""

import json
import random
from collections import Counter
from dataclasses import asdict

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer.continued import learn
from maxlite.tokenizer.counting import count_texts
from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.growth import Growth, characters, readable
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.refining import Rules, State, begin, next_round, refine, scaled
from maxlite.tokenizer.training import train

SYLLABLES = "가나다라마바"


@pytest.fixture(scope="session")
def base(tiny_tokenizer) -> Definition:
    return open_definition(tiny_tokenizer)


@pytest.fixture(scope="session")
def byte_level(tiny_text) -> Definition:
    return train((tiny_text / "en.txt").read_text("utf-8").split("\n"), 320, "byte_level")


def counting(texts):
    return lambda tokenizer, number: count_texts(tokenizer, texts)


def refined(base, growth, texts, min_count, **more):
    if not isinstance(growth, Growth):
        growth = Growth(tuple(growth))
    rules = Rules("Hangul", min_count, **more)
    return refine(base, begin(base, growth, rules), rules, counting(texts))


def recounted(definition: Definition, texts, form: str) -> dict[str, int]:
    """By the libraries alone: how often each piece is seen."""
    if form == "model":
        own = sentencepiece.SentencePieceProcessor(model_proto=definition.read("tokenizer.model"))
        numbers = Counter(i for text in texts for i in own.encode(text))
        return {own.id_to_piece(i): numbers[i] for i in range(own.get_piece_size())}
    own = tokenizers.Tokenizer.from_str(definition.read("tokenizer.json").decode())
    own.encode_special_tokens = True
    encoded = (own.encode(text, add_special_tokens=False).ids for text in texts)
    numbers = Counter(i for ids in encoded for i in ids)
    return {own.id_to_token(i): numbers[i] for i in range(own.get_vocab_size())}


def test_exactly_the_threshold(base):
    """Pieces seen so often stay; characters must be seen more often to be added."""
    alone = ["가 나 다 라"] * 6
    texts = alone + ["가나"] * 6 + ["다라"] * 5 + ["마"] * 7 + ["바"] * 6 + ["사"] * 6 + ["아"] * 5
    result = refined(base, ["가나", "다라", *"가나다라사아"], texts, 6)
    assert result.state.growth.pieces == ("가나", *"가나다라사마")
    assert result.state.banned == ("다라", "아")
    seen = result.counts.counts[len(base.pieces) :].tolist()
    assert seen == [6, 6, 6, 11, 11, 6, 7] and not result.rare
    first, last = result.state.rounds
    assert (first.candidates, first.dropped, first.added, first.pieces) == (8, 2, 1, 7)
    assert (last.candidates, last.dropped, last.added, last.pieces) == (7, 0, 0, 7)


def test_the_first_round_counts_tokens_as_if_no_characters_were_counted_along(base):
    texts = ["가나 마바마 the cat", "뷁 마"]
    rules = Rules("Hangul", 1)
    state = begin(base, Growth(("가", "나", "가나")), rules)
    target = state.growth.on(base)
    after, _ = next_round(base, state, rules, counting(texts))
    assert after.rounds[0].tokens == sum(map(len, target.tokenizer().encode(texts)))
    assert after.rounds[0].characters == sum(map(len, texts))
    assert {"마"} == set(after.growth.pieces) - {"가", "나", "가나"}, "2 of 바 and 뷁 are too few"


def test_a_piece_that_a_frequent_one_is_made_of_is_not_lost(base):
    """The rarest of the longer pieces fall, until it is seen often enough."""
    texts = ["가 나 다 라"] * 9 + ["가나다"] * 9 + ["가나라"] * 6
    pieces = ["가나", "가나다", "가나라", *"가나다라"]
    result = refined(base, pieces, texts, 6)
    assert result.state.growth.pieces == ("가나", "가나다", *"가나다라")
    assert result.state.banned == ("가나라",)
    seen = recounted(result.definition, texts, "model")
    assert (seen["가나"], seen["가나다"]) == (6, 9)
    published = refined(base, pieces, texts, 6, as_published=True)
    assert published.state.growth.pieces == tuple("가나다라")
    assert published.state.banned == ("가나", "가나다", "가나라")


def test_a_character_that_only_longer_pieces_hold(base):
    texts = ["나 다"] * 9 + ["가나"] * 9 + ["가다"] * 6
    for published in (False, True):
        result = refined(base, ["가나", "가다", *"가나다"], texts, 6, as_published=published)
        assert result.state.growth.pieces == ("가나", *"가나다"), "its rarest piece fell"
    assert result.counts.counts[len(base.pieces) :].tolist() == [9, 6, 9, 15]
    both = refined(base, ["가나", "가다", *"가나다"], texts, 15)
    assert both.state.growth.pieces == tuple("가나다"), "seen 15 times, if both fall"


def test_what_is_dropped_makes_others_frequent_and_does_not_come_back(base):
    texts = ["가나다"] * 5 + ["가나"] * 2 + ["가 나 다"] * 9
    result = refined(base, ["가나", "가나다", *"가나다"], texts, 6)
    assert result.state.growth.pieces == ("가나", *"가나다"), "seen 2 times, and 7 in the end"
    assert result.counts.counts[len(base.pieces)] == 7 and result.state.banned == ("가나다",)
    published = refined(base, ["가나", "가나다", *"가나다"], texts, 6, as_published=True)
    assert published.state.growth.pieces == tuple("가나다")
    assert published.state.banned == ("가나", "가나다")


@st.composite
def _corpora(draw):
    word = st.text(SYLLABLES, min_size=1, max_size=4)
    words = draw(st.lists(word, min_size=1, max_size=8, unique=True))
    times = draw(st.lists(st.integers(1, 12), min_size=len(words), max_size=len(words)))
    texts = [word for word, n in zip(words, times, strict=True) for _ in range(n)]
    random.Random(draw(st.integers(0, 9))).shuffle(texts)
    lines = [" ".join(texts[i : i + 3]) + " the cat." for i in range(0, len(texts), 3)]
    parts = sorted({w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)})
    chosen = draw(st.lists(st.sampled_from(parts), unique=True))
    pieces = [p for p in chosen if len(p) > 1]
    singles = dict.fromkeys("".join(pieces) + "".join(p for p in chosen if len(p) == 1))
    return lines, [*pieces, *singles], draw(st.integers(1, 9))


@given(_corpora(), st.booleans())
@settings(max_examples=20, deadline=None)
def test_in_the_end_every_new_piece_is_seen_often_enough(base, corpus, as_published):
    texts, pieces, least = corpus
    english = ["the cat sees a red boat", "ABC 123"]
    before = base.tokenizer().encode(english)
    try:
        result = refined(base, pieces, texts, least, as_published=as_published)
    except InputError as error:
        assert "no candidates" in str(error) or "no new piece is seen" in str(error)
        return
    new = result.state.growth.pieces
    for form in ("model", "json"):
        seen = recounted(result.definition, texts, form)
        assert all(seen[piece] >= least for piece in new)
        assert [*seen.values()] == result.counts.counts.tolist()
    last = result.state.rounds[-1]
    assert last.tokens == sum(seen.values()) and last.pieces == last.candidates == len(new)
    assert not len(unreachable(result.definition, range(len(base.pieces), len(seen))))
    assert set(new).isdisjoint(result.state.banned) and not result.rare and not result.unreachable
    met = Counter(c for text in texts for c in text if c in SYLLABLES)
    known = {*new, *result.state.banned}
    assert all(n <= least for c, n in met.items() if c not in known), "no character is forgotten"
    assert all(met[c] < least for c in result.state.banned if len(c) == 1)
    after = result.definition.tokenizer().encode(english)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_what_a_person_wants_to_keep_or_not(base):
    texts = ["가 나 다"] * 9 + ["가나다"] * 8 + ["마"] * 20
    result = refined(
        base, ["가나", *"가나다"], texts, 6, keep=("라마", " 가나", "가나"), ban=("마다", "다")
    )
    new = result.state.growth.pieces
    assert {"라마", "라", "마", "▁가나"} <= set(new) and "다" not in new
    assert result.state.banned[:2] == ("다", "마다")


def test_what_is_kept_is_produced_though_it_is_rare(base):
    """With the pieces it is made of, and it alone."""
    texts = ["가 나 다 라"] * 9 + ["가나다"] * 2 + ["라나"] * 3
    result = refined(base, ["가나", "가나다", "라나", *"가나다라"], texts, 6, keep=("가나다",))
    assert result.state.growth.pieces == ("가나", "가나다", *"가나다라")
    assert result.rare == {"가나": 0, "가나다": 2} and not result.unreachable
    assert result.state.banned == ("라나",)


@pytest.mark.parametrize(
    "keep, ban, message",
    [
        (("가나", " 다"), ("▁다",), "'▁다' are both to keep and banned"),
        (("라마",), ("라",), "needs '라', which the other bans"),
        (("가나다라",), (), "'가나다라' cannot be kept"),
        ((), ("가", "가나", "나", "다"), "no candidates"),
    ],
)
def test_lists_that_cannot_be(base, keep, ban, message):
    rules = Rules("Hangul", 5, keep, ban)
    with pytest.raises(InputError, match=message):
        begin(base, Growth(tuple("가나다")), rules)


def test_each_round_can_be_the_last_of_a_process(base):
    """What is saved is all that it takes to go on."""
    chance = random.Random(1)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(30)]
    texts = [" ".join(chance.choices(words, k=5)) for _ in range(200)]
    pieces = sorted({w[i:j] for w in words for i in range(4) for j in range(i + 2, len(w) + 1)})
    growth, rules = Growth((*pieces, *SYLLABLES)), Rules("Hangul", 30)
    saved: list[State] = []
    whole = refine(base, begin(base, growth, rules), rules, counting(texts), saved.append)
    assert len(saved) >= 2 and not any(state.settled for state in saved)
    for state in saved:
        again = State.of(json.loads(json.dumps(asdict(state))))
        assert again == state
        result = refine(base, again, rules, counting(texts))
        assert result.state == whole.state and result.counts == whole.counts
    with pytest.raises(InputError, match=f"after {len(saved)} rounds it is not settled"):
        refine(base, begin(base, growth, rules), rules, counting(texts), most=len(saved))


def test_nothing_to_count_or_to_keep(base):
    with pytest.raises(InputError, match="no text"):
        refined(base, "가", [], 5)
    with pytest.raises(InputError, match="no new piece is seen 5 times"):
        refined(base, "가", ["가", "the cat"], 5)


def test_the_threshold_scales_with_the_corpus(base):
    assert [scaled(size) for size in (10**11, 10**12, 10**10, 0)] == [6000, 60000, 600, 100]
    texts = ["가" * 99, "나" * 100, "다" * 101, "라" * 100]
    result = refined(base, "가나", texts, 0)
    assert result.state.min_count == 100
    assert result.state.growth.pieces == ("나", "다")


def test_published_scores_need_no_characters(base):
    texts = ["가나"] * 9 + ["다"] * 3
    result = refined(base, ["가나", *"가나"], texts, 6, scores="published")
    assert result.state.growth.pieces == ("가나",)
    assert recounted(result.definition, texts, "model")["가나"] == 9


@pytest.mark.parametrize("as_published", [False, True])
def test_byte_level(byte_level, as_published):
    """A piece that falls takes along what merges of it make, and nothing else."""
    chance = random.Random(2)
    words = [
        "".join(chance.choices("가나다라마바사아자차", k=chance.randint(2, 4))) for _ in range(40)
    ]
    texts = [" ".join(chance.choices(words, range(40, 0, -1), k=6)) + " cat" for _ in range(300)]
    own = characters("Hangul")
    learned = learn(byte_level, texts, 200, keep=own.__contains__, min_count=2)
    growth = Growth(tuple(learned.pieces), tuple(learned.merges))
    result = refined(byte_level, growth, texts, 40, as_published=as_published)
    new = result.state.growth.pieces
    names = [readable(byte_level, piece) for piece in new]
    assert 5 < len(new) < len(growth.pieces) and any(len(name) > 2 for name in names)
    seen = recounted(result.definition, texts, "json")
    whole = {p: n for p, n in zip(new, names, strict=True) if own.issuperset(n.strip("▁"))}
    assert all(seen[piece] >= 40 for piece in whole)
    assert set(result.rare) == set(new) - set(whole), "parts of characters alone are rare"
    pairs = result.state.growth.merges
    assert {a + b for a, b in pairs} == set(new), "each has a merge, and there are no others"
    known = {piece.text for piece in byte_level.pieces} | set(new)
    assert all(part in known for pair in pairs for part in pair)
    assert set(result.state.banned).isdisjoint(names)
    before, after = (
        d.tokenizer().encode_one("the cat, 漢字") for d in (byte_level, result.definition)
    )
    assert before.tolist() == after.tolist()
    kept = refined(byte_level, growth, texts, 40, keep=("가나", " 하"), ban=(names[-1],))
    found = [readable(byte_level, piece) for piece in kept.state.growth.pieces]
    assert {"가나", "하", "▁하"} <= set(found) and names[-1] not in found
    assert kept.definition.tokenizer().encode_inside(["하".encode()])[0].size == 1
