"""resample as a user calls it, on scores made by hand; and training that follows what it writes."""

import json
import shutil

import numpy as np
import pytest
from commands import call, done, refused, snapshot

from maxlite.config import Data, Source
from maxlite.data import loader
from maxlite.data.corpus import load_corpus
from maxlite.data.losses import Scored
from maxlite.data.losses_work import Work
from maxlite.data.orders import read_order, write_order
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.hf.signature import signature
from maxlite.tokenizer import load_tokenizer

TOOL = "tools.resample"
STEPS, BATCH, LENGTH = 40, 4, 32
HARD = np.arange(STEPS * BATCH) // BATCH % 2 == 1  # every other batch


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text, tiny_tokenizer):
    """my.order/ of two sources, of which one begins late; my.scores/: every other batch is hard."""
    here = tmp_path_factory.mktemp("resample")
    make_folder(here / "model")
    make_folder(here / "other", seed=1)
    shutil.copytree(tiny_text, here / "text")
    sources = (
        Source(str(here / "text" / "xx.txt"), 3.0, later=((20, 1.0),)),
        Source(str(here / "text" / "en.txt"), 1.0),
    )
    data = Data(sources, held_out=0.1)
    corpus = load_corpus(data, load_tokenizer(tiny_tokenizer), 0, LENGTH, BATCH, progress=False)
    write_order(here / "my.order", corpus.file)
    score(here, "my")
    return here


def score(here, name, order="my", losses=None):
    file = read_order(here / f"{order}.order")
    model = signature(open_folder(here / "model").tensors)
    work = Work(
        here / f"{name}.scores", Scored(file.fingerprint, model, "float32", STEPS, BATCH), "m"
    )
    work.begin()
    losses = 2.0 + 2.0 * HARD if losses is None else losses
    values = np.stack([losses * 30, np.full(STEPS * BATCH, 30)])
    for chunk in work.todo():
        start, stop = work.span(int(chunk))
        work.write(int(chunk), values[:, start:stop])
    assert work.join()


def flags(here, out, scores="my", order="my"):
    where = [f"--scores={here}/{scores}.scores", f"--order={here}/{order}.order"]
    return [*where, f"--out={out}"]


def corpus_of(desk, order, batch_size=BATCH):
    tokenizer = load_tokenizer(desk / "model")
    settings = Data(order=str(order))
    return load_corpus(settings, tokenizer, 0, LENGTH, batch_size, progress=False)


def tokens(corpus, numbers):
    """Sequences by number, each as a tuple, sorted."""
    return sorted(map(tuple, loader._rows(corpus, np.asarray(numbers))["tokens"].tolist()))


def test_hard_batches_are_kept_whole(desk, tmp_path):
    outcome = done(
        call(
            TOOL, *flags(desk, tmp_path / "two"), "--temperature=0", "--seed=3",
            f"--plot={tmp_path}/two.html", f"--json={tmp_path}/f.json", f"--model={desk}/model",
        )
    )  # fmt: skip
    file = read_order(tmp_path / "two")
    assert file.kept.numbers.tolist() == np.flatnonzero(HARD).tolist()
    assert (file.kept.seed, file.kept.batch_size, file.seed) == (0, BATCH, 3)
    assert file.base == read_order(desk / "my.order").fingerprint
    assert file.notes["level"] == "batch" and file.notes["temperature"] == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["fingerprint"] == file.fingerprint
    assert [part["kept"] for part in figures["parts"]] == [0] * 5 + [4] * 5
    assert (figures["loss"], figures["loss_kept"]) == pytest.approx((3.0, 4.0))
    assert figures["units"] == 40 and figures["kept"] == 20 and figures["sequences"] == 80
    text = (tmp_path / "two.html").read_text()
    assert "<svg" in text and "Share kept by loss" in text and "<script" not in text
    assert "kept 20 of 40 batches" in outcome.out and "100.00%" in outcome.out
    corpus = corpus_of(desk, desk / "my.order")
    of_all, of_kept = (
        np.bincount(corpus.order.places(n)[0], minlength=2) / len(n)
        for n in (np.arange(160), file.kept.numbers)
    )
    assert [one["scored"] for one in figures["sources"]] == pytest.approx(of_all)
    assert [one["kept"] for one in figures["sources"]] == pytest.approx(of_kept)


def test_levels_fractions_and_seeds(desk, tmp_path):
    def kept(name, *changes):
        done(call(TOOL, *flags(desk, tmp_path / name), *changes))
        return read_order(tmp_path / name)

    one = kept("a", "--level=sequence", "--fraction=0.25", "--seed=1")
    again = kept("b", "--level=sequence", "--fraction=0.25", "--seed=1")
    assert one.fingerprint == again.fingerprint and len(one.kept.numbers) == 40
    assert one.fingerprint != kept("c", "--level=sequence", "--fraction=0.25").fingerprint
    share = HARD[one.kept.numbers].mean()
    assert share > 0.75  # the hard are e^2 times as likely to be drawn
    pairs = kept("d", "--batch_size=2").kept.numbers.reshape(-1, 2)
    assert (np.diff(pairs) == 1).all() and (pairs[:, 0] % 2 == 0).all() and len(pairs) == 40
    everything = kept("e", "--fraction=1")
    assert everything.kept.numbers.tolist() == list(range(160))
    assert len(kept("f", "--temperature=inf").kept.numbers) == 80
    assert read_order(tmp_path / "f").notes["temperature"] == "inf"


