"""tokenize_corpus as its users see it, and training on what it makes."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from commands import call, finish, snapshot, start, strike

from maxlite.data.sources import documents
from maxlite.data.tokens import open_cache
from maxlite.tokenizer import load_tokenizer

TOOL = "tools.tokenize_corpus"


@pytest.fixture(scope="module")
def large(tmp_path_factory, tiny_text):
    """Nine megabytes, a line each: enough for two processes."""
    path = tmp_path_factory.mktemp("large") / "large.txt"
    lines = (tiny_text / "en.txt").read_text("utf-8")
    path.write_text("".join(lines.replace(", ", f" {i}, ") for i in range(240)), "utf-8")
    assert path.stat().st_size > 9e6
    return path


def done(*arguments):
    outcome = call(TOOL, *arguments)
    assert outcome.status == 0, outcome.err
    return outcome


def test_a_corpus_of_many_kinds(tiny_text, tiny_tokenizer, tmp_path):
    out, figures = tmp_path / "ko.tokens", tmp_path / "figures.json"
    outcome = done(
        f"--tokenizer={tiny_tokenizer}", f"--text={tiny_text}/*.txt,{tiny_text}/en.jsonl",
        f"--out={out}", f"--json={figures}", "--shard_mb=0.01",
    )  # fmt: skip
    files = [tiny_text / name for name in ("en.txt", "xx.txt", "en.jsonl")]
    texts = [text for file in files for text in documents(file)]
    tokenizer = load_tokenizer(tiny_tokenizer)
    cache = open_cache(out)
    np.testing.assert_array_equal(cache.tokens[:], np.concatenate(tokenizer.encode(texts)))
    told = json.loads(figures.read_text())
    assert told == {
        "out": str(out),
        "documents": 1200,
        "tokens": len(cache.tokens),
        "bytes": sum(len(text.encode()) for text in texts),
        "characters": sum(map(len, texts)),
        "tokens_per_character": len(cache.tokens) / sum(map(len, texts)),
        "shards": cache.shards,
        "fingerprint": cache.content,
        "tokenizer": tokenizer.fingerprint,
    }
    assert told["shards"] > 5 and "1,200 documents" in outcome.out and f"wrote {out}" in outcome.err
    assert told["fingerprint"] in outcome.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["figures.json", "ko.tokens"]


def test_dry_run_writes_nothing(tiny_text, tiny_tokenizer, tmp_path):
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={tiny_text}/*.txt", "--shard_mb=0.01"]
    arguments += [f"--out={tmp_path}/out", "--processes=2", "--dry_run"]
    said = done(*arguments).err
    assert "would tokenise" in said and "into" in said and not list(tmp_path.iterdir())


def test_killed_and_started_again(large, tiny_tokenizer, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out.work"
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={large}", "--shard_mb=0.1"]
    process = start(TOOL, *arguments, f"--out={out}", "--workers=2")
    strike(signal.SIGKILL, process, lambda: len(list(work.glob("done-*.json"))) > 3)
    before = {p.name: p.stat().st_ino for p in work.glob("tokens-*.bin")}
    whole = {f"tokens-{p.name[5:10]}.bin" for p in work.glob("done-*.json")}
    assert 3 < len(whole) < 80 and not out.exists()
    sentence = call(TOOL, *arguments, f"--out={out}", "--txt=file").sentence
    assert "out.work holds work that was begun with another --txt" in sentence
    other = [*arguments, f"--out={out}", "--txt=file", "--dry_run"]
    assert call(TOOL, *other).sentence == sentence
    assert "in 1 of 1 shards" in done(*other, "--overwrite").err  # none of what is there
    outcome = done(*arguments, f"--out={out}")
    assert f"{len(whole)} of " in outcome.err and f"shards are in {work} already" in outcome.err
    done(*arguments, f"--out={tmp_path}/fresh", "--workers=1")
    assert snapshot(out) == snapshot(tmp_path / "fresh")
    assert {name: (out / name).stat().st_ino for name in whole} == {n: before[n] for n in whole}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh", "out"]


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_that_is_killed(large, tiny_tokenizer, tmp_path):
    out, work = tmp_path / "out", tmp_path / "out.work"
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={large}", f"--out={out}"]
    arguments += ["--shard_mb=0.04", "--workers=2"]
    process = start(TOOL, *arguments, devices=1)
    while process.poll() is None and len(list(work.glob("done-*.json"))) < 4:
        time.sleep(0.002)
    os.kill(children(process.pid)[-1], signal.SIGKILL)  # the first one is no worker
    (outcome,) = finish(process)
    assert "a process ended while it read" in outcome.sentence
    assert "give a lower --workers" in outcome.sentence
    done(*arguments)
    assert len(open_cache(out)) == len(list(documents(large)))


def test_two_machines(tiny_text, tiny_tokenizer, tmp_path):
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={tiny_text}/*.txt", "--shard_mb=0.002"]
    out = tmp_path / "out"
    both = [
        start(TOOL, *arguments, f"--out={out}", "--processes=2", f"--process={i}", "--workers=1")
        for i in range(2)
    ]
    outcomes = finish(*both)
    assert [o.status for o in outcomes] == [0, 0], outcomes
    assert any(f"wrote {out}" in o.err for o in outcomes)
    late = done(*arguments, f"--out={out}", "--processes=2", "--process=1")
    assert f"{out} is there already" in late.err
    done(*arguments, f"--out={tmp_path}/one")
    assert snapshot(out) == snapshot(tmp_path / "one")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "out"]
    done(*arguments, f"--out={tmp_path}/part", "--processes=2", f"--json={tmp_path}/part.json")
    told = json.loads((tmp_path / "part.json").read_text())
    assert told["out"] == "" and 0 < told["missing"] < told["shards"]


def test_bad_input_is_one_sentence(tiny_text, tiny_tokenizer, tmp_path):
    tokenizer, text, out = (
        f"--tokenizer={tiny_tokenizer}", f"--text={tiny_text}/en.txt", f"--out={tmp_path}/out",
    )  # fmt: skip
    for arguments, words in (
        ([text, out], "--tokenizer must be given"),
        ([tokenizer, out], "--text must be given"),
        ([tokenizer, text], "--out must be given"),
        ([tokenizer, text, out, "--process=2", "--processes=2"], "--process=2 must be below"),
        ([tokenizer, text, "--out=gs://b/out"], "must be on this machine; copy it there"),
        ([tokenizer, text, f"--out={tmp_path}/no/out"], "lies in a folder that does not exist"),
        ([tokenizer, f"--text={tmp_path}/*.txt", out], "no file matches"),
        ([tokenizer, f"--text={tiny_text}/en.jsonl", "--field=body", out], "no field 'body'"),
        (["--tokenizer=/nowhere", text, out], "no tokenizer at /nowhere"),
        *(
            ([tokenizer, text, out, f"--shard_mb={mb}"], f"--shard_mb={mb}")
            for mb in ("nan", "inf", "1e-07")
        ),
    ):
        assert words in call(TOOL, *arguments).sentence
    assert not list(tmp_path.iterdir())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    mine = [tokenizer, text, f"--out={tmp_path}/mine", "--overwrite"]
    assert "is a folder of something else" in call(TOOL, *mine).sentence
    done(tokenizer, text, out)
    before = snapshot(tmp_path)
    assert "out exists; choose another --out" in call(TOOL, tokenizer, text, out).sentence
    assert snapshot(tmp_path) == before
    done(tokenizer, f"--text={tiny_text}/xx.txt", out, "--overwrite")
    assert len(open_cache(tmp_path / "out")) == 400 and snapshot(tmp_path) != before


def test_training_and_evaluation_on_the_folder(tiny_text, tiny_folder, tmp_path):
    model, out = tiny_folder(), tmp_path / "en.tokens"
    done(f"--tokenizer={model}", f"--text={tiny_text}/en.txt", f"--out={out}", "--shard_mb=0.01")
    arguments = ["--config=configs/continue.py", f"--config.data.train={out}", "--dry_run"]
    arguments += ["--config.seq_len=32", f"--config.out={tmp_path}/run", "--config.steps=4"]
    outcome = call("maxlite.train", *arguments, f"--config.model={model}")
    assert outcome.status == 0 and "  en: 100.00% of tokens" in outcome.err
    told = []
    for place in (out, tiny_text / "en.txt"):
        figures = tmp_path / f"{place.name}.json"
        asked = [f"--model={model}", f"--text={place}", f"--json={figures}", "--documents=20"]
        assert call("tools.evaluate", *asked).status == 0
        told.append(json.loads(figures.read_text())["total"])
    assert told[0] == told[1]
    other = tiny_folder("other", tokenizer="model")
    sentence = call("maxlite.train", *arguments, f"--config.model={other}").sentence
    assert f"{out} was made with the tokenizer {model}/tokenizer.json" in sentence
    assert f"not with {other}/tokenizer.model" in sentence
