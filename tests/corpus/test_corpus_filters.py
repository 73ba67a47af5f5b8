"""Filters by numbers of one text."""

import importlib.util
import pickle
import random

import corpus_examples as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.filters import Language, Length, Sample, Script, Symbols
from maxlite.errors import InputError


def reasons(step, texts):
    step.check()
    results = step.apply(texts)
    assert [text for text, _ in results] == list(texts)
    assert [reason for _, reason in results] == [step.reason(text) for text in texts]
    return [reason for _, reason in results]


def test_length():
    step = Length(min_chars=3, max_chars=9, min_words=2, max_words=3)
    texts = ["  a \n", "aaaa", "a b c", "a b c d", "aaaa bbbbb", ""]
    assert reasons(step, texts) == [
        "too short", "too few words", "", "too many words", "too long", "too short",
    ]  # fmt: skip
    assert reasons(Length(), ["가나다라 마바사아자", "가나다라 마바"]) == ["", "too short"]
    assert reasons(Length(0), [""]) == [""]


def test_symbols():
    texts = [
        "영화가 정말 재미있었습니다.",
        "좋은 영화다!!!!!",
        "!!!!!!! ★★★ 굿",
        "1234567890 전화",
        "ㅋㅋㅋㅋㅋ 굿",
        "재미있다ㅋㅋㅋ",
        "ﾡﾡﾡ",
        "",
        "for i in range(10): x += y[i]",
        "हिन्दी और বাংলা",
        "😀😀😀",
    ]
    assert reasons(Symbols(), texts) == [
        "", "", "symbols", "digits", "lone jamo", "", "lone jamo", "few letters", "", "", "symbols",
    ]  # fmt: skip
    assert reasons(Symbols(max_share=0.05), ["가나, 다라마."]) == ["symbols"]
    assert reasons(Symbols(1, 1, 1, 0), texts) == [""] * len(texts)


def test_script():
    texts = [
        "한국어 text 입니다",
        "mostly English 글",
        "한국어 русский текст",
        "漢字가 섞인 글",
        "漢字漢字",
        "123 !!!",
        "ㅋㅋㅋ",
        "ไทยไทย",
    ]
    assert reasons(Script(min_share=0.4), texts) == [
        "", "little Hangul", "little Hangul", "", "little Hangul", "little Hangul", "",
        "little Hangul",
    ]  # fmt: skip
    assert reasons(Script(min_share=0.1), texts)[2] == "foreign script"
    japanese = Script(names="Hiragana|Katakana|Han", beside="Latin")
    assert reasons(japanese, ["これはペンです。", "한국어"]) == ["", "little Hiragana|Katakana|Han"]
    assert reasons(Script("Devanagari", beside=""), ["हिन्दी में"]) == [""]


@pytest.mark.parametrize(
    "step",
    [
        Length(min_chars=-1),
        Length(min_chars=10, max_chars=5),
        Length(min_words=3, max_words=2),
        Symbols(max_share=1.5),
        Symbols(min_letters=-0.1),
        Script(names="Korean"),
        Script(names=""),
        Script(beside="Latin|Nonsense"),
        Script(min_share=2),
        Sample(share=1.1),
        Language(),
        Language(model="/nowhere/lid.bin"),
    ],
)
def test_wrong_settings_are_refused(step):
    with pytest.raises(InputError, match=rf"{type(step).__name__}\("):
        step.check()


def test_a_sample_is_a_share():
    texts = [f"document {n}" for n in range(20_000)]
    kept = [reason == "" for reason in reasons(Sample(0.25), texts)]
    assert abs(sum(kept) / len(texts) - 0.25) < 0.015  # five standard deviations
    other = [reason == "" for reason in reasons(Sample(0.25, seed=1), texts)]
    both = sum(a and b for a, b in zip(kept, other, strict=True))
    assert abs(both / len(texts) - 0.0625) < 0.009
    assert set(reasons(Sample(1.0), texts)) == {""}
    assert set(reasons(Sample(0.0), texts)) == {"not in the sample"}
    # The same on every machine and in every release.
    assert [n for n in range(40) if kept[n]] == [1, 2, 5, 20, 24, 25, 37]


@given(st.lists(st.text(st.characters()), max_size=20), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_a_larger_sample_contains_a_smaller_one(texts, one, two):
    small, large = sorted([one, two])
    for text, reason in Sample(small).apply(texts):
        assert reason or not Sample(large).reason(text)


def test_the_table_is_made_in_each_process():
    for step in (Length(), Symbols(), Script(), Sample(0.5)):
        step.apply(["가"])
        assert pickle.loads(pickle.dumps(step)) == step


needs_fasttext = pytest.mark.skipif(
    not importlib.util.find_spec("fasttext"), reason="fastText is not installed"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of two languages; a few words are enough to tell them apart."""
    fasttext = pytest.importorskip("fasttext")
    folder = tmp_path_factory.mktemp("model")
    rng = random.Random(0)
    lines = [
        f"__label__{language} {made.sentence(rng, language)}"
        for _ in range(300)
        for language in ("ko", "en")
    ]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    # fastText 0.9 fills a tenth of its table a thread and leaves what remains as it was in memory.
    trained = fasttext.train_supervised(
        str(folder / "train.txt"), dim=8, epoch=20, lr=0.05, thread=11, verbose=0
    )
    trained.save_model(str(folder / "two.bin"))
    return str(folder / "two.bin")


@needs_fasttext
def test_language(model):
    texts = ["오늘 학교 갔다.\n친구 만났다.", "the quiet river", "\ud800 오늘 저녁"]
    step = Language(model=model)
    step.open()
    assert reasons(step, texts) == ["", "another language", ""]
    assert reasons(Language(model=model, language="en"), texts)[:2] == ["another language", ""]
    assert step.apply([]) == []


@needs_fasttext
def test_models_that_cannot_serve_are_refused(model, tmp_path):
    with pytest.raises(InputError, match=r"language='xx'.*doesn't know it, but"):
        Language(model=model, language="xx").open()
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"no model")
    with pytest.raises(InputError, match="fastText can't read it"):
        Language(model=str(broken)).open()
