"""Conversations from a source to rows: whole, responses alone counted, and never stale."""

import json
from dataclasses import replace

import numpy as np
import pytest

from maxlite.config import Data, Source
from maxlite.data.chat_templates import NAMED
from maxlite.data.chat_tokens import ChatEncoder
from maxlite.data.corpus import load_corpus
from maxlite.data.examples import examples
from maxlite.data.loader import batches
from maxlite.data.packing import evaluation_rows, training_row, windows
from maxlite.errors import InputError
from maxlite.tokenizer import load_tokenizer

S = 160


@pytest.fixture(scope="module")
def chats(tmp_path_factory, tiny_text):
    """A file of 60 conversations, of which every tenth is long."""
    lines = (tiny_text / "en.txt").read_text().splitlines()
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    with path.open("w") as file:
        for i in range(60):
            answer = " ".join(lines[60:70]) if i % 10 == 9 else lines[i + 100][:40]
            file.write(json.dumps({"instruction": lines[i][:30], "output": answer}) + "\n")
    return path


@pytest.fixture
def load(tmp_path, monkeypatch, tiny_tokenizer, chats):
    """load(template=, field=, ...) -> the corpus of `chats`, or of other sources."""
    tokenizer = load_tokenizer(tiny_tokenizer)
    monkeypatch.setenv("MAXLITE_CACHE", str(tmp_path / "cache"))

    def load(*sources, template="llama2", seq_len=S, **settings):
        train = sources or (Source(str(chats), template=template),)
        data = Data(train, **settings)
        return load_corpus(data, tokenizer, 0, seq_len, 4, progress=False)

    return load


def test_rows_hold_whole_conversations(load):
    corpus = load()
    (view,) = corpus.views
    assert (
        len(view) == 54 and view.left_out == 6 and "6 longer than 160 tokens" in corpus.summary(9)
    )
    documents, masks = list(view.documents()), list(view.learnt())
    assert all(d[-1] == 2 and m[-1] == 1 for d, m in zip(documents, masks, strict=True))
    learnt = 0
    for w in range(windows(view, S)):
        row, seen = training_row(view, w, S), 0
        for segment in range(1, row["segments"].max() + 1):
            at = row["segments"] == segment
            ids, mask = documents.pop(0), masks.pop(0)
            last = seen + len(ids) >= (row["segments"] > 0).sum()
            assert row["tokens"][at].tolist() == ids[: len(ids) - last].tolist()
            assert row["targets"][at][: len(ids) - 1].tolist() == ids[1:].tolist()
            assert row["weights"][at][: len(ids) - 1].tolist() == mask[1:].tolist()
            assert not row["weights"][at][len(ids) - 1 :].any()  # the next one's beginning
            assert row["positions"][at].tolist() == list(range(len(ids) - last))
            seen += len(ids)
        learnt += row["weights"].sum()
        assert seen <= S
    assert not documents and learnt == sum(m.sum() for m in view.learnt())


def test_evaluation_counts_responses(load, chats):
    (view,) = load(held_out=0.3).evals.values()
    assert 0 < len(view) < 60
    rows = list(evaluation_rows(view.documents(), 64, 0, view.bos, view.learnt()))
    assert sum(row["weights"].sum() for row in rows) == sum(m.sum() for m in view.learnt())
    counted = np.concatenate([row["targets"][row["weights"] > 0] for row in rows])
    ids, learnt = (np.concatenate([*parts]) for parts in (view.documents(), view.learnt()))
    assert sorted(counted) == sorted(ids[learnt > 0])
    whole = load(eval=(Source(str(chats), template="llama2"),)).evals["chats"]
    records = [json.loads(line) for line in chats.read_text().splitlines()]
    assert whole.bytes == sum(len(r["output"].strip().encode()) for r in records)


def test_the_order_knows_the_template_and_the_cache_is_never_stale(load, tmp_path, chats):
    first, again = load(), load()
    assert first.order.fingerprint == again.order.fingerprint and first.template == "llama2"
    folders = tmp_path / "cache" / "tokens"
    assert len([p for p in folders.iterdir() if p.is_dir()]) == 1
    other = load(template="alpaca")
    assert other.order.fingerprint != first.order.fingerprint
    assert other.file.fingerprint != first.file.fingerprint
    assert load(seq_len=S + 1).order.sources[0].content != first.order.sources[0].content
    copy = tmp_path / "moved.jsonl"
    copy.write_text(chats.read_text())
    assert load(Source(str(copy), template="llama2")).order.fingerprint == first.order.fingerprint
    held = [load(template=t, held_out=0.3).evals["chats"].cache for t in ("llama2", "alpaca")]
    assert (held[0].hashes == held[1].hashes).all()  # the same are held out


def test_batches_of_conversations_and_text(load, chats, tiny_text):
    text = Source(str(tiny_text / "en.txt"), weight=1.0)
    mixed = load(Source(str(chats), weight=1.0, template="llama2"), text)
    assert [view.starts is None for view in mixed.views] == [False, True]
    found = list(batches(mixed, 0, 6, range(4)))
    names = [mixed.order.sources[k].name for k in mixed.order.batch(0)[0]]
    assert sorted(names) == ["chats", "chats", "en", "en"]
    plain = load(text)
    (view,) = plain.views
    rows = {training_row(view, w, S)["tokens"].tobytes() for w in range(windows(view, S))}
    for step, batch in enumerate(found):
        for source, row in zip(mixed.order.batch(step)[0], batch["tokens"], strict=True):
            assert (row.tobytes() in rows) == (source == 1)
    resumed = next(iter(batches(mixed, 4, 6, range(4))))
    assert all((resumed[key] == found[4][key]).all() for key in resumed)


def test_examples_show_what_is_learnt(load, tiny_tokenizer):
    corpus, tokenizer = load(), load_tokenizer(tiny_tokenizer)
    encoder = ChatEncoder(tokenizer, NAMED["llama2"])
    shown = [p for e in examples(corpus, 0, windows(corpus.views[0], S)) for p in e.parts]
    assert len(shown) == 54 and encoder.end == 2
    assert {part.document for part in shown} == set(corpus.views[0].index.tolist())
    for part in shown:
        assert part.ids[0] == 1 and part.ids[-1] == 2 and part.learnt[-1]
        assert not part.begun and not part.goes_on
        prompt = tokenizer.decode(part.ids[~part.learnt].tolist())
        assert prompt.startswith("<s>[INST] ") and prompt.endswith(" [/INST]")


def test_what_is_refused(load, chats, tiny_text, tmp_path):
    source = Source(str(chats), template="llama2")
    with pytest.raises(InputError, match=r"none of the 60 conversations.*seq_len=8 tokens"):
        load(source, seq_len=8)
    with pytest.raises(InputError, match=r"several chat templates \(alpaca, llama2\)"):
        load(source, replace(source, name="b", template="alpaca"))
    with pytest.raises(InputError, match="no chat template 'llama'; there are alpaca"):
        load(template="llama")
    with pytest.raises(InputError, match=r"no field 'text'.*are these conversations"):
        load(template="")
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(InputError, match=r"can't be read as text.*are these conversations"):
        load(Source(str(tmp_path / "a.json")))
    with pytest.raises(InputError, match="holds no documents"):
        load(Source(str(tmp_path / "a.json"), template="alpaca"))
    folder = load().views[0].cache.path
    with pytest.raises(InputError, match="on which the template 'llama2' comes too late"):
        load(Source(str(folder), template="llama2"))
    with pytest.raises(InputError, match="can't be read as conversations"):
        load(Source(str(tiny_text / "en.txt"), template="llama2"))
