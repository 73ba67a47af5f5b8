"""Scores of single texts: those of tools.evaluate, whatever else is scored with them."""

import json
import pickle

import numpy as np
import pytest
from commands import call

from maxlite.state.ready import ready_model
from maxlite.text_scorer import TextScorer, load_scorer


@pytest.fixture(scope="module")
def model(tmp_path_factory, make_folder):
    return make_folder(tmp_path_factory.mktemp("scorer") / "model", scale=0.4)


@pytest.fixture(scope="module")
def texts():
    """Documents of one letter to several windows of 128 tokens."""
    rng = np.random.default_rng(1)
    words = "the cat sees a red boat in the morning and 한국어 again".split()
    return [" ".join(rng.choice(words, n)) for n in (1, 90, 3, 7, 25, 2, 2, 170, 11)] + ["a"]


@pytest.fixture(scope="module")
def scorer(model):
    return load_scorer(str(model))


def test_each_is_what_evaluate_says(model, texts, scorer, tmp_path):
    found = scorer(texts)
    assert found.dtype == np.float64 and found.shape == (len(texts),)
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(text, "utf-8")
    said = ",".join(map(str, files))
    outcome = call("tools.evaluate", f"--model={model}", f"--text={said}", f"--json={tmp_path}/f")
    assert outcome.status == 0, outcome.err
    figures = json.loads((tmp_path / "f").read_text())["files"]
    assert figures[7]["tokens"] > 2.5 * 128
    np.testing.assert_allclose(found, [f["bits_per_byte"] for f in figures], rtol=1e-5)


def test_nothing_depends_on_what_is_scored_beside_it(texts, scorer):
    whole = scorer(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    assert (scorer([texts[i] for i in order]) == whole[order]).all()
    assert (scorer(texts * 30) == np.tile(whole, 30)).all()
    assert [scorer([text])[0] for text in texts[:3]] == whole[:3].tolist()
    assert scorer([]).shape == (0,)
    assert scorer(["", "the cat"])[0] == 0


def test_neither_batch_nor_rows_matter(model, texts, scorer):
    small = TextScorer(ready_model(str(model)), batch_tokens=128)
    np.testing.assert_allclose(small(texts), scorer(texts), rtol=1e-6)


def test_it_opens_wherever_it_is_sent(model):
    assert pickle.loads(pickle.dumps(load_scorer)) is load_scorer
