"""`benchmark drift`: what a hook should hold decays, what is frozen does not."""

from types import SimpleNamespace

import numpy as np
import pytest
from commands import call

from tools.benchmarks import drift


def test_a_hook_lets_rows_decay(monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(drift, "STEPS", 10)
    monkeypatch.setattr(drift, "DECAYS", (0.0, 0.1))
    kept, decayed = drift.measure(SimpleNamespace(runs=1, dry_run=False))
    assert kept["ours"] == decayed["ours"] == 0.0 == kept["peer"]
    assert decayed["arithmetic"] == pytest.approx(100 * 10 * 2e-4 * 0.1, rel=1e-3)
    assert decayed["peer"] == pytest.approx(decayed["arithmetic"], rel=0.02)
    assert min(kept["moved"], decayed["moved"]) > 10 * decayed["peer"]
    assert "weight decay 0.1, seed 0" in capsys.readouterr().out


def test_both_train_new_rows_alike(monkeypatch):
    """Otherwise something else than the hook would be compared."""
    pytest.importorskip("torch")
    monkeypatch.setattr(drift, "STEPS", 10)
    begun = drift._weights(0)
    ours, peer = drift._ours(begun, 0.0, 0), drift._hooked(begun, 0.0, 0)
    for name in ours:
        np.testing.assert_allclose(ours[name], peer[name], atol=1e-5)


def test_a_dry_run_trains_nothing():
    assert "would train 18 times" in call("tools.benchmark", "drift", "--dry_run").err
