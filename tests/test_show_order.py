"""`show_order` as a user calls it."""

import json
import re
import shutil
from itertools import pairwise

import numpy as np
import pytest
from commands import call, metrics, snapshot

from maxlite.config import Data, Source
from maxlite.data.corpus import load_corpus
from maxlite.data.orders import read_order, write_order
from maxlite.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_text, tiny_tokenizer):
    """my.order/ of two sources, chosen.order/ of some documents of one, text/ and tokenizer/."""
    here = tmp_path_factory.mktemp("orders")
    shutil.copytree(tiny_tokenizer, here / "tokenizer")
    (here / "text").mkdir()
    shutil.copy(tiny_text / "xx.txt", here / "text" / "xx.txt")
    lines = (tiny_text / "en.txt").read_text().splitlines()
    lines[::10] = ["\x1b[2J\x07" + line for line in lines[::10]]  # which a terminal would obey
    (here / "text" / "en.txt").write_text("\n".join(lines) + "\n")
    sources = (
        Source(str(here / "text" / "xx.txt"), 3.0, later=((20, 1.0),), epochs=2.0),
        Source(str(here / "text" / "en.txt"), 1.0),
    )
    data = Data(sources, held_out=0.1)
    corpus = load_corpus(data, load_tokenizer(tiny_tokenizer), 0, 96, 8, progress=False)
    write_order(here / "my.order", corpus.file)
    some = corpus.views[1].index[:40]
    write_order(here / "chosen.order", corpus.chosen({"en": some}, {"tool": "a test"}))
    return here


@pytest.fixture
def show(desk, tmp_path):
    """show(*arguments) -> what it printed, and its figures."""

    def show(*arguments, name="my.order"):
        figures = tmp_path / "figures.json"
        outcome = call(
            "tools.show_order",
            f"--order={desk}/{name}",
            f"--tokenizer={desk}/tokenizer",
            f"--json={figures}",
            "--overwrite",
            *arguments,
        )
        assert outcome.status == 0, outcome.err
        return outcome.out, json.loads(figures.read_text())

    return show


def test_shares_asked_for_and_achieved(show):
    out, figures = show("--steps=40", "--batch_size=8", "--count=0")
    xx, en = figures["sources"]
    assert (xx["name"], en["name"]) == ("xx", "en")
    assert (xx["asked"], en["asked"]) == pytest.approx((0.625, 0.375))
    assert (xx["share"], en["share"]) == pytest.approx((0.625, 0.375), abs=0.002)
    assert xx["epochs"] == pytest.approx(200 / xx["windows"]) and xx["epochs_allowed"] == 2
    assert figures["phases"] == [
        {"step": 0, "shares": {"xx": 0.75, "en": 0.25}},
        {"step": 20, "shares": {"xx": 0.5, "en": 0.5}},
    ]
    assert figures["fingerprint"][:16] in out and "from step 20: xx 50.00%, en 50.00%" in out
    assert "62.50%" in out and "▸" not in out and not figures["too_long"]
    out, figures = show("--steps=4000", "--count=0")
    assert "would be refused: source 'xx' would be read" in out and figures["too_long"]


