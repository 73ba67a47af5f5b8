import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.agreement import compare
from maxlite.tokenizer.compacting import (
    check,
    closed_ids,
    compact,
    forms,
    measure,
    outcome,
    published_ids,
)
from maxlite.tokenizer.counting import count_texts
from maxlite.tokenizer.counts import Counts, FileCounts
from maxlite.tokenizer.definition import Definition, open_definition, write_definition
from maxlite.tokenizer.reachability import unreachable

FORMS = ["model", "json", "byte_level", "whole_words", "unigram"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory, tiny_tokenizer, llama3_json, unigram_json):
    """One tokenizer of each kind; the first has both files."""
    folder = tmp_path_factory.mktemp("bases")
    (folder / "whole_words.json").write_text(llama3_json, "utf-8")
    tree = json.loads(llama3_json)
    tree["model"]["ignore_merges"] = False
    (folder / "byte_level.json").write_text(json.dumps(tree), "utf-8")
    (folder / "unigram.json").write_text(unigram_json, "utf-8")
    return {
        "model": open_definition(tiny_tokenizer),
        "json": open_definition(tiny_tokenizer / "tokenizer.json"),
        "byte_level": open_definition(folder / "byte_level.json"),
        "whole_words": open_definition(folder / "whole_words.json"),
        "unigram": open_definition(folder / "unigram.json"),
    }


def counted(base: Definition, numbers) -> Counts:
    numbers = np.asarray(numbers, np.int64)
    files = (FileCounts("x", int(numbers.sum())),)
    return Counts(next(iter(forms(base).values())).fingerprint, numbers, files)


def texts_of(tiny_text, name="en") -> list[str]:
    return (tiny_text / f"{name}.txt").read_text("utf-8").splitlines()


def always(base: Definition) -> set[int]:
    return {
        i
        for i, piece in enumerate(base.pieces)
        if piece.kind in ("special", "byte") or piece.text == "▁"
    }


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_whatever_was_counted(form, data, bases):
    """Ids stay in order, everything can be produced, and every text comes back."""
    base = bases[form]
    rows, least = len(base.pieces), len(always(base))
    seed = data.draw(st.integers(0, 2**31))
    size = data.draw(st.integers(least, rows - 1))
    numbers = np.random.default_rng(seed).zipf(1.3, rows).clip(max=10**6) - 1
    numbers[data.draw(st.integers(0, rows - 1))] += 1
    counts = counted(base, numbers)
    ids = closed_ids(base, counts, size)
    possible = rows - len(set(unreachable(base).tolist()) - always(base))
    assert len(ids) == min(size, possible) and (np.diff(ids) > 0).all()
    assert always(base) <= set(ids.tolist())
    smaller = compact(base, ids)
    assert [p.text for p in smaller.pieces] == [base.pieces[i].text for i in ids]
    assert not len(unreachable(smaller))
    assert smaller.read("kept_ids.txt").decode().split() == [str(i) for i in ids]
    found = outcome(base, ids, smaller, counts)
    assert not len(found.dead) and not len(found.broken) and found.stranded == 0
    if form != "unigram":
        text = data.draw(st.text(max_size=30))
        for name, now in forms(smaller).items():
            if forms(base)[name].decode(forms(base)[name].encode_one(text)) == text:
                assert now.decode(now.encode_one(text)) == text
        assert not found.unknown


@pytest.mark.parametrize("form", ["model", "json"])
def test_what_a_piece_was_counted_falls_onto_its_parts(form, bases):
    """The last to stay is a letter that is frequent only once the piece it began is gone."""
    base = bases[form]
    singles = [t for t in base.ids if len(t) == 1 and t.isascii() and t.isalpha()]
    pair = next(t for t in base.ids if len(t) == 2 and set(t) <= set(singles) and t[0] != t[1])
    other = next(t for t in singles if t not in pair)
    numbers = np.zeros(len(base.pieces), np.int64)
    for text, count in ((pair, 20), (pair[0], 10), (other, 25)):
        numbers[base.ids[text]] = count
    ids = closed_ids(base, counted(base, numbers), len(always(base)) + 1)
    assert {base.pieces[i].text for i in set(ids.tolist()) - always(base)} == {pair[0]}


