"""`benchmark startup` starts real processes, on a small model. Times are not asserted."""

import dataclasses
import importlib.util
import math
from types import SimpleNamespace

import pytest
from commands import call

from maxlite.state.claims import claim
from tools.benchmarks import checkpointing, startup


def test_a_start_is_cut_into_its_parts(monkeypatch, capsys, tmp_path):
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 600}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    monkeypatch.setattr(startup, "SHAPE", dataclasses.replace(startup.SHAPE, **small))
    monkeypatch.setattr(startup, "LINES", 60)
    monkeypatch.setattr(startup.tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    first, again, *helps = startup.measure(SimpleNamespace(runs=1, dry_run=False))
    torch = importlib.util.find_spec("torch") is not None
    for row in (first, again):
        assert row["unit"] == "seconds" and row["runs"] == 1 and row["peak_mib"] > 100
        assert set(row["parts"]) == set(startup.PARTS)
        assert sum(row["parts"].values()) == pytest.approx(row["ours"])
        assert all(seconds >= 0 for seconds in row["parts"].values())
        if torch:
            assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])
            assert {"import", "text", "step"} <= set(row["peer_parts"]) <= set(startup.PARTS)
        else:
            assert row["peer"] is None and row["ratio"] is None
    assert first["name"] in capsys.readouterr().out
    assert [row["name"] for row in helps] == list(startup.HELP)
    assert all(row["ours"] > 0 and row["peer"] is None for row in helps)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_starts_nothing():
    outcome = call("tools.benchmark", "startup", "--dry_run")
    assert outcome.status == 0 and "would start training" in outcome.err


def test_a_save_is_timed_beside_a_step(monkeypatch, capsys, tmp_path):
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 600}
    small |= {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8}
    arch = dataclasses.replace(checkpointing.ARCH, **small)
    monkeypatch.setattr(checkpointing, "ARCH", arch)
    (row,) = checkpointing.measure(SimpleNamespace(runs=2, dir=str(tmp_path), dry_run=False))
    assert row["ratio"] == pytest.approx(row["ours"] / row["peer"]) and row["runs"] == 2
    assert row["written"] >= row["ours"] > 0 and row["while_writing"] > 0
    weights = sum(math.prod(shape) for shape in claim("everything", arch).whole.values())
    assert row["checkpoint_mib"] == pytest.approx(12 * weights / 2**20, rel=1e-3)
    assert row["name"] in capsys.readouterr().out and not list(tmp_path.iterdir())
