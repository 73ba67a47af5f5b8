import json
import random
import unicodedata
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from maxlite.errors import InputError
from maxlite.tokenizer import continued
from maxlite.tokenizer.continued import learn
from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.runs import count_runs
from maxlite.tokenizer.training import train

KINDS = ["sentencepiece", "byte_fallback", "byte_level"]
_WORDS = (
    "영화 정말 재미있다 재미없다 최고 최고의 감동 이야기 배우 연기 좋다 좋았다 음악 시간".split()
)
_WORDS += "ㅋㅋ ㅋㅋㅋㅋ ㅠㅠ".split()


def hangul(character: str) -> bool:
    return "HANGUL" in unicodedata.name(character, "")


@pytest.fixture(scope="session")
def korean() -> list[str]:
    """Reviews of random words, with other scripts, digits and signs between them."""
    chance = random.Random(0)
    ends = [
        ".",
        "!",
        "...",
        " 2016년",
        "CD로",
        "(영화)",
        "  ",
        " BGM이 good",
        "\n",
        "漢字와",
        "~^^",
    ]
    lines = []
    for _ in range(1500):
        words = chance.choices(_WORDS, range(len(_WORDS), 0, -1), k=chance.randint(1, 9))
        more = ["", "", "은", "를", "에서", *_WORDS]
        words = [word + chance.choice(more) for word in words]
        lines.append(" ".join(words) + chance.choice(ends))
    return lines


@pytest.fixture(scope="session")
def bases(tiny_tokenizer, tiny_text, tmp_path_factory) -> dict[str, Definition]:
    """Of English text, 400 pieces each."""
    alone = tmp_path_factory.mktemp("alone")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (alone / name).write_bytes((tiny_tokenizer / name).read_bytes())
    lines = (tiny_text / "en.txt").read_text("utf-8").split("\n")
    found = {
        "sentencepiece": open_definition(tiny_tokenizer),
        "byte_fallback": open_definition(alone),
        "byte_level": train(lines, 400, "byte_level"),
    }
    assert {kind: base.form for kind, base in found.items()} == dict(zip(KINDS, KINDS, strict=True))
    return found


@pytest.fixture(scope="session")
def pair(bases, korean):
    """pair(kind) -> (base, what was learnt, base extended by that); 200 pieces of Hangul."""

    @cache
    def make(kind):
        found = learn(bases[kind], korean, 200, keep=hangul, min_count=2)
        return bases[kind], found, bases[kind].extended(found.pieces, merges=found.merges)

    return make


def forms(definition: Definition) -> list:
    """Its encoders, loaded once: that takes longer than what is tested."""
    if not hasattr(definition, "forms"):
        names = ["json", "model"] if definition.form == "sentencepiece" else ["json"]
        definition.forms = [definition.tokenizer(name) for name in names]
    return definition.forms


def texts_of(definition: Definition, pieces: list[str]) -> list[str]:
    """What pieces stand for; broken characters as the replacement character."""
    tokenizer = definition.tokenizer()
    raw = [tokenizer.raw(tokenizer.find(piece)) for piece in pieces]
    return [data.decode(errors="replace") for data in raw]


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
        st.sampled_from(_WORDS),
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


# --- without a script ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_everything_may_be_kept(kind, bases, korean):
    base = bases[kind]
    texts = korean[:300] + ["<s> <|end_of_text|> 20162016 don't"] * 30
    found = learn(base, texts, 300, min_count=2)
    assert len(found.pieces) == 300
    new = base.extended(found.pieces, merges=found.merges)
    told = texts_of(new, found.pieces)
    assert any(text.strip().isascii() for text in told)
    assert not any(" " in text[1:] or "\n" in text for text in told)
    digits = [text for text in told if sum(map(str.isdigit, text)) > 1]
    assert bool(digits) == (kind == "byte_level"), "as the base has it, digits are apart"
    for tokenizer in forms(new):
        raw = [tokenizer.raw(index) for index in range(400, tokenizer.rows)]
        encoded = tokenizer.encode_inside(raw)
        assert [ids.tolist() for ids in encoded] == [[400 + i] for i in range(300)]
        encoded = tokenizer.encode(texts)
        assert [tokenizer.decode(ids) for ids in encoded] == texts


