"""count_tokens, as a user calls it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from commands import ROOT, call, refused, run, snapshot, start, strike

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.sources import documents
from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.counts import read_counts

TOOL = "tools.count_tokens"


@pytest.fixture
def desk(tmp_path, tiny_text, tiny_tokenizer):
    """Text of each kind; and what all tools get told here."""
    texts = (tiny_text / "xx.txt").read_text("utf-8").splitlines()
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts[:100])
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.txt").write_text("\n".join(texts[100:300]) + "\n", "utf-8")
    table = pyarrow.table({"text": texts[300:]})
    pyarrow.parquet.write_table(table, tmp_path / "c.parquet", row_group_size=30)
    return tmp_path


@pytest.fixture
def tokenizer(tiny_tokenizer):
    return load_tokenizer(tiny_tokenizer)


def done(*arguments):
    outcome = call(TOOL, *arguments)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_corpus_of_many_kinds(workers, desk, tiny_text, tiny_tokenizer, tokenizer, monkeypatch):
    monkeypatch.setattr("maxlite.tokenizer.workers._PROCESS_BYTES", 1)
    outcome = done(
        f"--tokenizer={tiny_tokenizer}", f"--text={desk}/*.jsonl,{desk}/*.txt,{desk}/*.parquet",
        f"--out={desk}/counts.json", f"--json={desk}/figures.json", f"--workers={workers}",
    )  # fmt: skip
    texts = list(documents(tiny_text / "xx.txt"))
    encoded = np.concatenate(tokenizer.encode(texts))
    numbers = np.bincount(encoded, minlength=400)
    counts = read_counts(desk / "counts.json")
    counts.check(tokenizer)
    assert counts.counts.tolist() == numbers.tolist()
    assert [f.name for f in counts.files] == [
        f"{desk}/{n}" for n in ("a.jsonl", "b.txt", "c.parquet")
    ]
    assert [f.documents for f in counts.files] == [100, 200, 100]
    figures = json.loads((desk / "figures.json").read_text())
    assert figures["tokens"] == len(encoded) and figures["documents"] == 400
    assert figures["tokens_per_character"] == len(encoded) / sum(map(len, texts))
    assert figures["tokens_per_word"] == len(encoded) / sum(len(t.split()) for t in texts)
    assert figures["tokens_per_byte"] == len(encoded) / sum(len(t.encode()) for t in texts)
    assert figures["never"] == (numbers == 0).sum() > 0
    assert figures["fallback_share"] == numbers[3:259].sum() / len(encoded) > 0.5
    assert figures["unknown_share"] == 0
    most = figures["most_frequent"]
    assert [row["count"] for row in most] == sorted(numbers.tolist(), reverse=True)[:10]
    assert all(tokenizer.piece(row["id"]) == row["piece"] for row in most)
    ordered = np.sort(numbers)[::-1].cumsum() / len(encoded)
    for share, ids in figures["coverage"].items():
        assert ordered[ids - 1] >= float(share) > ordered[ids - 2]
    assert f"{len(encoded):,} tokens, 400 documents, 3 files" in outcome.out
    assert repr(most[0]["piece"]) in outcome.out and "never occur" in outcome.out


def test_files_of_counts_add_up(desk, tiny_tokenizer):
    given = f"--tokenizer={tiny_tokenizer}"
    for name in ("a.jsonl", "b.txt", "c.parquet"):
        done(given, f"--text={desk}/{name}", f"--out={desk}/{name}.counts")
    files = [f"{desk}/{name}.counts" for name in ("b.txt", "a.jsonl", "c.parquet")]
    outcome = done(f"--add={','.join(files)}", f"--out={desk}/alone.counts")
    assert "400 documents" in outcome.out and "unknown" not in outcome.out
    done(
        given,
        f"--add={','.join(files[:2])}",
        f"--text={desk}/c.parquet",
        f"--out={desk}/more.counts",
    )
    done(
        given, f"--text={desk}/b.txt,{desk}/a.jsonl,{desk}/*.parquet", f"--out={desk}/whole.counts"
    )
    whole = read_counts(desk / "whole.counts")
    assert read_counts(desk / "alone.counts") == whole == read_counts(desk / "more.counts")


def test_what_is_tokenised_already(desk, tiny_text, tokenizer, tiny_tokenizer, tmp_path):
    source = Source(str(tiny_text / "en.txt"))
    cache = tokenize(source, tokenizer, Data(), False)
    (desk / "d.bin").write_text('{"tokens": [7, 399]}\n{"tokens": [7]}\n')
    out = desk / "counts"
    outcome = done(
        f"--tokenizer={tiny_tokenizer}", f"--tokens={cache.path},{desk}/*.bin", f"--out={out}",
        f"--json={desk}/figures.json",
    )  # fmt: skip
    numbers = np.bincount([*cache.tokens[:].tolist(), 7, 399, 7], minlength=400)
    assert read_counts(out).counts.tolist() == numbers.tolist()
    assert "tokens per word       not known" in outcome.out
    assert json.loads((desk / "figures.json").read_text())["tokens_per_character"] is None


def test_dry_run_and_overwrite(desk, tiny_tokenizer):
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={desk}/b.txt", f"--out={desk}/out"]
    before = snapshot(desk)
    outcome = done(*arguments, "--dry_run")
    assert "1 files" in outcome.err and snapshot(desk) == before
    done(*arguments)
    made = snapshot(desk)
    assert "out exists; choose another --out, or give --overwrite" in refused(
        desk, TOOL, *arguments
    )
    done(*arguments, "--overwrite")
    assert snapshot(desk) == made


def test_bad_text_is_named_and_skipped_only_if_asked(desk, tiny_tokenizer, monkeypatch):
    monkeypatch.setattr("maxlite.tokenizer.workers._PROCESS_BYTES", 1)
    (desk / "b.txt").write_bytes(b"one\n\xff\ntwo\n\xfe\n")
    arguments = [f"--tokenizer={tiny_tokenizer}", f"--text={desk}/*.txt,{desk}/*.jsonl"]
    arguments.append("--workers=2")
    sentence = refused(desk, TOOL, *arguments, f"--out={desk}/out")
    assert sentence.startswith(f"{desk}/b.txt, line 2: not valid UTF-8 (byte 0xff)")
    outcome = done(*arguments, "--skip_invalid", f"--json={desk}/figures.json")
    assert "2 documents left out" in outcome.out and "102 documents" in outcome.out
    assert json.loads((desk / "figures.json").read_text())["skipped"] == 2


def test_bad_input_is_one_sentence(desk, tiny_tokenizer):
    given, text = f"--tokenizer={tiny_tokenizer}", f"--text={desk}/b.txt"
    slow = f"--tokenizer={tiny_tokenizer}/tokenizer.model"
    done(given, text, f"--out={desk}/fast")
    done(slow, text, f"--out={desk}/slow")
    (desk / "e.txt").write_text(" \n\n")
    (desk / "folder").mkdir()
    for arguments, words in (
        ([given], "--text, --tokens or --add must be given"),
        ([text], "--tokenizer must be given"),
        ([given, f"--text={desk}/z*"], "no file matches"),
        ([given, f"--text={desk}/e.txt"], "no token to count"),
        ([given, text, f"--out={desk}/no/x"], "lies in a folder that does not exist"),
        ([given, text, f"--out={desk}/folder", "--overwrite"], "is a folder; name a file"),
        ([given, f"--tokens={desk}/b.txt"], "b.txt holds no ids"),
        ([given, f"--add={desk}/b.txt"], "b.txt is not a file of token counts"),
        ([given, f"--add={desk}/nowhere"], "nowhere cannot be read"),
        (
            [given, f"--add={desk}/slow"],
            "the counts in " + str(desk) + "/slow were made with another",
        ),
        ([f"--add={desk}/fast,{desk}/slow"], "counts of two tokenizers"),
        (
            [f"--add={desk}/fast,{desk}/fast"],
            f"the same {read_counts(desk / 'fast').total.tokens} ",
        ),
        ([given, text, f"--add={desk}/fast"], "what was counted now both hold the same"),
        ([given, f"--tokens={desk}/a.jsonl"], "line 1: no field 'tokens'"),
        (["--tokenizer=/nowhere", text], "/nowhere"),
    ):
        sentence = refused(desk, TOOL, *arguments)
        assert words in sentence, (arguments, sentence)


def children(pid: int) -> list[int]:
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are read from /proc")
@pytest.mark.parametrize("moment", [1, 2, 3])
@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_ended_early_it_leaves_nothing(number, status, word, moment, desk, tiny_tokenizer):
    """While processes start or count, a signal ends them all at once."""
    (desk / "long.txt").write_text(("the cat sees the moon " * 40 + "\n") * 30000)
    before = snapshot(desk)
    process = start(
        TOOL, f"--tokenizer={tiny_tokenizer}", f"--text={desk}/long.txt",
        f"--out={desk}/counts", "--workers=2",
    )  # fmt: skip
    seen: set[int] = set()

    def began() -> bool:
        seen.update(children(process.pid))
        return len(seen) >= moment

    (outcome,) = strike(number, process, began, seconds=60)
    assert outcome.status == status, outcome.err
    assert outcome.err.strip().endswith(f"maxlite: {word}") and "Traceback" not in outcome.err
    assert snapshot(desk) == before
    until = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in seen):
        assert time.monotonic() < until, "a process goes on"
        time.sleep(0.02)


def test_no_accelerator_library_is_loaded(desk, tiny_tokenizer):
    program = (
        "import sys, tools.count_tokens, tools.benchmarks.tokenize\n"
        "print([m for m in ('jax', 'flax', 'grain', 'torch', 'transformers') if m in sys.modules])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"


def test_help_tells_the_flags():
    outcome = run(TOOL, "--help")
    assert outcome.status == 0
    for flag in ("tokenizer", "text", "tokens", "add", "out", "workers", "skip_invalid", "dry_run"):
        assert f"--{flag}" in outcome.out or f"--[no]{flag}" in outcome.out
