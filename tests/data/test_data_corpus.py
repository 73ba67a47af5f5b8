import json
import shutil
from dataclasses import replace

import fsspec
import numpy as np
import pytest

from maxlite.config import Data, Source
from maxlite.data.corpus import load_corpus, source_names
from maxlite.data.loader import Steps, batches
from maxlite.data.making import Making, make, stamps
from maxlite.data.orders import write_order
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer


@pytest.fixture
def load(tiny_tokenizer, tmp_path):
    tokenizer = load_tokenizer(tiny_tokenizer)

    def load(train, eval=(), seed=0, **settings):
        data = Data(train=train, eval=eval, **settings)
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
    assert "xx: 90.01% of tokens (90.00% asked for), 345 documents" in summary
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
    assert names("a/ko.tokens", "gs://bucket/en.tokens/", "a/xx") == ["ko", "en", "xx"]
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


def test_a_source_of_weight_zero_is_not_read(load, tiny_text, tmp_path, capsys, tiny_tokenizer):
    corpus = load((Source(str(tiny_text / "en.txt")), Source("nonesuch.txt", 0.0)), held_out=0.1)
    alone = load((Source(str(tiny_text / "en.txt")),), held_out=0.1)
    assert corpus.order.fingerprint == alone.order.fingerprint
    assert list(corpus.evals) == ["en"] and len(corpus.views) == len(corpus.file.sources) == 1
    with pytest.raises(InputError, match=r"nonesuch\.txt"):
        load((Source(str(tiny_text / "en.txt")), Source("nonesuch.txt", 0.0, later=((9, 1.0),))))
    data = Data((Source(str(tiny_text / "en.txt")), Source("no.txt", 0.0)))
    load_corpus(data, load_tokenizer(tiny_tokenizer), 0, 32, 4)
    assert "source no has weight 0: not read" in capsys.readouterr().err


def test_weights_that_change_are_in_the_summary(load, tiny_text):
    en = Source(str(tiny_text / "en.txt"), later=((20, 0.0),))
    corpus = load((en, Source(str(tiny_text / "xx.txt"), 3.0)))
    summary = corpus.summary(40)
    assert "en: 12.51% of tokens (12.50% asked for)" in summary, summary
    assert "from step 20: en 0.00%, xx 100.00%" in summary
    assert "from step" not in corpus.summary(20)


# --- orders --------------------------------------------------------------------------------------


@pytest.fixture
def two(tiny_text):
    return (
        Source(str(tiny_text / "xx.txt"), 9.0, epochs=5.0, later=((10, 1.0),)),
        Source(str(tiny_text / "en.jsonl"), 1.0),
    )


def read(corpus, steps=20):
    """The order's fingerprint, and the rows of its first steps."""
    rows = [row for i in range(steps) for row in Steps(corpus, steps, range(4))[i]["tokens"]]
    return corpus.order.fingerprint, np.array(rows).tolist()


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_an_order_is_the_corpus_it_came_from(held_out, load, two, tmp_path):
    corpus = load(two, held_out=held_out, seed=5)
    write_order(tmp_path / "my.order", corpus.file)
    again = load((), order=str(tmp_path / "my.order"), seed=6)
    assert read(again) == read(corpus)
    assert again.order.sources == corpus.order.sources
    assert {k: v.content for k, v in again.evals.items()} == {
        k: v.content for k, v in corpus.evals.items()
    }
    assert again.file.fingerprint == corpus.file.fingerprint
    with pytest.raises(InputError, match=r"'xx' would be read"):
        again.order.check_length(10**6)


def test_chosen_documents_are_read_alone(load, two, tmp_path):
    corpus = load(two, held_out=0.1)
    chosen = corpus.views[0].index[::3]
    file = corpus.chosen({"xx": chosen}, {"why": "a third"})
    assert file.base == corpus.file.fingerprint != file.fingerprint
    write_order(tmp_path / "my.order", file)
    again = load((), order=str(tmp_path / "my.order"))
    assert again.order.fingerprint != corpus.order.fingerprint
    assert again.file.notes == {"why": "a third"}
    assert again.views[0].index.tolist() == chosen.tolist()
    assert again.views[1].content == corpus.views[1].content  # whole, but for what is held out
    expected = [
        corpus.views[0].cache.tokens[slice(*corpus.views[0].cache.offsets[i : i + 2])]
        for i in chosen
    ]
    for ours, theirs in zip(again.views[0].documents(), expected, strict=True):
        assert ours.tolist() == theirs.tolist()
    for name in ("xx", "en"):
        assert again.evals[name].index.tolist() == corpus.evals[name].index.tolist()
    # A choice from the choice, and of another source: what is not named stays.
    third = again.chosen({"en": again.views[1].index[:7]})
    assert third.sources[0].documents.tolist() == chosen.tolist() and third.base == file.fingerprint


