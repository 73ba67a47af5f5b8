"""tools.importance as a user runs it."""

import json

import numpy as np
import pytest
from commands import call, done, refused

from maxlite.surgery import scores

TOOL = "tools.importance"


@pytest.fixture
def desk(tiny_folder, tiny_text, tmp_path):
    """The command line that measures a tiny model on a little text."""
    model = tiny_folder(num_hidden_layers=2)
    where = (f"--model={model}", f"--text={tiny_text}/en.txt")
    return (*where, "--sequences=4", "--seq_len=32", f"--out={tmp_path}/scores.safetensors")


def test_scores_are_kept_and_shown(desk, tmp_path):
    page, told = tmp_path / "scores.html", tmp_path / "told.json"
    done(call(TOOL, *desk, "--criterion=taylor", f"--plot={page}", f"--json={told}"))
    found = scores.read(tmp_path / "scores.safetensors")
    assert found.criterion == "taylor" and set(found.arrays) == set(scores.KINDS)
    assert all(np.isfinite(array).all() for array in found.arrays.values())
    assert "<svg" in page.read_text("utf-8") and json.loads(told.read_text())


def test_a_dry_run_writes_nothing(desk, tmp_path):
    before = sorted(tmp_path.iterdir())
    done(call(TOOL, *desk, "--criterion=block_influence", "--dry_run"))
    assert sorted(tmp_path.iterdir()) == before


def test_what_cannot_be_is_refused(desk, tmp_path):
    assert "--model, --text, --out must be given" in refused(tmp_path, TOOL)
    assert "sequences" in refused(tmp_path, TOOL, *desk, "--sequences=100000")
    assert "budget" in refused(tmp_path, TOOL, *desk, "--criterion=learned")
    too_many = ("--criterion=learned", "--budget_layers=3")
    assert "3" in refused(tmp_path, TOOL, *desk, *too_many)
    assert "magic" in refused(tmp_path, TOOL, *desk, "--criterion=magic")
