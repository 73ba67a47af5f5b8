"""The benchmarks run, and what they say of memory holds. Times are not asserted."""

import dataclasses
import importlib.util
import json
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import call, run, snapshot, start, strike

from maxlite.hf.folder import open_folder
from maxlite.tokenizer import load_tokenizer
from tools.benchmarks import freeze, importing, surgery, tokenize

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


def bounded(figures, constant: int = CONSTANT_MIB) -> None:
    total, largest = figures["device_mib"], figures["largest_mib"]
    assert largest + constant < total, "a copy of everything would not be noticed"
    assert figures["peak_mib"] >= total, "the arrays themselves were not seen"
    assert figures["excess_mib"] <= largest + constant


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


# To import is to place and then to save, and what the one has freed does not serve the other.
@pytest.mark.parametrize(
    ("what", "itemsize", "constant"),
    [("widened", 4, CONSTANT_MIB), ("imported", 2, CONSTANT_MIB + 24)],
)
def test_the_start_of_training_and_import_hf_keep_to_it_too(what, itemsize, constant, model):
    outcome = run("tools.benchmarks.load", what, model)
    assert outcome.status == 0, outcome.err
    figures = json.loads(outcome.out)
    assert figures["largest_mib"] == pytest.approx(16 * 2048 * 512 * itemsize / 2**20)
    bounded(figures, constant)
    assert [path.name for path in model.parent.iterdir()] == [model.name]


def test_random_weights_are_as_large_as_asked_and_deleted(tmp_path, monkeypatch, capsys):
    """With canned figures in place of the processes that load."""
    seconds = {"ours": iter([5.0, 5.0, 1.0, 1.0, 2.0, 2.0]), "transformers": iter([4.0, 8.0, 4.0])}
    peaks = iter(range(9))

    def loaded(what, folder, variables, processes=1):
        assert sum(tensor.nbytes for tensor in open_folder(folder).tensors.values()) >= 10**7
        rest = ("devices", "excess_mib", "device_mib", "largest_mib", "mapped_seconds")
        return {"seconds": next(seconds[what]), "peak_mib": next(peaks)} | dict.fromkeys(rest, 1)

    monkeypatch.setattr(importing, "_run", loaded)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    settings = SimpleNamespace(
        model="",
        size_gb=0.01,
        dir=str(tmp_path),
        runs=3,
        against="transformers",
        processes=1,
        dry_run=False,
    )
    one, eight = importing.measure(settings)
    assert (one["ours"], one["peer"], one["ratio"], one["runs"]) == (2.0, 4.0, 0.5, 3)
    assert (one["peak_mib"], eight["peak_mib"], one["peer_peak_mib"]) == (6, 7, 8)
    assert "0.50" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


# --- surgery -------------------------------------------------------------------------------------