def test_a_choice_that_cannot_be_read_is_refused(load, two):
    corpus = load(two, held_out=0.1)
    held = corpus.evals["xx"].index
    free = corpus.views[0].index
    for documents, said in (
        ({"ko": free}, "no source 'ko' to choose from, only 'xx', 'en'"),
        ({"xx": free[::-1]}, "source 'xx': .* not ascending"),
        ({"xx": free.astype(np.int32)}, "source 'xx': .* not ascending int64"),
        ({"xx": np.array([3, 3])}, "source 'xx': .* not ascending"),
        ({"xx": np.array([-1, 3])}, "source 'xx': document -1 .* from 0 to 399"),
        ({"xx": np.array([3, 400])}, "source 'xx': document 400 .* from 0 to 399"),
        ({"xx": np.sort([*free[:9], held[2]])}, f"document {held[2]} .* held out"),
        ({"xx": free[:0]}, "no document of source 'xx' is chosen"),
    ):
        with pytest.raises(InputError, match=said):
            corpus.chosen(documents)


def test_what_is_held_out_stays_so_whoever_wrote_the_order(load, two, tmp_path):
    """Even an order that another program made of all documents."""
    corpus = load(two, held_out=0.1)
    everything = replace(corpus.file.sources[0], documents=np.arange(400))
    write_order(tmp_path / "o", replace(corpus.file, sources=(everything, corpus.file.sources[1])))
    with pytest.raises(InputError, match=f"document {corpus.evals['xx'].index[0]} is .* held out"):
        load((), order=str(tmp_path / "o"))


def test_an_order_whose_text_is_not_there_says_what_to_do(load, tiny_text, tmp_path, monkeypatch):
    """Relative globs begin where the program was started, as in a config."""
    shutil.copy(tiny_text / "en.txt", tmp_path / "text.txt")
    monkeypatch.chdir(tmp_path)
    write_order(tmp_path / "o", load((Source("text.txt"),)).file)
    assert load((), order="o").order.sources[0].name == "text"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(InputError) as caught:
        load((), order="../o")
    sentence = str(caught.value)
    assert "source 'text' of the order in ../o: no file matches 'text.txt'" in sentence
    assert f"from {tmp_path}/elsewhere" in sentence and "change its glob" in sentence
    file = tmp_path / "o" / "order.json"
    file.write_text(file.read_text().replace('"text.txt"', f'"{tmp_path}/text.txt"'))
    assert load((), order="../o").order.sources[0].name == "text"  # which is what it advises


def test_an_order_is_for_one_text_tokenizer_and_length(load, tiny_text, tmp_path, tiny_tokenizer):
    text = tmp_path / "text.txt"
    shutil.copy(tiny_text / "en.txt", text)
    corpus = load((Source(str(text), name="mine"),), held_out=0.1)
    write_order(tmp_path / "o", corpus.file)
    data = Data(order=str(tmp_path / "o"))
    tokenizer = load_tokenizer(tiny_tokenizer)
    assert load_corpus(data, tokenizer, 0, 32, 8, False).evals["mine"]  # another batch is fine
    with pytest.raises(InputError, match="sequences of 32 tokens, but seq_len is 64"):
        load_corpus(data, tokenizer, 0, 64, 4, False)
    with pytest.raises(InputError, match=r"holds out 0\.1 .* data\.held_out is 0\.2"):
        load((), order=data.order, held_out=0.2)
    assert load((), order=data.order, held_out=0.1)
    other = load_tokenizer(tiny_tokenizer / "tokenizer.model")
    with pytest.raises(InputError, match=f"another tokenizer .*{other.fingerprint[:12]}"):
        load_corpus(data, other, 0, 32, 4, False)
    tokenizer.eos = None
    with pytest.raises(InputError, match=r"between the ids 1 and 2, but BOS and EOS .* 1 and None"):
        load_corpus(data, tokenizer, 0, 32, 4, False)
    text.write_text(text.read_text() + "one more\n")
    with pytest.raises(InputError, match=r"source 'mine' \(.*text\.txt\) is not what the order in"):
        load((), order=data.order)
    text.unlink()
    with pytest.raises(InputError, match=r"no file matches .*text\.txt"):
        load((), order=data.order)


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


@pytest.mark.parametrize("held_out", [0.0, 0.1])
def test_tokens_are_as_good_as_their_text(held_out, load, tiny_text, tiny_tokenizer, tmp_path):
    """In a folder or far away: the same order by its fingerprint, the same batches by their ids."""
    file, out = tiny_text / "xx.txt", tmp_path / "xx.tokens"
    tokenizer = load_tokenizer(tiny_tokenizer)
    make(Making([file], stamps([file]), tokenizer, tmp_path / "work", shard_bytes=2000), out)
    system = fsspec.filesystem("memory")
    for part in out.iterdir():
        system.pipe(f"/bucket/xx.tokens/{part.name}", part.read_bytes())
    system.pipe("/bucket/xx.txt", file.read_bytes())
    places = (str(file), str(out), "memory://bucket/xx.tokens", "memory://bucket/*.txt")
    corpora = [load((Source(name),), held_out=held_out) for name in places]
    assert len({corpus.order.fingerprint for corpus in corpora}) == 1
    assert [list(corpus.evals) for corpus in corpora][:2] == [["xx"]] * 2 or not held_out
    read = [list(batches(corpus, 0, 20, range(4))) for corpus in corpora]
    for step in zip(*read, strict=True):
        for other in step[1:]:
            for key, values in step[0].items():
                np.testing.assert_array_equal(values, other[key])
    system.rm("/bucket", recursive=True)
