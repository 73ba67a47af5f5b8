import io
import shutil

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.agreement import compare
from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.merging import merge
from maxlite.tokenizer.selection import selection


@pytest.fixture(scope="module")
def unigram(tmp_path_factory, tiny_text):
    """A Unigram model of the other script and some English, with a special token of its own."""
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    lines += (tiny_text / "en.txt").read_text("utf-8").splitlines()
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=written,
        vocab_size=500,
        model_type="unigram",
        user_defined_symbols=["<mask>"],
        minloglevel=3,
    )
    path = tmp_path_factory.mktemp("unigram") / "extra.model"
    path.write_bytes(written.getvalue())
    return path


@pytest.fixture(scope="module")
def base(tiny_tokenizer):
    return open_definition(tiny_tokenizer)


def test_what_is_missing_is_appended_in_order(base, unigram):
    extra = open_definition(unigram)
    result = merge(base, extra)
    missing = [p.text for p in extra.pieces if p.text not in base.ids]
    single = {t for t in [*base.ids, *missing] if len(t) == 1}
    wanted = [t for t in missing if set(t) <= single]
    assert result.added == wanted and len(wanted) > 100
    assert [p.text for p in result.definition.pieces[400:]] == wanted
    assert result.definition.pieces[:400] == base.pieces
    assert (result.known, result.unselected) == (500 - len(missing), 0)
    assert result.impossible == [t for t in missing if t not in wanted]
    everything = merge(base, extra, scores="published")
    assert everything.added == missing and everything.foreign == ["<mask>"]


def test_other_languages_stay_untouched(base, unigram, tiny_text):
    result = merge(base, open_definition(unigram), keep=selection("script:Hangul"))
    assert result.foreign == [] and result.unselected > 0
    assert all(any("가" <= c <= "힣" for c in piece) for piece in result.added)
    before = base.tokenizer()
    forms = [result.definition.tokenizer(form) for form in ("model", "json")]
    english = (tiny_text / "en.txt").read_text("utf-8").splitlines()
    korean = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    for after in forms:
        for a, b in zip(before.encode(english), after.encode(english), strict=True):
            np.testing.assert_array_equal(a, b)
        shorter = sum(map(len, after.encode(korean))) / sum(map(len, before.encode(korean)))
        assert shorter < 0.6

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
    def check(text):
        hangul = any(map(selection(r"regex:\p{Hangul}"), text))
        for after in forms:
            assert after.decode(after.encode_one(text)) == before.decode(before.encode_one(text))
            same = after.encode_one(text).tolist() == before.encode_one(text).tolist()
            assert same or hangul

    check()


def test_ranked_forms_agree_and_published_ones_do_not(base, unigram, tiny_text):
    extra = open_definition(unigram)
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    ranked = compare(merge(base, extra).definition, lines)
    assert (ranked.lines, ranked.differing, ranked.differing_special) == (400, 0, 0)
    published = merge(base, extra, scores="published").definition
    told = compare(published, lines)
    model, fast = (published.tokenizer(form) for form in ("model", "json"))
    differing = [
        line for line in lines if model.encode_one(line).tolist() != fast.encode_one(line).tolist()
    ]
    assert told.differing == len(differing) > 0
    assert told.first.text == differing[0]
    assert told.first.number == 1 + lines.index(told.first.text)


def test_a_piece_of_unknown_characters_is_left_out(base, unigram, tmp_path):
    extra = open_definition(unigram)
    long = next(p.text for p in extra.pieces if len(p.text) > 2 and "가" in p.text)
    (tmp_path / "list").write_text(f"{long}\n가\n", "utf-8")
    keep = selection(f"list:{tmp_path}/list")
    result = merge(base, extra, keep=keep)
    assert (result.added, result.impossible) == (["가"], [long])
    assert sorted(merge(base, extra, keep=keep, scores="published").added) == sorted([long, "가"])


def test_a_json_alone_as_base(base, unigram, tiny_tokenizer, tmp_path, tiny_text):
    lone = open_definition(shutil.copy(tiny_tokenizer / "tokenizer.json", tmp_path / "lone.json"))
    extra, keep = open_definition(unigram), selection("script:Hangul")
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    ids = [merge(of, extra, keep=keep).definition.tokenizer().encode(lines) for of in (lone, base)]
    for a, b in zip(*ids, strict=True):
        np.testing.assert_array_equal(a, b)


def test_pieces_of_a_byte_level_tokenizer(base, tmp_path, llama3_json):
    (tmp_path / "x.json").write_text(llama3_json, "utf-8")
    extra = open_definition(tmp_path / "x.json")
    result = merge(base, extra, keep=selection("script:Latin"))
    tokenizer = load_tokenizer(tmp_path / "x.json")
    raw = {tokenizer.raw(extra.ids[p.text]) for p in extra.pieces if p.kind != "special"}
    assert result.added and {p.replace("▁", " ").encode() for p in result.added} <= raw
    assert len(result.impossible) >= 128  # the bytes of longer characters
    with pytest.raises(InputError, match="continued_bpe"):
        merge(extra, base)


def test_merges_that_are_refused(base, unigram):
    extra = open_definition(unigram)
    with pytest.raises(InputError, match=r"has no piece that .* lacks$"):
        merge(base, base)
    with pytest.raises(InputError, match="and --keep wants"):
        merge(base, extra, keep=selection("script:Thai"))
    with pytest.raises(InputError, match="Unigram model, which cannot be extended"):
        merge(extra, base)
    assert len(merge(base, base, special=("[PAD]",)).definition.pieces) == 401