def test_a_base_with_numbers_gets_more_of_them():
    base = train(["some text"] * 9, 260, "byte_level")
    data = dict(base.files)
    tree = json.loads(data["tokenizer.json"])
    tree["model"]["byte_fallback"] = True
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {"1": 256, "0": 257, "10": 258, "▁": 259}
    tree["model"] |= {"vocab": vocab, "merges": [["1", "0"]], "ignore_merges": False}
    tree |= {"pre_tokenizer": None, "added_tokens": [], "post_processor": None}
    tree["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    data["tokenizer.json"] = json.dumps(tree).encode()
    data["tokenizer_config.json"] = b"{}"
    numbers = Definition(data, "numbers")
    assert numbers.form == "byte_fallback"
    assert learn(numbers, ["100 100 100"], 9, min_count=2).pieces == ["100", "▁100"]


# --- awkward bases ---------------------------------------------------------------------------


def byte_base(vocab: list[str], merges: list[tuple[str, str]], **model) -> Definition:
    """Byte-level BPE of 256 bytes and these pieces, words split at spaces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {piece: i for i, piece in enumerate([*alphabet, *vocab])}
    tokenizer = Tokenizer(models.BPE(ids, merges))
    split = pre_tokenizers.Split(Regex(r" ?\S+|\s+"), "isolated")
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, level])
    tokenizer.decoder = decoders.ByteLevel()
    tree = json.loads(tokenizer.to_str())
    tree["model"] |= model
    return Definition({"tokenizer.json": json.dumps(tree).encode()}, "a base")


def test_a_merge_to_a_piece_of_the_base_makes_no_new_one():
    """The base has "abc", but its own merges never lead there."""
    base = byte_base(["ab", "abc"], [("a", "b")])
    found = learn(base, ["abcd"] * 2 + ["abc"] * 5, 9, min_count=2)
    assert found.pieces == ["abcd"] and found.dropped == []
    assert found.merges == [("ab", "c"), ("abc", "d")]
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert [new.encode_one(text).tolist() for text in ("abcd", "abc")] == [[258], [257]]


def test_special_tokens_are_never_made():
    """Neither by a merge nor on the way to a character, though text spells them."""
    plain = byte_base([], [])
    tree = json.loads(plain.files["tokenizer.json"])
    first = pre_tokenizers.ByteLevel(False, False).pre_tokenize_str("한")[0][0][:2]
    tree["added_tokens"] = [
        {"id": 256 + i, "content": text, "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i, text in enumerate(["abc", first])
    ]
    base = Definition({"tokenizer.json": json.dumps(tree).encode()}, "with special tokens")
    found = learn(base, ["abcd", "abc"] * 9 + ["한한 국"] * 9, 99, min_count=2)
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert {"ab", " 국"} <= {new.raw(i).decode(errors="replace") for i in range(258, new.rows)}
    assert not {"abc", first} & set(found.pieces)
    for text in ("abcd", "abc", "한한"):
        assert not {256, 257} & set(new.encode_one(text).tolist())


def test_a_piece_that_arises_in_two_ways_counts_once():
    base = byte_base(["ab", "bc"], [("a", "b"), ("b", "c")])
    texts = ["xabc"] * 9 + ["zbc"] * 9 + ["abc"] * 9
    found = learn(base, texts, 99, min_count=2)
    assert len(found.pieces) == len(set(found.pieces))
    base = byte_base(["ab", "cd", "bcd", "zc"], [("z", "c"), ("c", "d"), ("a", "b"), ("b", "cd")])
    found = learn(base, ["abcd"] * 5 + ["abzcd"] * 5, 99, min_count=2)
    assert len(found.pieces) == len(set(found.pieces))
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert [len(new.encode_one(text)) for text in ("abcd", "abzcd")] == [1, 1]


def test_tokens_that_end_inside_a_character_are_taken_together():
    """The base joins the end of a character with the beginning of the next."""
    kor = [pre_tokenizers.ByteLevel(False, False).pre_tokenize_str(c)[0][0] for c in "한국"]
    across = kor[0][2] + kor[1][0]
    base = byte_base([across], [(kor[0][2], kor[1][0])])
    texts = ["한국어 한국어"] * 9 + ["한", "국"]
    found = learn(base, texts, 99, keep=hangul, min_count=2)
    new = base.extended(found.pieces, merges=found.merges).tokenizer()
    assert len(new.encode_one("한국어")) == 1
    assert "한국" in texts_of(base.extended(found.pieces, merges=found.merges), found.pieces)
    others = ["\u3105中\ua930", "Ω\u4e00\uf900"]
    for text, ids in zip(others, base.tokenizer().encode(others), strict=True):
        assert new.encode_one(text).tolist() == ids.tolist()
    raw = [new.raw(index) for index in range(257, new.rows)]
    assert [ids.tolist() for ids in new.encode_inside(raw)] == [[i] for i in range(257, new.rows)]


def test_whole_words_may_be_taken_as_they_are(llama3_json, korean):
    """With `ignore_merges`, and special tokens behind the vocabulary."""
    base = Definition({"tokenizer.json": llama3_json.encode()}, "like Llama 3")
    found = learn(base, korean, 150, keep=hangul, min_count=2)
    new = base.extended(found.pieces, merges=found.merges)
    assert len(found.pieces) == 150 and found.dropped == []
    tokenizer, old = new.tokenizer(), base.tokenizer()
    assert [tokenizer.piece(i) for i in range(old.rows)] == [old.piece(i) for i in range(old.rows)]
    raw = [tokenizer.raw(index) for index in range(old.rows, new.tokenizer().rows)]
    assert [i.tolist() for i in tokenizer.encode_inside(raw)] == [
        [old.rows + i] for i in range(150)
    ]
    texts = ["The quick brown fox <|eot_id|> <plain>", "sea shells\n\n 12345"]
    for text in texts:
        assert tokenizer.encode_one(text).tolist() == old.encode_one(text).tolist()


def test_what_is_never_made_is_replaced(bases, korean, monkeypatch):
    base = bases["sentencepiece"]
    usual = learn(base, korean, 100, keep=hangul, min_count=2)
    lost = usual.pieces[usual.characters + 3]
    monkeypatch.setattr(continued, "_unreachable", lambda base, stock: [lost])
    found = learn(base, korean, 100, keep=hangul, min_count=2)
    assert found.dropped == [lost] and lost not in found.pieces
    assert found.pieces[:-1] == [piece for piece in usual.pieces if piece != lost]
    assert len(found.pieces) == 100


def test_more_is_learnt_where_much_cannot_be_used(bases, korean, monkeypatch):
    base = bases["sentencepiece"]
    usual = learn(base, korean, 150, keep=hangul, min_count=2)
    lost = set(usual.pieces[usual.characters :][:40])
    asked = []
    real = continued._train
    monkeypatch.setattr(continued, "_SPARE", 0)
    monkeypatch.setattr(continued, "_train", lambda *a: (asked.append(a[1]), real(*a))[1])
    monkeypatch.setattr(
        continued, "_unreachable", lambda base, stock: [p for p in stock.pieces if p in lost]
    )
    found = learn(base, korean, 150, keep=hangul, min_count=2)
    assert len(found.pieces) == 150 and len(asked) == 2 and asked[1] == 2 * asked[0]
    assert not lost & set(found.pieces) and set(found.dropped) == lost


# --- words -----------------------------------------------------------------------------------


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


# --- refusals --------------------------------------------------------------------------------


def test_bases_that_cannot_be_continued(unigram_json, bases, tmp_path):
    unigram = Definition({"tokenizer.json": unigram_json.encode()}, "the Unigram one")
    with pytest.raises(InputError, match="the Unigram one is a Unigram model, which has no merges"):
        learn(unigram, ["가"], 5)
    tree = json.loads(bases["byte_fallback"].files["tokenizer.json"].read_text("utf-8"))
    renamed = {"<0x41>": "zzzz"}
    tree["model"]["vocab"] = {renamed.get(p, p): i for p, i in tree["model"]["vocab"].items()}
    lacking = Definition({"tokenizer.json": json.dumps(tree).encode()}, "it")
    with pytest.raises(InputError, match="it has pieces for 255 of the 256 bytes"):
        learn(lacking, ["가"], 5)
    for name in ("tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes(bases["sentencepiece"].files[name].read_bytes())
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 400}')
    read = iter(["가"])
    with pytest.raises(InputError, match="added outside of its"):
        learn(open_definition(tmp_path), read, 5)
    assert next(read) == "가", "before any text is read"
    with pytest.raises(InputError, match="pieces to learn is 0"):
        learn(bases["byte_level"], ["가"], 0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_learn_from(kind, bases):
    for texts in ([], ["", " \n"], ["only English here"]):
        with pytest.raises(InputError, match="nothing to learn"):
            learn(bases[kind], texts, 5, keep=hangul)
    found = learn(bases[kind], ["가나"], 5, keep=hangul)
    assert (found.pieces, found.words) == ([], 1)


def test_progress_is_told(bases):
    told = []
    learn(bases["byte_level"], ["한국 한국"] * 9, 9, keep=hangul, progress=told.append)
    assert [text.split()[0] for text in told] == ["counting", "encoding", "learning", "encoding"]
