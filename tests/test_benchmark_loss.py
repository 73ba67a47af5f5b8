"""`benchmark loss` runs, and what it says of memory holds. Times are not asserted."""

import importlib.util
from types import SimpleNamespace

import pytest

from maxlite.model import loss as loss_lib
from tools.benchmarks import loss


def test_the_loss_is_measured_beside_the_plain_one(monkeypatch, capsys):
    monkeypatch.setattr(loss, "TOKENS", 512)
    monkeypatch.setattr(loss, "WIDTH", 16)
    monkeypatch.setattr(loss, "SIZES", {"all": ((900,), 0), "new": ((800, 100), 1)})
    monkeypatch.setattr(loss_lib, "ENOUGH", 128)
    monkeypatch.setattr(loss_lib, "CHUNK", 1)
    rows = loss.measure(SimpleNamespace(runs=1, dry_run=False))
    peers = ["plain", *(["torch"] if importlib.util.find_spec("torch") else [])]
    assert [row["name"] for row in rows] == [
        f"{n}, {peer}" for n in ("all", "new") for peer in peers
    ]
    for row in rows:
        assert row["ratio"] == pytest.approx(row["ours"] / row["peer"]) and row["ours"] > 0
        assert (row["unit"], row["runs"], row["chunks"]) == ("seconds", 1, 4)
        assert row["name"] in capsys.readouterr().out or row is not rows[0]
    scores = 4 * 512 * 900 / 2**20
    for row in (r for r in rows if r["peer_peak_mib"]):
        assert row["peer_peak_mib"] > scores > row["peak_mib"]
    assert loss.measure(SimpleNamespace(runs=1, dry_run=True)) is None


def test_the_peers_compute_the_same():
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 6, 4), np.float32)
    tables = [rng.standard_normal((n, 4), np.float32) for n in (5, 3)]
    targets = rng.integers(0, 8, (1, 6)).astype(np.int32)
    ours, plain = (f(x, tables, targets) for f in (loss._ours, loss._scores))
    assert float(ours) == pytest.approx(float(plain), rel=1e-6)
