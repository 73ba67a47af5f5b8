"""New rows beside old ones: the same figures as numpy has of the whole tables."""

import json

import numpy as np
import pytest
from extended import table

from maxlite.hf.folder import open_folder
from maxlite.report import rows


@pytest.fixture(scope="module")
def folders(tmp_path_factory, make_folder):
    """begun/ and after/: tables of 400 rows, of which the last 150 are new; tied/; old/."""
    here = tmp_path_factory.mktemp("rows")
    note = json.dumps({"format": 1, "vocabulary": {"base_rows": 250, "rows": 400}})
    for seed, name in enumerate(("begun", "after", "tied")):
        make_folder(here / name, seed=seed, tie_word_embeddings=name == "tied")
        (here / name / "maxlite.json").write_text(note)
    make_folder(here / "old")
    return here


@pytest.fixture(scope="module")
def told(folders):
    return rows.figures(open_folder(folders / "after"), open_folder(folders / "begun"))


@pytest.mark.parametrize(
    ("name", "tensor"), [("input", "model.embed_tokens.weight"), ("output", "lm_head.weight")]
)
def test_norms(folders, told, name, tensor):
    of = told[name]
    after, begun = (table(folders / folder, tensor) for folder in ("after", "begun"))
    norms = {"old": after[:250], "begun": begun[250:], "new": after[250:]}
    assert of["counts"] == {"old": 250, "begun": 150, "new": 150}
    for kind, each in norms.items():
        lengths = np.sqrt((each.astype(np.float64) ** 2).sum(1))
        low, middle, high = np.percentile(lengths, [5, 50, 95])
        expected = {"mean": lengths.mean(), "median": middle, "low": low, "high": high}
        assert of["norms"][kind] == pytest.approx(expected, rel=1e-3)
        assert sum(of["histogram"][kind]) == pytest.approx(1, abs=1e-3)
        within = (lengths >= of["bins"][8]) & (lengths < of["bins"][24])
        shown = sum(of["histogram"][kind][8:24])
        assert shown == pytest.approx(within.mean(), abs=0.03)


def test_the_plane_is_of_the_principal_axes(folders, told):
    after = table(folders / "after", "model.embed_tokens.weight").astype(np.float64)
    centred = after - after.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    shares = values[::-1] / values.sum()
    assert told["input"]["explained"] == pytest.approx(shares[:2], rel=1e-3)
    plane = np.array(told["input"]["plane"]["old"] + told["input"]["plane"]["new"])
    expected = centred @ vectors[:, :-3:-1]
    signs = np.sign((plane * expected).sum(0))
    np.testing.assert_allclose(plane, expected * signs, atol=1e-3)


def test_the_nearest_old_row(folders, told):
    after = table(folders / "after", "lm_head.weight").astype(np.float64)
    unit = after / np.linalg.norm(after, axis=1, keepdims=True)
    nearest = (unit[250:] @ unit[:250].T).max(1).mean()
    assert told["output"]["neighbours"] == pytest.approx(nearest, rel=1e-3)


def test_large_tables_are_read_in_blocks_and_drawn_evenly(folders, told, monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", 1000)
    monkeypatch.setattr(rows, "DRAWN", 50)
    some = rows.figures(open_folder(folders / "after"), open_folder(folders / "begun"))
    assert some["input"]["norms"] == told["input"]["norms"]
    assert {kind: len(points) for kind, points in some["input"]["plane"].items()} == {
        "old": 50, "begun": 50, "new": 50,
    }  # fmt: skip


def test_what_is_not_known_is_left_out(folders):
    alone = rows.figures(open_folder(folders / "after"), None)
    assert list(alone["input"]["counts"]) == ["old", "new"]
    assert list(rows.figures(open_folder(folders / "tied"), None)) == ["input"]
    assert rows.figures(open_folder(folders / "old"), None) == {}
