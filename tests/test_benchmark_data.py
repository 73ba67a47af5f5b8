"""`benchmark data` runs, and its rows say what they should. Times are not asserted."""

import importlib.util
import json
from types import SimpleNamespace

import pytest
from commands import call

from maxlite.tokenizer.workers import cores
from tools.benchmarks import data


def test_reading_beside_a_step(tiny_text, tiny_tokenizer, tmp_path, monkeypatch, capsys):
    shape = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48}
    monkeypatch.setattr(data, "SHAPE", data.SHAPE | shape | {"num_hidden_layers": 1})
    monkeypatch.setattr(data, "LENGTH", 16)
    settings = {"text": f"{tiny_text}/*.txt,{tiny_text}/en.jsonl", "runs": 1, "dry_run": False}
    rows = data.measure(SimpleNamespace(**settings, tokenizer=str(tiny_tokenizer)))
    read, *made = [row for row in rows if not row["name"].startswith("cleaning: ")]
    cleaning = [row for row in rows if row["name"].startswith("cleaning: ")]
    assert read["name"] == "reading 8 x 16" and read["unit"] == "sequences/s"
    assert read["ours"] == pytest.approx(data.SEQUENCES / read["seconds"])
    assert read["ratio"] == pytest.approx(read["ours"] / read["peer"])
    size = sum((tiny_text / n).stat().st_size for n in ("en.txt", "xx.txt", "en.jsonl")) / 1e6
    assert [row["name"].split()[1] for row in made] == [str(1 << i) for i in range(len(made))]
    assert 1 << (len(made) - 1) <= cores() < 1 << len(made)
    said = capsys.readouterr().out
    for row in rows:
        assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= row.keys()
        assert row["runs"] == 1 and row["peak_mib"] > 10
        assert row["name"].removeprefix("cleaning: ") in said
    for row in made:
        assert row["unit"] == "MB/s" and row["ours"] == pytest.approx(size / row["seconds"])
    if importlib.util.find_spec("datatrove"):
        assert [row["name"][10:] for row in cleaning][:2] == ["markup", "repair"]
        assert all(row["ours"] > 0 and row["documents_per_second"] > 0 for row in cleaning)
    assert json.dumps(rows)


def test_bad_input_is_one_sentence(tiny_text, tiny_tokenizer, tmp_path):
    text, tokenizer = f"--text={tiny_text}/*.txt", f"--tokenizer={tiny_tokenizer}"
    for arguments, words in (
        ([text], "--text and --tokenizer must be given"),
        ([text, "--tokenizer=/nowhere"], "no tokenizer at /nowhere"),
        ([f"--text={tmp_path}/*.txt", tokenizer], "no file matches"),
    ):
        assert words in call("tools.benchmark", "data", *arguments).sentence
    (tmp_path / "bad.txt").write_bytes(b"one\n\xff\n")
    bad = f"--text={tmp_path}/bad.txt"
    sentence = call("tools.benchmark", "data", bad, tokenizer, "--runs=1").sentence
    assert "bad.txt, line 2: not valid UTF-8" in sentence
    outcome = call("tools.benchmark", "data", text, tokenizer, "--dry_run")
    assert outcome.status == 0 and "would tokenise" in outcome.err