def test_sequences_as_text(show, desk):
    lines = {n: (desk / "text" / f"{n}.txt").read_text().splitlines() for n in ("xx", "en")}
    out, figures = show("--count=30", "--step=2", "--batch_size=4")
    shown = figures["sequences"]
    assert [(s["step"], s["row"]) for s in shown] == [(2 + n // 4, n % 4) for n in range(30)]
    whole = 0
    for sequence in shown:
        assert sum(d["tokens"] for d in sequence["documents"]) <= 96
        for document in sequence["documents"]:
            line = lines[sequence["source"]][document["document"]]
            if not document["begun"] and not document["goes_on"]:
                assert document["text"] == line
                whole += 1
            elif "\ufffd" not in document["text"]:
                assert document["text"].strip() in line
    assert whole
    text = [line for line in out.splitlines() if line.startswith("▸")]
    assert len(text) == sum(len(s["documents"]) for s in shown)
    begun = [d["begun"] for s in shown for d in s["documents"]]
    assert [line.startswith("▸ … ") for line in text] == begun and any(begun)
    assert "\x1b" not in out


def test_colours_are_for_terminals(show):
    assert "\x1b" not in show()[0]
    coloured, figures = show("--color=always", "--count=9")
    assert coloured.count("\x1b[0m") == sum(len(s["documents"]) for s in figures["sequences"])
    codes = re.findall(r"\x1b\[(\d+)m▸", coloured)
    assert len(set(codes)) > 1 and all(a != b or a == "36" for a, b in pairwise(codes))
    assert re.sub(r"\x1b\[\d+m", "", coloured) == show("--color=never", "--count=9")[0]


def test_what_a_terminal_would_obey_is_not_printed(show, desk):
    out, figures = show("--count=200", "--color=never")
    said = [d for s in figures["sequences"] for d in s["documents"] if "\x1b[2J" in d["text"]]
    assert said and {d["document"] % 10 for d in said} == {0}
    assert "\ufffd[2J\ufffd" in out and not {"\x1b", "\x07"} & set(out)


def test_chosen_documents(show, desk):
    out, figures = show("--count=100", name="chosen.order")
    en = figures["sources"][1]
    assert en["chosen"] and en["documents"] == 40 and figures["notes"] == {"tool": "a test"}
    assert "chosen documents" in out and "tool: a test" in out
    assert figures["base"] == show()[1]["fingerprint"]
    chosen = set(np.load(desk / "chosen.order" / "documents-1.npy").tolist())
    seen = [s for s in figures["sequences"] if s["source"] == "en"]
    assert seen and {d["document"] for s in seen for d in s["documents"]} <= chosen


def test_a_run_is_an_order(tmp_path, make_folder, tiny_text):
    model = make_folder(tmp_path / "model")
    stage = {"model": model, "data.train": tiny_text / "en.txt", "out": tmp_path / "run"}
    stage |= {"steps": 3, "batch_size": 8, "seq_len": 16, "eval.every": 0}
    keys = [f"--config.{key}={value}" for key, value in stage.items()]
    outcome = call("maxlite.train", "--config=continue.py", *keys)
    assert outcome.status == 0, outcome.err
    figures = tmp_path / "figures.json"
    outcome = call("tools.show_order", f"--order={tmp_path}/run", f"--json={figures}")
    assert outcome.status == 0, outcome.err
    found = json.loads(figures.read_text())
    assert (found["steps"], found["batch_size"], found["seq_len"]) == (3, 8, 16)
    assert found["batches"] == json.loads((tmp_path / "run" / "run.json").read_text())["order"]
    assert len(found["sequences"]) == 3


def test_a_run_that_follows_another_is_the_same(tmp_path, make_folder, tiny_text):
    """And so is one that is stopped half-way, or has a seed of its own for everything else."""
    model = make_folder(tmp_path / "model")
    stage = {"model": model, "steps": 6, "batch_size": 8, "seq_len": 16, "log.every": 1}
    stage |= {"eval.every": 3, "eval.sample_tokens": 0, "optimizer.schedule": "constant"}

    def train(name, **settings):
        keys = stage | {"out": tmp_path / name} | settings
        given = [f"--config.{key.replace('__', '.')}={value}" for key, value in keys.items()]
        outcome = call("maxlite.train", "--config=continue.py", *given)
        assert outcome.status == 0, outcome.err
        return metrics(tmp_path / name), read_order(tmp_path / name).fingerprint

    first = train("first", data__train=tiny_text / "en.txt")
    follows = {"data__order": tmp_path / "first"}
    train("second", **follows, steps=3)
    assert train("second", **follows) == first
    assert train("third", **follows, seed=1) == first
    chosen = load_tokenizer(model)
    settings = Data(order=str(tmp_path / "first"))
    corpus = load_corpus(settings, chosen, 0, 16, 8, progress=False)
    write_order(tmp_path / "few.order", corpus.chosen({"en": corpus.views[0].index[:50]}))
    fewer, fingerprint = train("fewer", data__order=tmp_path / "few.order")
    assert fingerprint == read_order(tmp_path / "few.order").fingerprint != first[1]
    epochs = [m["data/en/epochs"] for m in (*first[0], *fewer) if m.get("data/en/epochs")]
    assert epochs[2] > 4 * epochs[0]  # a run's two evaluations, then the other's


def test_what_cannot_be_shown(desk, tmp_path):
    tool, order = "tools.show_order", f"--order={desk}/my.order"
    before = snapshot(desk)
    assert "--order" in call(tool).sentence
    assert "--tokenizer must be given" in call(tool, order).sentence
    assert "no order and no run" in call(tool, f"--order={tmp_path}").sentence
    other = f"--tokenizer={desk}/tokenizer/tokenizer.model"
    assert "another tokenizer" in call(tool, order, other).sentence
    outcome = call(tool, order, f"--tokenizer={desk}/tokenizer", "--dry_run")
    assert outcome.status == 0 and "2 sources" in outcome.err and not outcome.out
    assert "another tokenizer" in call(tool, order, other, "--dry_run").sentence
    for flag in ("steps", "step", "count", "batch_size"):
        assert flag in call(tool, order, f"--{flag}=-1").sentence
    assert snapshot(desk) == before
    help_ = call(tool, "--help").out
    for flag in ("--order", "--steps", "--tokenizer", "--count", "--batch_size", "--color"):
        assert f"{flag}:" in help_