@pytest.mark.parametrize("form", FORMS)
def test_what_it_costs(form, bases, tiny_text):
    """The figures of both ways, against the text itself."""
    base = bases[form]
    texts = texts_of(tiny_text)
    whole = next(iter(forms(base).values()))
    counts = count_texts(whole, texts)
    used = set(np.flatnonzero(counts.counts).tolist()) - always(base)
    size = len(always(base)) + len(used) // 3
    growth = {}
    for name, way in (("closed", closed_ids), ("published", published_ids)):
        ids = way(base, counts, size)
        smaller = compact(base, ids)
        found = outcome(base, ids, smaller, counts)
        lengths = measure([whole, next(iter(forms(smaller).values()))], texts)
        growth[name] = lengths.tokens[1] / lengths.tokens[0] - 1
        predicted = next(iter(found.growth.values()))
        assert lengths.texts == len(texts) and lengths.tokens[0] == counts.total.tokens
        assert found.coverage == pytest.approx(counts.counts[ids].sum() / counts.counts.sum())
        dead = set(ids[unreachable(smaller)].tolist())
        assert set(found.dead.tolist()) == dead
        assert found.stranded == pytest.approx(
            counts.counts[sorted(dead)].sum() / lengths.tokens[0]
        )
        if form != "unigram":  # where what is unknown joins
            assert predicted == pytest.approx(growth[name], abs=0.02)
            assert lengths.broken == [0, 0]
    if form not in ("unigram", "whole_words"):  # which find words whole, made of kept pieces or not
        assert 0 < growth["closed"] <= growth["published"]


def test_the_published_way_strands_pieces_and_ours_does_not(bases, tiny_text):
    base = bases["model"]
    counts = count_texts(base.tokenizer("model"), texts_of(tiny_text))
    size = len(always(base)) + 60
    ids = published_ids(base, counts, size)
    found = outcome(base, ids, compact(base, ids), counts)
    assert len(found.dead) > 5 and found.stranded > 0.01
    ours = outcome(base, kept := closed_ids(base, counts, size), compact(base, kept), counts)
    assert not len(ours.dead)
    assert ours.growth["tokenizer.model"] < 0.7 * found.growth["tokenizer.model"]
    assert ours.growth["tokenizer.model"] == ours.growth["tokenizer.json"]


def test_published_ids_are_those_of_the_published_rule(bases):
    """Written out here as recipes tell it: brackets first, then by count until there are enough."""
    base = bases["model"].extended(
        ["[x]", "<>", "[y", "<zz>"], scores="published", special=["plain"]
    )
    numbers = np.random.default_rng(0).integers(0, 4, len(base.pieces))
    texts = [piece.text for piece in base.pieces]
    vocabulary = {
        i for i, text in enumerate(texts)
        if ((text.startswith("<") and text.endswith(">")) or (text.startswith("[")
            and text.endswith("]"))) and len(text) > 2
    }  # fmt: skip
    assert {texts[i] for i in vocabulary} >= {"[x]", "<zz>", "<s>", "<0x0A>"}
    vocabulary.add(texts.index("plain"))
    for i in sorted(range(len(texts)), key=lambda i: -numbers[i]):
        if len(vocabulary) < 330:
            vocabulary.add(i)
    assert published_ids(base, counted(base, numbers), 330).tolist() == sorted(vocabulary)


def test_what_does_not_occur_goes_first_and_late_ids_before_early_ones(bases):
    base = bases["model"]
    numbers = np.zeros(len(base.pieces), np.int64)
    numbers[base.ids["▁"]] = 1
    texts = [piece.text for piece in base.pieces]
    ids = closed_ids(base, counted(base, numbers), 399).tolist()
    (gone,) = set(range(400)) - set(ids)
    assert gone >= max(i for i in range(259, 400) if sum(texts[i] in text for text in texts) == 1)
    leaf = texts.index(max(texts[259:], key=len))
    numbers[leaf] = 5
    for size in (299, 285):
        ids = closed_ids(base, counted(base, numbers), size).tolist()
        assert leaf in ids, "it alone occurs, so all that it is made of is kept"


