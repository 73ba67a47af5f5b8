"""score_batches and resample as a user calls them: from a run to the order of its second round."""

import json
import shutil
import signal

import jax
import numpy as np
import pytest
from commands import call, done, finish, refused, run, snapshot, start, strike
from several import start_alike

from maxlite.config import Data
from maxlite.data.corpus import load_corpus
from maxlite.data.loader import Steps
from maxlite.data.losses import read_losses
from maxlite.data.orders import read_order
from maxlite.state.ready import ready_model

TOOL = "tools.score_batches"
STAGE = """
from maxlite.config import Checkpoint, Config, Data, Eval, Optimizer, Source


def get_config():
    return Config(
        model="{here}/model",
        steps=24,
        batch_size=8,
        seq_len=32,
        data=Data(
            train=(
                Source("{here}/xx.txt", weight=3, later=((12, 1),)),
                Source("{here}/en.txt"),
            ),
            held_out=0.1,
        ),
        optimizer=Optimizer(learning_rate=3e-3, schedule="constant", warmup=0.0),
        checkpoint=Checkpoint(every=100),
        eval=Eval(every=0),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """one/, a run of 24 steps of 8 sequences, and one.scores/, what its model makes of them."""
    here = tmp_path_factory.mktemp("rounds")
    make_folder(here / "model")
    for name in ("xx.txt", "en.txt"):
        shutil.copy(tiny_text / name, here / name)
    (here / "stage.py").write_text(STAGE.format(here=here))
    done(call("maxlite.train", f"--config={here}/stage.py", f"--config.out={here}/one"))
    done(call(TOOL, *arguments(here, "one.scores"), f"--json={here}/figures.json"))
    return here


def arguments(here, out, model="one", order="one"):
    return [f"--model={here}/{model}", f"--order={here}/{order}", f"--out={here}/{out}"]


def test_losses_are_those_of_training_rows(desk):
    """By a path of its own: rows as training reads them, one at a time, summed in float64."""
    losses = read_losses(desk / "one.scores")
    assert (losses.of.steps, losses.of.batch_size, losses.of.dtype) == (24, 8, "float32")
    ready = ready_model(str(desk / "one"))
    file, tokenizer = read_order(desk / "one"), ready.tokenizer
    settings = Data(order=str(desk / "one"))
    corpus = load_corpus(settings, tokenizer, 0, 32, 8, progress=False)
    assert losses.of.order == file.fingerprint == corpus.file.fingerprint
    rows = Steps(corpus, 24, range(8))
    with ready.on_mesh():
        for step in (0, 11, 12, 23):
            row = rows[step]
            model = ready.bind(ready.params, {})
            hidden = model(row["tokens"], row["positions"], row["segments"])
            log = np.asarray(jax.nn.log_softmax(model.logits(hidden)), np.float64)
            nll = -np.take_along_axis(log, row["targets"][..., None], -1)[..., 0]
            expected = (nll * row["weights"]).sum(axis=1)
            at = slice(8 * step, 8 * step + 8)
            np.testing.assert_allclose(losses.nll[at], expected, rtol=1e-5)
            np.testing.assert_array_equal(losses.weights[at], row["weights"].sum(axis=1))
            mean = expected.sum() / row["weights"].sum()
            assert losses.means(8)[step] == pytest.approx(mean, rel=1e-6)
    figures = json.loads((desk / "figures.json").read_text())
    assert figures["sequences"] == 192
    assert figures["losses"]["batches"]["100%"] == losses.means(8).max()
    assert figures["losses"]["sequences"]["deviation"] == losses.means().std()
    assert {p.name for p in (desk / "one.scores").iterdir()} == {
        "losses.json", "nll.npy", "weights.npy",
    }  # fmt: skip
    assert not [p for p in desk.iterdir() if p.suffix in (".work", ".lock")]


def test_parts_make_the_same(desk):
    for part in (2, 0, 1):
        outcome = done(call(TOOL, *arguments(desk, "parts"), f"--part={part}", "--parts=3"))
        assert ("wrote" in outcome.err) == (part == 1)
        if part == 0:
            assert "64 of 192 sequences are missing (64-127)" in outcome.err
            text = refused(
                desk, "tools.resample", f"--scores={desk}/parts", f"--order={desk}/one",
                f"--out={desk}/never",
            )  # fmt: skip
            assert "are not complete" in text and "score_batches for all parts" in text
    assert snapshot(desk / "parts") == snapshot(desk / "one.scores")
    outcome = done(call(TOOL, *arguments(desk, "parts"), "--part=0", "--parts=3"))
    assert "is there already" in outcome.err
    # With rows that do not divide into the chunks it is the same but for rounding.
    done(call(TOOL, *arguments(desk, "rows"), "--rows=3"))
    for name in ("nll", "weights"):
        ours, theirs = (np.load(desk / out / f"{name}.npy") for out in ("rows", "parts"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_killed_scoring_goes_on_to_the_same(desk):
    flags = [*arguments(desk, "killed"), "--steps=400", "--rows=1"]
    chunks = desk / "killed.work"
    process = start(TOOL, *flags)
    (outcome,) = strike(
        signal.SIGKILL, process, lambda: len([*chunks.glob("chunk-*.npy")]) >= 5
    )  # fmt: skip
    assert outcome.status == -signal.SIGKILL and not (desk / "killed").exists()
    there = {p.name: p.stat().st_mtime_ns for p in chunks.glob("chunk-*.npy")}
    assert 5 <= len(there) < 50
    done(run(TOOL, *flags))
    done(run(TOOL, *[f.replace("killed", "whole") for f in flags]))
    assert snapshot(desk / "killed") == snapshot(desk / "whole") and not chunks.exists()


def test_two_processes_make_the_same_as_one(desk):
    first, second = finish(*start_alike(TOOL, *arguments(desk, "two"), "--rows=4"))
    assert (first.status, second.status) == (0, 0), first.err + second.err
    assert "wrote" in first.err and "wrote" not in second.err and "sequences" not in second.out
    done(run(TOOL, *arguments(desk, "of_two"), "--rows=4", devices=2))
    assert snapshot(desk / "two") == snapshot(desk / "of_two")
    for name in ("nll", "weights"):
        ours, theirs = (np.load(desk / out / f"{name}.npy") for out in ("two", "one.scores"))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_bad_input(desk):
    def told(*changes, **where):
        return refused(desk, TOOL, *arguments(desk, **{"out": "never", **where}), *changes)

    assert "--part=3 must be below --parts=3" in told("--part=3", "--parts=3")
    assert "one.scores exists" in told(out="one.scores")
    assert "no order and no run" in told(order="model")
    assert "never" not in told(model="nowhere")
    assert "--model" in refused(desk, TOOL, f"--order={desk}/one", f"--out={desk}/x")
    outcome = done(call(TOOL, *arguments(desk, "never"), "--dry_run"))
    assert "would score 3 of 3 chunks of the 192 sequences" in outcome.err
    assert not (desk / "never").exists()


def test_work_on_another_order_or_model_is_not_gone_on_with(desk, make_folder):
    done(call(TOOL, *arguments(desk, "begun"), "--part=0", "--parts=3"))
    begun = ["--part=1", "--parts=3"]
    text = refused(desk, TOOL, *arguments(desk, "begun", model="model"), *begun)
    assert "was begun with another model;" in text
    text = refused(desk, TOOL, *arguments(desk, "begun"), "--steps=30", *begun)
    assert "was begun with another steps;" in text
    done(call(TOOL, *arguments(desk, "begun"), "--steps=30", "--overwrite"))
    assert read_losses(desk / "begun").of.sequences == 240
    (desk / "theirs.work").mkdir()
    assert "is no work to go on with" in refused(desk, TOOL, *arguments(desk, "theirs"))
