"""Runs side by side: the figures are the runs' own, and all of them are where one looks."""

import json

import numpy as np
import pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from past_runs import past_run

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.model.flops import flops_per_token
from maxlite.report.comparison import comparison_table, correlations, differing, page
from maxlite.report.runs import figures
from maxlite.state.claims import claim


@pytest.fixture
def runs(tmp_path):
    """Three finished runs of which the deepest is best."""
    shapes = ((2, 32, 2.5), (4, 24, 2.2), (6, 16, 2.1))
    return [
        past_run(tmp_path / f"d{depth}", depth, width, bits=bits, rate=depth / 1000)
        for depth, width, bits in shapes
    ]


def test_the_figures_are_the_runs_own(runs):
    found = figures(list(map(str, runs)))[0]
    arch = Architecture(
        vocab_size=50, hidden_size=32, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2,
    )  # fmt: skip
    tables = 2 * 50 * 32
    layer = 4 * 32 * 32 + 3 * 32 * 96 + 2 * 32
    assert found["parameters"] == tables + 2 * layer + 32
    assert found["table_share"] == tables / found["parameters"]
    assert found["flops_per_token"] == flops_per_token(arch, 8)
    assert found["tokens"] == 20 * 8 * 8 and found["flops"] == found["tokens"] * flops_per_token(
        arch, 8
    )
    assert (found["depth"], found["width"], found["expansion"]) == (2, 32, 3.0)
    assert found["loss"] == 4.0 and found["tokens_per_second"] == 1500  # without the first line
    assert found["evaluation"] == {"korean": {"step": 20, "loss": 5.0, "bits_per_byte": 2.5}}
    assert found["curves"]["korean"] == [[10, 3.5], [20, 2.5]]
    assert found["curves"]["loss"][0] == [5, 5.5] and len(found["curves"]["loss"]) == 4


def test_frozen_weights_cost_less(tmp_path):
    arch = Architecture(
        vocab_size=50, hidden_size=16, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, base_rows=40,
    )  # fmt: skip
    claims = claim("new_output_rows", arch)
    rests = {"origin": "x", "step": -1, "identity": {}, "steps": []}
    folder = past_run(tmp_path / "run", base=rests, trained=claims.trained)
    (found,) = figures([str(folder)])
    assert found["flops_per_token"] == flops_per_token(arch, 8, claims.frozen)
    assert found["flops_per_token"] < flops_per_token(arch, 8)


def test_the_table(runs):
    lines = comparison_table(figures(list(map(str, runs)))).splitlines()
    assert lines[0].split("  ")[0] == "run" and "bits/byte korean" in lines[0]
    assert lines[1].split() == [
        "d2", "2", "32", "3.00", "29,984", "10.67%", "172k", "20", "4.0000", "2.5000", "1.5k",
    ]  # fmt: skip
    assert lines[4] == (
        "Spearman correlation with bits per byte of korean: depth -1.00, width +1.00, "
        "parameters +0.50, FLOPs a token +0.50"
    )
    assert len(lines) == 5


def test_the_page_has_all_of_it_and_gets_nothing_from_elsewhere(runs):
    found = figures(list(map(str, runs)))
    found[0]["name"] = "<script>"
    read = pages.read(page(found))
    assert [h.text for h in read.all("h2")] == [
        "Summary", "The runs", "Loss and bits per byte", "By size", "What is different",
    ]  # fmt: skip
    titles = [svg.attributes["aria-label"] for svg in read.all("svg")]
    assert titles[:2] == ["loss a token of training by step", "bits per byte of korean by step"]
    assert "bits per byte of korean by depth" in titles
    assert "bits per byte of korean by expansion" not in titles  # which is the same in all
    differ = read.all("table")[-1].text
    assert "optimizer.learning_rate" in differ and "0.004" in differ and "steps" not in differ
    assert read.all("dd", class_="value")[0].text == "2.1000"


def test_what_a_reader_must_know_is_said(runs, tmp_path):
    short = past_run(tmp_path / "short", steps=15, status="stopped", order="another")
    found = figures([*map(str, runs), str(short)])
    told = comparison_table(found)
    assert "short is stopped at step 15 of 20" in told
    assert "short: korean was last scored at step 10 of 15" in told
    assert "do not read the same text in the same order" in told
    assert "stopped at step 15" in pages.read(page(found)).text


def test_runs_without_evaluation_and_many_runs_are_compared_too(tmp_path):
    bare = figures([str(past_run(tmp_path / "bare", bits=None))])
    assert correlations(bare) == {} and "4.0000" in comparison_table(bare)
    assert "By size" not in pages.read(page(bare)).text
    many = [str(past_run(tmp_path / f"r{i}", 1 + i, bits=2 + i / 10)) for i in range(14)]
    assert "first 12 of 14" in pages.read(page(figures(many))).text


def test_settings_that_differ_are_all_that_do(runs):
    found = differing(figures(list(map(str, runs))))
    assert found["optimizer.learning_rate"] == [0.002, 0.004, 0.006]
    assert all(key.startswith(("architecture.", "optimizer.learning_rate")) for key in found)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=3, max_size=9))
@settings(max_examples=60, deadline=None)
def test_correlations_are_spearmans(pairs):
    from scipy.stats import spearmanr

    runs = [
        {"depth": depth, "width": 1, "expansion": 1.0, "parameters": 1, "flops_per_token": 1.0}
        | {"evaluation": {"x": {"bits_per_byte": bits / 10}}}
        for depth, bits in pairs
    ]
    found = correlations(runs).get("x", {})
    depths, bits = zip(*pairs, strict=True)
    if len(set(depths)) == 1 or len(set(bits)) == 1:
        assert found == {}
    else:
        assert list(found) == ["depth"]
        assert np.isclose(found["depth"], spearmanr(depths, bits).statistic)


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    def refused(*paths):
        with pytest.raises(InputError) as error:
            figures(list(map(str, paths)))
        return str(error.value)

    assert "is not a run folder" in refused(tmp_path)
    assert "is named 2 times" in refused(runs[0], runs[0].parent / "d4" / ".." / "d2")
    assert "has logged no step" in refused(past_run(tmp_path / "none", steps=0))
    assert "imported model" in refused(past_run(tmp_path / "import", kind="import"))
    bad = past_run(tmp_path / "bad")
    (bad / "metrics.jsonl").write_text('{"step"\n{"step": 1}\n')
    assert "is damaged" in refused(bad)


def test_runs_of_one_name_are_told_apart(tmp_path):
    paths = [str(past_run(tmp_path / part / "run")) for part in "ab"]
    assert [run["name"] for run in figures(paths)] == paths
    assert json.dumps(figures(paths))
