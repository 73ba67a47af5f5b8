"""Overlap with what an order read, against plain Python on what its rows hold."""

import numpy as np
import pytest

from maxlite.config import Data, Source
from maxlite.data import packing
from maxlite.data.contamination import overlap, pieces, rows_read
from maxlite.data.corpus import load_corpus
from maxlite.data.sets import named_parts
from maxlite.data.view import View
from maxlite.tokenizer import load_tokenizer

SEQ_LEN = 16
READ = 600  # sequences


@pytest.mark.parametrize("ends", [(None, None), (1, 2), (1, None), (None, 2)])
@pytest.mark.parametrize("share", [0.2, 0.6, 1.0])
def test_pieces_are_what_the_rows_hold(make_cache, random_documents, ends, share):
    view = View(make_cache(random_documents), *ends, np.arange(3, 60))
    count = packing.windows(view, SEQ_LEN)
    seen = np.random.default_rng(0).random(count) < share
    there = np.zeros(view.length, bool)
    for window in np.flatnonzero(seen).tolist():
        there[slice(*packing.bounds(view, window, SEQ_LEN))] = True
    expected, begin = [], 0
    for ids in random_documents[3:]:
        begin += ends[0] is not None
        held = there[begin : begin + len(ids)]
        edges = np.flatnonzero(np.diff(held, prepend=False, append=False)).reshape(-1, 2)
        expected += [ids[a:b] for a, b in edges.tolist()]
        begin += len(ids) + (ends[1] is not None)
    assert [ids.tolist() for ids in pieces(view, seen, SEQ_LEN)] == expected


@pytest.fixture
def order(tiny_text, tiny_tokenizer):
    """Two sources, of which `READ` sequences are some of xx, and all of en more than once."""
    train = (Source(str(tiny_text / "xx.txt")), Source(str(tiny_text / "en.txt"), 2.0))
    tokenizer = load_tokenizer(tiny_tokenizer)
    return load_corpus(Data(train), tokenizer, 0, 64, 4, progress=False), tokenizer


def test_rows_are_those_of_the_steps(order):
    corpus, _ = order
    seen = rows_read(corpus.order, READ)
    expected = [set(), set()]
    for step in range(READ // 4):
        source, _, window = corpus.order.batch(step)
        for k, row in zip(source.tolist(), window.tolist(), strict=True):
            expected[k].add(row)
    assert [set(np.flatnonzero(rows).tolist()) for rows in seen] == expected
    assert 0 < seen[0].sum() < len(seen[0]) and seen[1].all()


def test_overlap_is_what_was_read_and_nothing_else(order, tiny_text, tmp_path):
    """Documents of which whole rows were read are found whole, others not at all."""
    corpus, tokenizer = order
    seen, ends = rows_read(corpus.order, READ)[0], corpus.views[0].ends.tolist()
    rows = [seen[a // 64 : (b - 1) // 64 + 1] for a, b in zip([0, *ends], ends, strict=False)]
    lines = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    whole = [line for line, its in zip(lines, rows, strict=True) if its.all()]
    none = [line for line, its in zip(lines, rows, strict=True) if not its.any()]
    assert len(whole) > 10 and len(none) > 10
    noisy = ["“" + line.replace(" ", "  ").rstrip(".") + "”!" for line in whole]
    (tmp_path / "whole.txt").write_text("\n".join(noisy), "utf-8")
    (tmp_path / "none.txt").write_text("\n".join(none), "utf-8")
    parts = named_parts(f"{tmp_path}/whole.txt,none={tmp_path}/none.txt")
    found = overlap(corpus, tokenizer, READ, parts, ngram=6, min_words=4)
    for one, lines in zip(found, (whole, none), strict=True):
        sizes = [len(line.split()) for line in lines]
        assert one["documents"] == len(lines)
        assert one["judged"] == sum(size >= 4 for size in sizes)
        assert one["words"] == sum(size for size in sizes if size >= 4)
        assert one["ngrams"] == sum(max(1, size - 5) for size in sizes if size >= 4)
    full, empty = found
    assert full["overlap"] == 1 and full["found"] == full["ngrams"]
    assert full["touched"] == full["mostly"] == full["judged"]
    assert full["sources"] == {"xx": full["ngrams"]}
    assert len(full["worst"]) == 5 and {w["source"] for w in full["worst"]} == {"xx"}
    assert full["worst"][0]["text"] == noisy[full["worst"][0]["document"]]
    assert empty["overlap"] == empty["found"] == empty["touched"] == 0 and not empty["worst"]


def test_a_part_of_a_document_counts_as_a_part(order, tiny_text, tmp_path):
    corpus, tokenizer = order
    line = max((tiny_text / "en.txt").read_text().splitlines(), key=len)
    words = line.split()[:15]
    text = " ".join(["quite", "other", "words", *words, "and", "more", "again"])
    (tmp_path / "mixed.txt").write_text(f"{text}\ntoo short\n")
    (found,) = overlap(corpus, tokenizer, 10**6, named_parts(f"{tmp_path}/mixed.txt"), 13, 5)
    assert (found["documents"], found["judged"], found["words"]) == (2, 1, 21)
    assert (found["ngrams"], found["found"]) == (9, 3)
    assert found["overlap"] == pytest.approx(15 / 21)
    assert (found["touched"], found["mostly"]) == (1, 0)
    assert found["sources"] == {"en": 3}
    (worst,) = found["worst"]
    assert (worst["words"], worst["source"]) == (21, "en")
    assert worst["overlap"] == pytest.approx(15 / 21)


def test_seven_in_ten_runs_are_most_of_a_document(order, tiny_text, tmp_path):
    """And six are not."""
    corpus, tokenizer = order
    line = max((tiny_text / "en.txt").read_text().splitlines(), key=len)
    words, other = line.split(), ["quite", "other", "words"]
    texts = [" ".join([*words[:9], *other]), " ".join([*words[:8], *other, "again"])]
    (tmp_path / "some.txt").write_text("\n".join(texts) + "\n")
    (found,) = overlap(corpus, tokenizer, 10**6, named_parts(f"{tmp_path}/some.txt"), 3, 3)
    assert (found["ngrams"], found["found"]) == (20, 13) and found["mostly"] == 1