COLUMNS = {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib", "peer_synced", "measured"}


def test_surgery_beside_cp(tmp_path):
    figures, place = tmp_path / "surgery.json", tmp_path / "here"
    place.mkdir()
    outcome = run(
        "tools.benchmark", "surgery", "--size_gb=0.02", "--runs=1", f"--dir={place}",
        f"--json={figures}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    rows = json.loads(figures.read_text())
    sizes = []
    for row, kind in zip(rows, ("dus", "llama_pro", "extend_vocab"), strict=True):
        assert row.keys() == COLUMNS
        name = re.fullmatch(kind + r" (\d\.\d\d) -> (\d\.\d\d) GB", row["name"])
        assert name and row["name"] in outcome.out
        sizes.append((float(name[1]), float(name[2])))
        assert row["unit"] == "seconds" and row["runs"] == 1
        assert row["ours"] > 0 and row["peer"] > 0 and row["peer_synced"] > 0
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
        assert 5 < row["peak_mib"] < 100
    assert {before for before, _ in sizes} == {0.02} and sizes[0][1] == 0.03
    assert not list(place.iterdir())


def test_surgery_of_a_given_model_leaves_it_alone(model, tmp_path, capsys):
    before = snapshot(model)
    settings = {"model": str(model), "size_gb": 3.0, "dir": str(tmp_path)}
    settings |= {"runs": 1, "dry_run": False}
    rows = surgery.measure(SimpleNamespace(**settings))
    assert [row["name"] for row in rows] == ["dus 0.12 -> 0.18 GB", "llama_pro 0.12 -> 0.15 GB"]
    said = capsys.readouterr().out
    assert all(row["name"] in said for row in rows)
    assert snapshot(model) == before and not list(tmp_path.iterdir())
    assert surgery.measure(SimpleNamespace(**settings | {"dry_run": True})) is None


def test_a_terminated_benchmark_leaves_nothing(tmp_path):
    """Nor does the tool that it was watching go on."""
    process = start("tools.benchmark", "surgery", "--size_gb=0.3", f"--dir={tmp_path}")
    (outcome,) = strike(signal.SIGTERM, process, lambda: any(tmp_path.glob("*/out.tmp-*")))
    assert outcome.status == 143 and outcome.err.endswith("maxlite: terminated\n")
    assert not list(tmp_path.iterdir())


def test_a_benchmark_asks_for_room_first(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    sentence = call("tools.benchmark", "surgery", "--size_gb=2", f"--dir={tmp_path}").sentence
    assert "needs 8.0 GB" in sentence and "1.0 GB free" in sentence and "--size_gb" in sentence
    assert not list(tmp_path.iterdir())


def test_freezing_is_measured_beside_a_hook(monkeypatch, capsys):
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    monkeypatch.setattr(freeze, "ARCH", dataclasses.replace(freeze.ARCH, **small))
    monkeypatch.setattr(freeze, "SETS", ("everything", "new_output_rows"))
    monkeypatch.setattr(freeze, "LENGTH", 16)
    again = freeze.measure(SimpleNamespace(runs=1, remat="full", dry_run=False))
    full, part = freeze.measure(SimpleNamespace(runs=1, remat="none", dry_run=False))
    assert again[0]["ideal"] == 1 and again[1]["ideal"] < part["ideal"]
    assert (full["of_full"], full["ideal"]) == (1, 1) and 1 / 3 < part["ideal"] < 0.5
    assert part["ratio"] == pytest.approx(part["ours"] / part["peer"])
    assert part["peak_mib"] < part["peer_peak_mib"]
    assert part["checkpoint_mib"] == 12 * 200 * 32 / 2**20
    assert "new_output_rows" in capsys.readouterr().out
    assert freeze.measure(SimpleNamespace(runs=1, dry_run=True)) is None


# --- tokenize ------------------------------------------------------------------------------------


def test_counting_beside_the_bare_encoders(tiny_text, tiny_tokenizer, tmp_path):
    figures = tmp_path / "tokenize.json"
    text = tiny_text / "en.txt"
    outcome = run(
        "tools.benchmark", "tokenize", f"--text={text}", f"--tokenizer={tiny_tokenizer}",
        "--runs=2", f"--json={figures}",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    rows = json.loads(figures.read_text())
    assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= rows[0].keys()
    counted = [row for row in rows if row["unit"] == "MB/s"]
    names = [f"en.txt by {name}" for name in ("tokenizer.json", "tokenizer.model")]
    assert [row["name"] for row in counted] == names
    tokens = sum(map(len, load_tokenizer(tiny_tokenizer).encode(text.read_text().splitlines())))
    for row in counted:
        assert row["name"] in outcome.out and row["runs"] == 2 and row["peak_mib"] > 10
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
        assert row["ours"] == pytest.approx(text.stat().st_size / 1e6 / row["seconds"])
        assert row["tokens"] == row["peer_tokens"] == tokens
        assert row["cpu_seconds"] >= 0 and row["peer_cpu_seconds"] >= 0


def test_reachability_is_timed_where_it_is_known(tiny_text, tiny_tokenizer, monkeypatch, capsys):
    """With canned figures in place of the processes that encode."""

    def told(what, *arguments):
        return {
            "ours": {"seconds": 1.0, "peak_mib": 3, "tokens": 5, "cpu_seconds": 7},
            "bare": {"seconds": 2.0, "peak_mib": 4, "tokens": 5, "cpu_seconds": 8},
            "unreachable": {"seconds": 0.5, "peak_mib": 2, "pieces": 400, "unreachable": 6},
        }[what]

    monkeypatch.setattr(tokenize, "_run", told)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    one = str(tiny_tokenizer / "tokenizer.model")
    settings = {"text": f"{tiny_text}/en.txt", "tokenizer": one, "runs": 3}
    counted, reached = tokenize.measure(SimpleNamespace(**settings, dry_run=False))
    assert counted["ratio"] == 2 and counted["runs"] == 3
    assert (counted["cpu_seconds"], counted["peer_cpu_seconds"]) == (7, 8)
    assert (reached["ours"], reached["peer"], reached["unit"]) == (800, None, "pieces/s")
    assert "6 of 400 unreachable in tokenizer.model" in capsys.readouterr().out
    assert tokenize.measure(SimpleNamespace(**settings, dry_run=True)) is None


def test_tokenize_refuses(tiny_text, tiny_tokenizer, tmp_path):
    text, tokenizer = f"--text={tiny_text}/en.txt", f"--tokenizer={tiny_tokenizer}"
    for arguments, words in (
        ([text], "--text and --tokenizer must be given"),
        ([text, "--tokenizer=/nowhere"], "no tokenizer at /nowhere"),
        ([f"--text={tiny_text}/*.txt", tokenizer], "must name one .txt file"),
        ([f"--text={tiny_text}/en.jsonl", tokenizer], "must name one .txt file"),
        ([f"--text={tiny_text}/none.txt", tokenizer], "no file matches"),
    ):
        assert words in call("tools.benchmark", "tokenize", *arguments).sentence
    (tmp_path / "bad.txt").write_bytes(b"one\n\xff\n")
    bad = f"--text={tmp_path}/bad.txt"
    sentence = call("tools.benchmark", "tokenize", bad, tokenizer, "--runs=1").sentence
    assert "bad.txt, line 2: not valid UTF-8" in sentence


def test_bad_input_is_one_sentence(tmp_path):
    assert "one of: attention, checkpoint, data" in call("tools.benchmark").sentence
    assert "one of: attention, checkpoint, data" in call("tools.benchmark", "exporting").sentence
    nowhere = tmp_path / "nowhere"
    assert str(nowhere) in call("tools.benchmark", "import", f"--model={nowhere}").sentence
    assert str(nowhere) in call("tools.benchmark", "import", f"--dir={nowhere}").sentence
    assert str(nowhere) in call("tools.benchmark", "surgery", f"--model={nowhere}").sentence
    assert str(nowhere) in call("tools.benchmark", "surgery", f"--dir={nowhere}").sentence
    for verb in ("import", "surgery"):
        assert call("tools.benchmark", verb, "--dry_run").status == 0
    assert not list(tmp_path.iterdir())


def test_attention_beside_the_dense_one(tmp_path):
    figures = tmp_path / "attention.json"
    flags = ("--shapes=2x48x4x2x16", "--mean=12", "--runs=1", f"--json={figures}")
    outcome = run("tools.benchmark", "attention", *flags)
    assert outcome.status == 0, outcome.err
    rows = json.loads(figures.read_text())
    names = ["chunked to dense"]
    if importlib.util.find_spec("torch"):
        names += ["dense to torch sdpa", "chunked to torch sdpa"]
    assert [row["name"] for row in rows] == [f"{name} 2x48x4x2x16" for name in names]
    for row in rows:
        assert {"name", "ours", "peer", "ratio", "unit", "runs", "peak_mib"} <= row.keys()
        assert row["ours"] > 0 and row["unit"] == "seconds" and row["peak_mib"] > 0
        assert row["apart"] < 1e-5  # documents are kept apart on every side
        assert row["name"] in outcome.out
    assert outcome.err.count("left out: attention 'cudnn' cannot be used") == 1


@pytest.mark.parametrize(
    ("shapes", "said"), [("4x64", "five numbers"), ("1x8x3x2x8", "no multiple of key-value heads")]
)
def test_attention_refuses_shapes_that_cannot_be(shapes, said):
    outcome = run("tools.benchmark", "attention", f"--shapes={shapes}")
    assert outcome.status == 1 and said in outcome.sentence
