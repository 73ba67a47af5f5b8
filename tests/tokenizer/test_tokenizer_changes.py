"""Texts that a new tokenizer segments otherwise, against a comparison text by text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.tokenizer.changes import Target, compare_texts, same_pieces
from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.scripts import holder


@pytest.fixture(scope="module")
def base(tiny_tokenizer):
    return open_definition(tiny_tokenizer)


@pytest.fixture(scope="module")
def hangul(base):
    return base.extended([*"강산달", "강산", "▁강"]).tokenizer("model")


@pytest.fixture(scope="module")
def careless(base):
    """Joins digits and words."""
    return base.extended([piece for piece in (*"0123", "12", "23", "▁a▁") if piece not in base.ids])


def test_a_new_script_changes_nothing_else(base, hangul, tiny_text):
    old = base.tokenizer("model")
    texts = (tiny_text / "en.txt").read_text("utf-8").splitlines() + ["강산 a", "달"]
    (found,) = compare_texts(old, [Target(old, hangul, holder(["Hangul"]))], texts)
    assert (found.texts, found.compared, found.changed) == (402, 400, 0) and not found.examples
    (every,) = compare_texts(old, [Target(old, hangul, None)], texts)
    assert (every.compared, every.changed) == (402, 2)
    assert [e.number for e in every.examples] == [401, 402]


def test_changes_are_counted_and_shown(base, hangul, careless, tiny_text, monkeypatch):
    monkeypatch.setattr("maxlite.tokenizer.batching.TEXTS", 7)
    old, new = base.tokenizer("model"), careless.tokenizer("model")
    texts = (tiny_text / "en.txt").read_text("utf-8").splitlines()
    targets = [Target(old, hangul, holder(["Hangul"])), Target(old, new, holder(["Hangul"]))]
    quiet, found = compare_texts(old, targets, texts, examples=1000)
    pairs = [*zip(old.encode(texts), new.encode(texts), strict=True)]
    wrong = [i for i, (a, b) in enumerate(pairs) if a.tolist() != b.tolist()]
    assert quiet.changed == 0 and found.changed == len(wrong) > 10
    assert found.tokens_before == sum(len(pairs[i][0]) for i in wrong)
    assert found.tokens_after == sum(len(pairs[i][1]) for i in wrong)
    assert {e.number - 1 for e in found.examples} <= set(wrong)
    assert len({e.differing for e in found.examples}) == len(found.examples) > 1
    for e in found.examples:
        assert e.before[: e.lead] == e.after[: e.lead] and e.lead <= 4
        assert e.before[len(e.before) - e.tail :] == e.after[len(e.after) - e.tail :]
        if "…" not in e.before + e.after:
            assert "".join(e.before) == "".join(e.after)
            assert "".join(e.before).replace("▁", " ").strip() in texts[e.number - 1]


def test_pieces_of_other_forms_are_the_same_by_what_they_stand_for(base, tmp_path, llama3_json):
    (tmp_path / "tokenizer.json").write_text(llama3_json, "utf-8")
    old, new = base.tokenizer("model"), open_definition(tmp_path).tokenizer()
    same = same_pieces(old, new)
    assert len(same) == new.rows and same[new.find("e")] == old.find("e")
    assert same[new.find("Ġ")] == old.find("▁")
    known = same >= 0
    assert [new.raw(i) for i in np.flatnonzero(known)] == [old.raw(i) for i in same[known]]


@given(st.lists(st.text(st.sampled_from("the cat 12 강산,")), max_size=6))
@settings(max_examples=40, deadline=None)
def test_equal_ids_are_never_a_change_and_others_always(base, hangul, careless, texts):
    old = base.tokenizer("model")
    for new in (hangul, careless.tokenizer("model"), old):
        (found,) = compare_texts(old, [Target(old, new, None)], texts)
        pairs = zip(old.encode(texts), new.encode(texts), strict=True)
        assert found.changed == sum(a.tolist() != b.tolist() for a, b in pairs)