def test_both_forms_still_agree(bases, tiny_text, tmp_path):
    base = bases["model"]
    counts = count_texts(base.tokenizer("json"), texts_of(tiny_text))  # either form may count
    for size in (265, 300, 380):
        smaller = compact(base, closed_ids(base, counts, size))
        lines = [*texts_of(tiny_text), *texts_of(tiny_text, "xx"), " a  b ", "한국", "\t\n"]
        assert compare(smaller, lines).differing == 0
    write_definition(smaller, tmp_path / "out")
    write_definition(smaller, tmp_path / "out", overwrite=True)
    again = open_definition(tmp_path / "out")
    assert again.pieces == smaller.pieces
    assert load_tokenizer(tmp_path / "out").bos == 1


def test_counts_of_a_file_by_itself(tiny_tokenizer, tmp_path):
    for name in ("tokenizer.model", "tokenizer.json"):
        alone = shutil.copy(tiny_tokenizer / name, tmp_path / f"alone{name[9:]}")
        counts = count_texts(load_tokenizer(alone), ["the cat"])
        assert len(closed_ids(open_definition(alone), counts, 300)) == 300


def test_special_tokens_that_only_a_file_beside_tells_of(tiny_tokenizer, tmp_path):
    folder = shutil.copytree(tiny_tokenizer, tmp_path / "x")
    longest = max((p.text for p in open_definition(folder).pieces[259:]), key=len)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["additional_special_tokens"] = [longest]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    base = open_definition(folder)
    numbers = np.arange(400) % 7
    numbers[base.ids[longest]] = 0
    for way in (closed_ids, published_ids):
        assert base.ids[longest] in way(base, counted(base, numbers), 290)


def test_unknown_characters_of_a_model_without_bytes(bases):
    base = bases["unigram"]
    numbers = np.zeros(len(base.pieces), np.int64)
    some = [i for i, p in enumerate(base.pieces) if p.kind == "normal" and len(p.text) > 1]
    numbers[some] = 1
    counts = counted(base, numbers)
    letters = [i for i, p in enumerate(base.pieces) if len(p.text) == 1]
    ids = closed_ids(base, counts, 60)
    found = outcome(base, ids, compact(base, ids), counts)
    gone = {base.pieces[i].text for i in letters if i not in ids}
    assert gone and gone <= set(found.unknown)
    numbers[letters] = 10**6
    counts = counted(base, numbers)
    size = len(always(base) | set(letters))
    ids = closed_ids(base, counts, size)
    assert set(letters) <= set(ids.tolist())
    found = outcome(base, ids, compact(base, ids), counts)
    assert not found.unknown and found.unknown_share == 0


def test_refusals(bases, tiny_tokenizer):
    base = bases["model"]
    good = counted(base, np.ones(400))
    check(base, good, 260)
    check(base, good, 399)
    for counts, size, words in (
        (good, 259, "259 pieces are too few .* its bytes and the mark for spaces are 260"),
        (good, 400, "has 400 pieces, so 400 are not fewer"),
        (good, 10**6, "not fewer"),
        (counted(base, np.zeros(400)), 300, "the counts hold no tokens"),
        (Counts("another", np.ones(400, np.int64), ()), 300, "made with another tokenizer"),
        (counted(bases["byte_level"], np.ones(324)), 300, "made with another tokenizer"),
    ):
        for way in (closed_ids, published_ids):
            with pytest.raises(InputError, match=words):
                way(base, counts, size)


def test_progress_reaches_its_end(bases):
    told = []
    base = bases["model"]
    closed_ids(base, counted(base, np.arange(400)), 300, lambda *now: told.append(now))
    assert told[-1] == (100, 100) and told == sorted(told)


def test_texts_that_came_back_before_are_counted_if_they_do_not_now(bases):
    base, letters = bases["unigram"], "The fox"
    counts = count_texts(base.tokenizer(), [letters])
    whole = base.tokenizer()
    numbers = counts.counts.copy()
    numbers[:] = 0
    numbers[-1] = 1
    small = compact(base, closed_ids(base, counted(base, numbers), 10)).tokenizer()
    found = measure([whole, small, whole], [letters, "寿", letters])
    assert found.texts == 3 and found.broken == [0, 2, 0]
    assert (
        found.tokens[0] == found.tokens[2] == sum(map(len, whole.encode([letters, "寿", letters])))
    )
