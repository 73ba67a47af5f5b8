"""What a run tells, and what is left of it when the run goes back."""

import json
import math
import types

import jax
import pytest

from maxlite.training import metrics as metrics_lib
from maxlite.training.metrics import Metrics, cut_back

FIGURES = {"loss": 2.5, "learning_rate": 1e-4, "grad_norm": 0.75, "tokens": 60.0, "skipped": 0.0}


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(metrics_lib.time, "monotonic", lambda: now.seconds)
    return now


@pytest.fixture
def open_metrics(tmp_path, clock):
    """open_metrics(steps, start, flops): figures of 64 tokens a step, written to tmp_path."""
    opened = []

    def make(steps=100, start=0, flops=0.0):
        opened.append(Metrics(tmp_path, steps, start, 64, flops))
        return opened[-1]

    yield make
    for metrics in opened:
        metrics.close()


def lines(folder):
    text = (folder / "metrics.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_a_training_line(open_metrics, clock, tmp_path, capsys):
    metrics = open_metrics()
    clock.seconds += 5
    metrics.train(10, FIGURES)
    (entry,) = lines(tmp_path)
    assert entry.pop("memory_gib") > 0
    assert entry == {"step": 10, **FIGURES, "tokens_per_second": 128.0}
    said = capsys.readouterr().err
    for part in (
        "step 10/100 █░░░░░░░░░ ETA 0:00:45",
        "loss 2.5000",
        "lr 1.00e-04",
        "|g| 0.75",
        "128 tokens/s",
        "GiB",
    ):
        assert part in said, said
    assert "skipped" not in said and "MFU" not in said and said.count("\n") == 1


def test_speed_is_since_the_line_before_and_without_pauses(open_metrics, clock, tmp_path):
    metrics = open_metrics(start=40)
    clock.seconds += 1
    metrics.train(50, FIGURES)
    metrics.pause(100)
    clock.seconds += 102
    metrics.train(60, FIGURES)
    clock.seconds += 4
    metrics.train(70, FIGURES)
    assert [e["tokens_per_second"] for e in lines(tmp_path)] == [640.0, 320.0, 160.0]


def test_days_are_not_lost_from_the_eta(open_metrics, clock, capsys):
    metrics = open_metrics(steps=101)
    clock.seconds += 3600
    metrics.train(1, FIGURES)
    assert "ETA 4 days, 4:00:00" in capsys.readouterr().err


def test_skipped_steps_are_said(open_metrics, clock, capsys):
    metrics = open_metrics()
    clock.seconds += 1
    metrics.train(1, FIGURES | {"skipped": 3.0})
    assert "skipped 3" in capsys.readouterr().err


def test_mfu_is_flops_over_the_peak(open_metrics, clock, tmp_path, monkeypatch, capsys):
    device = types.SimpleNamespace(device_kind="NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert metrics_lib.peak_flops() == 8 * 989e12
    metrics = open_metrics(flops=989e12 / 64)
    clock.seconds += 1
    metrics.train(2, FIGURES)  # two steps of 64 tokens a second
    assert lines(tmp_path)[0]["mfu"] == pytest.approx(2 / 8)
    assert "MFU 25.0%" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "peak"), [("TPU v5 lite", 197e12), ("TPU v5", 459e12), ("TPU v5p", 459e12), ("cpu", 0)]
)
def test_peaks_by_the_longest_name(kind, peak, monkeypatch):
    device = types.SimpleNamespace(device_kind=kind)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert metrics_lib.peak_flops() == 8 * peak


def test_what_is_no_number_is_null(open_metrics, clock, tmp_path):
    metrics = open_metrics()
    clock.seconds += 1
    metrics.train(1, FIGURES | {"loss": math.nan, "grad_norm": math.inf})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert lines(tmp_path)[0]["loss"] is None and lines(tmp_path)[0]["grad_norm"] is None


