"""How pieces fall apart, against what the real encoders make of tokenizers without them."""

import json

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.definition import Definition, open_definition
from maxlite.tokenizer.reachability import unreachable
from maxlite.tokenizer.splitting import UNKNOWN, splitter

FORMS = ["model", "json", "byte_level", "unigram", "unigram_bytes"]


@pytest.fixture(scope="module")
def definitions(tmp_path_factory, tiny_tokenizer, tiny_text, llama3_json, unigram_json):
    """One tokenizer of each kind."""
    folder = tmp_path_factory.mktemp("definitions")
    (folder / "byte_level.json").write_text(llama3_json, "utf-8")
    (folder / "unigram.json").write_text(unigram_json, "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tiny_text / "en.txt"),
        model_prefix=str(folder / "unigram_bytes"),
        model_type="unigram",
        vocab_size=360,
        hard_vocab_limit=False,
        byte_fallback=True,
        normalization_rule_name="identity",
        minloglevel=3,
    )
    return {
        "model": open_definition(tiny_tokenizer / "tokenizer.model"),
        "json": open_definition(tiny_tokenizer / "tokenizer.json"),
        "byte_level": open_definition(folder / "byte_level.json"),
        "unigram": open_definition(folder / "unigram.json"),
        "unigram_bytes": open_definition(folder / "unigram_bytes.model"),
    }


def encoder(of: Definition):
    return of.tokenizer("model" if of.form == "sentencepiece" else "json")


def ordinary(base: Definition) -> list[int]:
    return [i for i, piece in enumerate(base.pieces) if piece.kind == "normal"]


def without(base: Definition, gone: set[int]) -> tuple[Definition, np.ndarray]:
    ids = np.array([i for i in range(len(base.pieces)) if i not in gone])
    return base.kept(ids), ids


def really(base: Definition, index: int, gone: set[int]) -> list[int]:
    """What the encoder makes of the text of a piece; unknown characters as `UNKNOWN`."""
    smaller, ids = without(base, gone)
    found = encoder(smaller).encode_inside([encoder(base).raw(index) or b""])[0]
    return ids[found].tolist() if len(found) else [UNKNOWN]


@pytest.mark.parametrize("form", FORMS)
def test_without_one_piece(form, definitions):
    base = definitions[form]
    split = splitter(base, [])
    longer = [i for i in ordinary(base) if len(base.pieces[i].text) > 1][:: 1 + (form != "json")]
    assert len(longer) > 5
    for index in longer:
        parts = split.parts(index)
        expected = really(base, index, {index})
        assert (UNKNOWN in parts) == (expected == [UNKNOWN])
        assert UNKNOWN in parts or list(parts) == expected, base.pieces[index]


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(max_examples=6, deadline=None)
def test_one_after_the_other(form, data, definitions):
    """Only what leaves all others in reach is taken away, and parts are the encoder's."""
    base = definitions[form]
    gone = set(unreachable(base).tolist())  # a small Unigram model has some
    split = splitter(base, gone)
    order = data.draw(st.permutations(sorted(set(ordinary(base)) - gone)))[:60]
    dead = len(gone)
    for turn, index in enumerate(order):
        parts = split.parts(index)
        user = split.remove(index)
        if user is None:
            gone.add(index)
        if turn % 12 == 0 and len(base.pieces[index].text) > 1:
            smaller, ids = without(base, gone | {index})
            lost = set(ids[unreachable(smaller)].tolist())
            assert user is not None or not lost
            if form != "byte_level":  # there whole words are reached otherwise, too
                assert user is None or user in lost
            expected = really(base, index, gone | {index})
            if user is None and UNKNOWN not in parts:
                assert list(parts) == expected
    smaller, _ = without(base, gone)
    assert not len(unreachable(smaller))
    assert len(gone) > dead


def test_another_way_to_make_a_piece(tiny_tokenizer, tmp_path):
    """ "abc" is made of "ab" and "c", but "a" and "bc" do as well."""
    tree = json.loads((tiny_tokenizer / "tokenizer.json").read_text("utf-8"))
    texts = ["a", "b", "c", "ab", "bc", "abc", "abcc"]
    tree["model"]["vocab"] = {f"<0x{i:02X}>": i for i in range(256)} | {
        text: 256 + i for i, text in enumerate([*texts, "<unk>"])
    }
    tree["model"]["merges"] = [["a", "b"], ["b", "c"], ["ab", "c"], ["a", "bc"], ["abc", "c"]]
    tree |= {"added_tokens": [], "post_processor": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    base = open_definition(tmp_path / "tokenizer.json")
    at = base.ids
    split = splitter(base, [])
    assert split.parts(at["abc"]) == (at["ab"], at["c"])
    assert split.remove(at["abc"]) == at["abcc"]
    assert split.remove(at["c"]) is not None  # a character: nothing that holds it can do without
    assert split.remove(at["ab"]) is None
    assert split.parts(at["abc"]) == (at["a"], at["bc"])
    assert split.remove(at["bc"]) in (at["abc"], at["abcc"])
    assert [split.remove(at[text]) for text in ("abcc", "abc", "bc", "c")] == [None] * 4
    assert split.parts(at["b"]) == (at["<0x62>"],)


def test_words_that_no_merge_makes(tmp_path, llama3_json):
    """They are looked up whole, so they need no other piece; without them they are merged."""
    tree = json.loads(llama3_json)
    tree["model"]["vocab"]["quickfox"] = 320
    for token in tree["added_tokens"]:
        token["id"] += 1
    tree["post_processor"] = None
    (tmp_path / "tokenizer.json").write_text(json.dumps(tree))
    base = open_definition(tmp_path / "tokenizer.json")
    index = base.ids["quickfox"]
    assert encoder(base).encode_one("the quickfox")[-1] == index
    split = splitter(base, [])
    parts = split.parts(index)
    assert list(parts) == really(base, index, {index})
    assert len(parts) > 2
    longest = max(parts, key=lambda i: len(base.pieces[i].text))
    assert len(base.pieces[longest].text) > 1
    users = []
    while (user := split.remove(longest)) is not None:  # it does not stand in the way
        assert user != index
        users.append(user)
        while (other := split.remove(user)) is not None:
            user = other


def test_steps_that_are_never_given_out(definitions):
    base = definitions["model"]
    whole = splitter(base, [])
    steps = [
        (i, part)
        for i in ordinary(base)
        for part in whole.parts(i)
        if len(base.pieces[part].text) > 1
    ]
    piece, step = steps[0]
    marked = base.kept(np.arange(len(base.pieces)), [step])
    split = splitter(marked, [])
    assert split.remove(step) is not None
    smaller = marked.kept(np.delete(np.arange(len(base.pieces)), piece))
    found = smaller.tokenizer("model").encode_inside([encoder(base).raw(piece)])[0]
    assert list(split.parts(piece)) == [i + (i >= piece) for i in found.tolist()]
    assert step not in split.parts(piece)
