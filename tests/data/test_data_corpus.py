import json

import pytest

from maxlite.config import Data, Source
from maxlite.data.corpus import load_corpus, source_names
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer


@pytest.fixture
def load(tiny_tokenizer, tmp_path):
    tokenizer = load_tokenizer(tiny_tokenizer)

    def load(train, eval=(), seed=0, **settings):
        data = Data(train=train, eval=eval, cache=str(tmp_path / "cache"), **settings)
        return load_corpus(data, tokenizer, seed, seq_len=32, batch_size=4, progress=False)

    return load


def test_a_corpus(load, tiny_text, capsys):
    corpus = load(
        (Source(str(tiny_text / "xx.txt"), 9.0), Source(str(tiny_text / "en.txt"), 1.0)),
        (Source(str(tiny_text / "en.jsonl"), name="other"),),
        held_out=0.1,
    )
    assert [s.name for s in corpus.order.sources] == ["xx", "en"]
    assert [s.weight for s in corpus.order.sources] == [9.0, 1.0]
    assert list(corpus.evals) == ["other", "xx", "en"]
    for source, view in zip(corpus.order.sources, corpus.views, strict=True):
        held = corpus.evals[source.name]
        assert len(view) + len(held) == 400 and 20 < len(held) < 65
        assert (source.documents, source.tokens, source.bytes) == (
            len(view),
            view.tokens,
            view.bytes,
        )
        assert source.windows == -(-(view.length - 1) // 32) and (view.bos, view.eos) == (1, 2)
    assert len(corpus.evals["other"]) == 400
    summary = corpus.summary(100)
    assert "xx: 90.00% of tokens asked" in summary
    assert "other (evaluation): 400 documents" in summary
    assert json.dumps(corpus.order.describe())
    assert capsys.readouterr().out == ""


def test_fingerprint_does_not_depend_on_paths(load, tiny_text, tmp_path):
    def fingerprint(path, **changes):
        return load((Source(str(path)),), **changes).order.fingerprint

    first = fingerprint(tiny_text / "en.txt")
    moved = tmp_path / "moved.txt"
    moved.write_bytes((tiny_text / "en.txt").read_bytes())
    assert fingerprint(moved) == first
    assert fingerprint(moved, held_out=0.1) != first
    assert fingerprint(moved, seed=1) != first
    moved.write_bytes(moved.read_bytes() + b"one more\n")
    assert fingerprint(moved) != first


def test_names():
    def names(*globs):
        return source_names([Source(g) for g in globs])

    assert names("text/ko/reviews.txt", "~/v1.2_en.jsonl.gz") == ["reviews", "v1.2_en"]
    assert names("text/ko/*.txt", "/data/en/**/*.parquet", "*.txt") == ["ko", "en", "text"]
    assert names("a/part-*.jsonl", "b/[ab]_x?.txt") == ["part", "x"]
    assert names("a/x.txt", "b/x.txt", "c/x.txt") == ["x", "x-2", "x-3"]
    assert source_names([Source("x.txt"), Source("y.txt", name="x")]) == ["x-2", "x"]
    with pytest.raises(InputError, match="two sources are named 'x'"):
        source_names([Source("a.txt", name="x"), Source("b.txt", name="x")])
    with pytest.raises(InputError, match="'a/b' has a '/'"):
        source_names([Source("a.txt", name="a/b")])


def test_one_name_for_training_and_evaluation(load, tiny_text):
    sources = (Source(str(tiny_text / "en.txt"), name="en"),)
    assert list(load(sources, sources).evals) == ["en"]
    assert list(load(sources, sources, held_out=0.2).evals) == ["en", "en-held-out"]


def test_nothing_left(load, tmp_path):
    (tmp_path / "one.txt").write_text("a single document\n")
    source = (Source(str(tmp_path / "one.txt")),)
    # Which side a lone document falls on is its hash's choice: the share decides between the two.
    with pytest.raises(InputError, match="leaves no document of source 'one' for training"):
        load(source, held_out=1 - 2**-53)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no documents"):
        load(source, (Source(str(tmp_path / "empty.txt")),))
    with pytest.raises(InputError, match="no training data"):
        load(())
