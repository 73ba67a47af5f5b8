"""`benchmark second_look` runs, and its rows say what they should; who wins is not asserted."""

import json
from types import SimpleNamespace

import pytest
from commands import call

from tools.benchmarks import second_look


def test_both_halves_are_trained_alike(tiny_folder, tiny_text, monkeypatch, capsys):
    monkeypatch.setattr(second_look, "LENGTH", 32)
    monkeypatch.setattr(second_look, "DOCUMENTS", 5)
    monkeypatch.setattr(second_look, "HELD_OUT", 0.1)
    draws = {k: v for k, v in second_look.DRAWS.items() if k != "hard half, batches"}
    monkeypatch.setattr(second_look, "DRAWS", draws)
    stages, trained = [], second_look._trained

    def spy(config):
        stages.append(config)
        return trained(config)

    monkeypatch.setattr(second_look, "_trained", spy)
    text = f"{tiny_text}/en.txt,{tiny_text}/xx.txt"
    settings = {"model": str(tiny_folder()), "text": text, "steps": 6, "runs": 1, "dry_run": False}
    rows = second_look.measure(SimpleNamespace(**settings))
    assert [row["name"] for row in rows] == [
        "hard half, sequences: en", "hard half, sequences: xx",
    ]  # fmt: skip
    one, random, hard = stages
    assert (one.steps, random.steps, hard.steps) == (6, 3, 3)
    assert random.model == hard.model == one.out and random.optimizer == hard.optimizer
    assert (random.seed, random.batch_size) == (hard.seed, hard.batch_size)
    for row in rows:
        assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= row.keys()
        assert row["difference"] == pytest.approx(row["ours"] - row["peer"])
        assert 0 < row["ours"] < row["before"] + 1 and row["runs"] == 1
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    said = capsys.readouterr().out
    for name in ("round one", "random half", "hard half, sequences"):
        assert name in said
    assert json.dumps(rows)


def test_bad_input_is_one_sentence(tiny_folder, tiny_text):
    model, text = f"--model={tiny_folder()}", f"--text={tiny_text}/en.txt"
    verb = ("tools.benchmark", "second_look")
    assert "needs --model=FOLDER and --text" in call(*verb, model).sentence
    assert "must be at least 4" in call(*verb, model, text, "--steps=3").sentence
    outcome = call(*verb, model, text, "--dry_run")
    assert outcome.status == 0 and "100 steps more" in outcome.err