def test_an_evaluation_line_has_no_bare_loss(open_metrics, tmp_path):
    metrics = open_metrics()
    values = {"eval/ko/loss": 3.0, "eval/ko/bits_per_byte": 1.25, "sample": "옛날 옛적에\u2028\x85"}
    metrics.evaluation(20, values)
    assert lines_of_bytes(tmp_path) == [{"step": 20, **values}]


def lines_of_bytes(folder):
    """By line feeds alone; `str.splitlines` also ends lines at some characters of a text."""
    return [json.loads(x) for x in (folder / "metrics.jsonl").read_bytes().splitlines()]


def test_tensorboard_files_can_be_read_back(clock, tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    metrics = Metrics(tmp_path, 100, 0, 64, 0.0)
    clock.seconds += 1
    metrics.train(10, FIGURES)
    metrics.evaluation(10, {"eval/ko/loss": 3.0, "sample": "text"})
    metrics.close()
    found = {}
    for file in (tmp_path / "tensorboard").iterdir():
        content, at = file.read_bytes(), 0
        while at < len(content):  # a TFRecord: length, its checksum, the event, its checksum
            length = int.from_bytes(content[at : at + 8], "little")
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                found[value.tag] = (event.step, value.simple_value)
    assert found["train/loss"] == (10, 2.5)
    assert found["train/tokens_per_second"] == (10, 640.0)
    assert found["eval/ko/loss"] == (10, 3.0)
    assert any(tag.startswith("sample") for tag in found)


# --- going back ----------------------------------------------------------------------------------

HISTORY = [
    {"step": 0, "eval/a/loss": 5.0, "sample": "한국어 \u2028 \x85 text"},
    {"step": 10, "loss": 4.0},
    {"step": 20, "loss": None},
    {"step": 20, "eval/a/loss": 3.0},
    {"step": 30, "loss": 2.0},
]


def write(folder, tail=b"", history=HISTORY):
    file = folder / "metrics.jsonl"
    text = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in history)
    file.write_bytes(text.encode() + tail)
    return file


@pytest.mark.parametrize(
    ("step", "left", "evaluated"),
    [(0, 1, {0}), (10, 2, {0}), (15, 2, {0}), (20, 4, {0, 20}), (30, 5, {0, 20}), (99, 5, {0, 20})],
)
def test_nothing_beyond_the_step_is_left(step, left, evaluated, tmp_path):
    file = write(tmp_path)
    before = file.read_bytes()
    assert cut_back(file, step, write=False) == evaluated
    assert file.read_bytes() == before
    assert cut_back(file, step) == evaluated
    assert lines_of_bytes(tmp_path) == HISTORY[:left]
    assert before.startswith(file.read_bytes())
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


TORN = '{"step": 30, "sample": "한'.encode()


@pytest.mark.parametrize("tail", [TORN, TORN[:-1], TORN[:1], b"\0\0\0\0", b'{"step": 3'])
def test_a_torn_line_is_dropped(tail, tmp_path):
    file = write(tmp_path, tail)
    assert cut_back(file, 99) == {0, 20}
    assert lines_of_bytes(tmp_path) == HISTORY
    with file.open("a") as f:  # what follows is a line of its own
        f.write('{"step": 40}\n')
    assert lines_of_bytes(tmp_path)[-1] == {"step": 40}


def test_a_last_line_without_its_end_is_whole(tmp_path):
    file = write(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    cut_back(file, 99)
    assert lines_of_bytes(tmp_path) == HISTORY


def test_no_file_yet(tmp_path):
    assert cut_back(tmp_path / "metrics.jsonl", 10) == set()
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_appends(open_metrics, clock, tmp_path):
    file = write(tmp_path)
    cut_back(file, 20)
    metrics = open_metrics(start=20)
    clock.seconds += 1
    metrics.train(30, FIGURES)
    assert [entry["step"] for entry in lines_of_bytes(tmp_path)] == [0, 10, 20, 20, 30]
