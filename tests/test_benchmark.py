"""The benchmarks run, and what they say of memory holds. Times are not asserted."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import call, run

from maxlite.hf.folder import open_folder
from tools.benchmarks import importing

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="memory is read from /proc"
)

# Compiled programs, thread pools and what the allocator keeps: it does not grow with the model.
CONSTANT_MIB = 40


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_folder) -> Path:
    """120 MB in bfloat16, 100 of them in three arrays of sixteen layers each."""
    return make_folder(
        tmp_path_factory.mktemp("benchmark") / "model",
        dtype="bfloat16",
        shards=3,
        tokenizer="",
        vocab_size=400,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=16,
        num_attention_heads=8,
        num_key_value_heads=2,
    )


def bounded(figures) -> None:
    total, largest = figures["device_mib"], figures["largest_mib"]
    assert largest + CONSTANT_MIB < total, "a copy of everything would not be noticed"
    assert figures["peak_mib"] >= total, "the arrays themselves were not seen"
    assert figures["excess_mib"] <= largest + CONSTANT_MIB


def test_import_says_what_a_folder_took(model, tmp_path):
    figures = tmp_path / "import.json"
    outcome = run("tools.benchmark", "import", f"--model={model}", "--runs=1", f"--json={figures}")
    assert outcome.status == 0, outcome.err
    one, eight = json.loads(figures.read_text())
    for row in (one, eight):
        assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= row.keys()
        assert row["ours"] > 0 and row["unit"] == "seconds" and row["runs"] == 1
        assert row["name"] in outcome.out
        if importlib.util.find_spec("torch"):
            assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
        else:
            assert row["peer"] is None and row["ratio"] is None and "torch" in outcome.err
        bounded(row)
    assert one["largest_mib"] == pytest.approx(8 * eight["largest_mib"])
    assert one["largest_mib"] == pytest.approx(16 * 2048 * 512 * 2 / 2**20)


@pytest.mark.parametrize(("what", "itemsize"), [("widened", 4), ("imported", 2)])
def test_the_start_of_training_and_import_hf_keep_to_it_too(what, itemsize, model):
    outcome = run("tools.benchmarks.load", what, model)
    assert outcome.status == 0, outcome.err
    figures = json.loads(outcome.out)
    assert figures["largest_mib"] == pytest.approx(16 * 2048 * 512 * itemsize / 2**20)
    bounded(figures)
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_random_weights_are_as_large_as_asked_and_deleted(tmp_path, monkeypatch, capsys):
    """With canned figures in place of the processes that load."""
    seconds = {"ours": iter([5.0, 5.0, 1.0, 1.0, 2.0, 2.0]), "transformers": iter([4.0, 8.0, 4.0])}
    peaks = iter(range(9))

    def loaded(what, folder, variables):
        assert sum(tensor.nbytes for tensor in open_folder(folder).tensors.values()) >= 10**7
        rest = ("devices", "excess_mib", "device_mib", "largest_mib", "mapped_seconds")
        return {"seconds": next(seconds[what]), "peak_mib": next(peaks)} | dict.fromkeys(rest, 1)

    monkeypatch.setattr(importing, "_run", loaded)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    settings = SimpleNamespace(
        model="", size_gb=0.01, dir=str(tmp_path), runs=3, against="transformers", dry_run=False
    )
    one, eight = importing.measure(settings)
    assert (one["ours"], one["peer"], one["ratio"], one["runs"]) == (2.0, 4.0, 0.5, 3)
    assert (one["peak_mib"], eight["peak_mib"], one["peer_peak_mib"]) == (6, 7, 8)
    assert "0.50" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_bad_input_is_one_sentence(tmp_path):
    assert "one of: import" in call("tools.benchmark").sentence
    assert "one of: import" in call("tools.benchmark", "exporting").sentence
    nowhere = tmp_path / "nowhere"
    assert str(nowhere) in call("tools.benchmark", "import", f"--model={nowhere}").sentence
    assert str(nowhere) in call("tools.benchmark", "import", f"--dir={nowhere}").sentence
    assert call("tools.benchmark", "import", "--dry_run").status == 0
    assert not list(tmp_path.iterdir())