def test_a_nearly_even_draw_is_called_that(desk, tmp_path):
    close = 2.0 + 0.02 * np.random.default_rng(0).normal(size=160)
    score(desk, "close", losses=close)
    outcome = done(call(TOOL, *flags(desk, tmp_path / "x", "close"), "--dry_run"))
    assert "nearly an even draw" in outcome.err and "single sequences" in outcome.err
    assert "would write" in outcome.err and not list(tmp_path.iterdir())
    sharp = ["--temperature=0.005", "--dry_run"]
    outcome = done(call(TOOL, *flags(desk, tmp_path / "x", "close"), *sharp))
    assert "even draw" not in outcome.err


def test_training_reads_exactly_what_is_kept(desk, tmp_path, monkeypatch):
    done(call(TOOL, *flags(desk, tmp_path / "two"), "--level=sequence", "--temperature=0.5"))
    read, rows = [], loader._rows

    def spy(corpus, numbers):
        found = rows(corpus, numbers)
        read.extend(map(tuple, found["tokens"].tolist()))
        return found

    monkeypatch.setattr(loader, "_rows", spy)
    (tmp_path / "stage.py").write_text(
        "from maxlite.config import *\n\n\ndef get_config():\n    return Config(\n"
        f"        model='{desk}/model', out='{tmp_path}/run', steps=10, batch_size=8,\n"
        f"        seq_len={LENGTH}, eval=Eval(every=0),\n"
        f"        data=Data(order='{tmp_path}/two'),\n    )\n"
    )
    done(call("maxlite.train", f"--config={tmp_path}/stage.py"))
    monkeypatch.undo()
    kept = read_order(tmp_path / "two").kept.numbers
    assert len(read) == len(kept) == 80
    assert sorted(read) == tokens(corpus_of(desk, desk / "my.order"), kept)
    assert read != sorted(read)
    assert read_order(tmp_path / "run").fingerprint == read_order(tmp_path / "two").fingerprint
    outcome = done(call("tools.show_order", f"--order={tmp_path}/run", "--count=1"))
    assert "keeps 80 sequences" in outcome.out and "level: sequence" in outcome.out
    described = corpus_of(desk, tmp_path / "two", 8)
    assert [one.epochs for one in described.order.read(10).values()] == [1.0, 1.0]
    with pytest.raises(InputError, match="keeps chosen sequences"):
        described.chosen({"en": np.arange(3)})


def test_a_third_round(desk, tmp_path):
    """Scores of the second round's order are of its sequences, in its order."""
    done(call(TOOL, *flags(desk, desk / "two.order"), "--fraction=1", "--seed=5"))
    losses = np.random.default_rng(0).permutation(160) / 10
    score(desk, "two", "two", losses)
    three = ["--temperature=0", "--level=sequence", "--fraction=0.1", "--seed=6"]
    done(call(TOOL, *flags(desk, tmp_path / "three", "two", "two"), *three))
    two, base = (corpus_of(desk, desk / f"{name}.order") for name in ("two", "my"))
    hardest = np.argsort(losses)[-16:]
    file = read_order(tmp_path / "three")
    assert tokens(two, hardest) == tokens(base, file.kept.numbers)
    assert tokens(corpus_of(desk, tmp_path / "three"), np.arange(16)) == tokens(two, hardest)
    np.testing.assert_array_equal(
        read_order(desk / "two.order").source_of(hardest, 99), two.order.places(hardest)[0]
    )


def test_bad_input(desk, tmp_path):
    def told(*changes, **names):
        before = snapshot(tmp_path)
        text = refused(desk, TOOL, *flags(desk, tmp_path / "new", **names), *changes)
        assert snapshot(tmp_path) == before
        return text

    for fraction in ("0", "-0.1", "1.5", "nan"):
        assert "is not above 0 and at most 1" in told(f"--fraction={fraction}")
    assert "temperature -1 is not at least 0" in told("--temperature=-1")
    assert "of another model (m, signature" in told(f"--model={desk}/other")
    assert "do not divide into batches of 7" in told("--batch_size=7")
    assert "holds no scores" in told(scores="none")
    assert "must be a .html file" in told(f"--plot={tmp_path}/page.txt")
    write_order(
        tmp_path / "seed.order", read_order(desk / "my.order").keeping(np.arange(9), 3, 4, {})
    )
    text = told(f"--order={tmp_path}/seed.order")
    assert "are of another order (fingerprint" in text
    assert "--out" in refused(desk, TOOL, *flags(desk, "")[:2])
    (tmp_path / "new").mkdir()
    assert "exists; choose another" in told()
    assert "exists and is no order" in told("--overwrite")


def test_damaged_scores_are_refused(desk, tmp_path):
    for name, change in (
        ("nll", lambda f: np.save(f, np.load(f) + 1)),
        ("weights", lambda f: np.save(f, np.load(f)[:-1])),
        ("nll", lambda f: f.unlink()),
        ("losses", lambda f: f.write_text("{}")),
        (
            "losses",
            lambda f: f.write_text(f.read_text().replace(f'"steps": {STEPS}', '"steps": 39')),
        ),
    ):
        shutil.rmtree(tmp_path / "x.scores", ignore_errors=True)
        shutil.copytree(desk / "my.scores", tmp_path / "x.scores")
        change(next((tmp_path / "x.scores").glob(f"{name}.*")))
        order = f"--order={desk}/my.order"
        where = [f"--scores={tmp_path}/x.scores", order, f"--out={tmp_path}/new"]
        assert "are damaged" in call(TOOL, *where).sentence
    losses = np.where(HARD, np.nan, 2.0)
    score(desk, "nan", losses=losses)
    text = refused(desk, TOOL, *flags(desk, tmp_path / "new", "nan"))
    assert "20 of 40 losses are not finite, the first is number 1" in text
