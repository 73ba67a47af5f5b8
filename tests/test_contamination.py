"""`contamination` as a user calls it."""

import json
import shutil

import pytest
from commands import call, done, refused


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """model/, train.txt, check.txt (half of it in train.txt), and run/, which has read all once."""
    here = tmp_path_factory.mktemp("contamination")
    make_folder(here / "model")
    lines = (tiny_text / "en.txt").read_text().splitlines()
    (here / "train.txt").write_text("\n".join(lines[:300]) + "\n")
    (here / "check.txt").write_text("\n".join([*lines[280:320], "short"]).upper() + "\n")
    stage = {
        "model": here / "model", "out": here / "run", "data.train": f"en={here}/train.txt",
        "steps": 24, "batch_size": 8, "seq_len": 64, "eval.every": 0, "data.held_out": 0,
    }  # fmt: skip
    keys = [f"--config.{key}={value}" for key, value in stage.items()]
    done(call("maxlite.train", "--config=continue.py", *keys))
    return here


@pytest.fixture
def check(desk, tmp_path):
    """check(*flags) -> figures, what was printed."""

    def check(*flags, run="run"):
        file = tmp_path / "figures.json"
        given = [f"--run={desk}/{run}", f"--json={file}", "--overwrite", *flags]
        outcome = done(call("tools.contamination", *given))
        return json.loads(file.read_text()), outcome.out

    return check


def test_evaluation_text_inside_the_training_text_is_found(desk, check):
    told = json.loads(call_show(desk, steps=24))
    assert told["sources"][0]["epochs"] >= 1
    figures, table = check(f"--text=ko={desk}/check.txt")
    (one,) = figures["files"]
    assert (one["name"], one["set"]) == (f"{desk}/check.txt", "ko")
    assert one["documents"] == 41 and one["judged"] == 40
    lines = (desk / "check.txt").read_text().splitlines()[:20]
    train = {line.upper() for line in (desk / "train.txt").read_text().splitlines()}
    assert train.issuperset(lines)
    assert 20 <= one["mostly"] <= one["touched"] and one["sources"] == {"en": one["found"]}
    assert 0.4 < one["overlap"] < 0.9
    assert f"{one['overlap']:.2%}" in table and "too short" in table
    assert len(one["worst"]) == 5 and table.count("100% of ") == 5
    assert all(worst["text"] in lines for worst in one["worst"])
    assert figures["steps"] == 24 and figures["ngram"] == 13


def call_show(desk, steps):
    file = desk / "shares.json"
    order = [f"--order={desk}/run", f"--steps={steps}", "--count=0", f"--json={file}"]
    done(call("tools.show_order", *order, "--overwrite"))
    return file.read_text()


def test_fewer_steps_have_read_less(desk, check):
    text = f"--text={desk}/check.txt"
    whole, some, none = (
        check(text, f"--steps={steps}", f"--worst={steps}")[0]["files"][0] for steps in (24, 12, 1)
    )
    assert whole["overlap"] > some["overlap"] >= none["overlap"]
    assert some["overlap"] > 0 and len(whole["worst"]) > len(none["worst"]) <= 1


def test_an_order_alone(desk, check):
    shutil.copytree(desk / "run" / "order", desk / "my.order", dirs_exist_ok=True)
    text = [f"--text={desk}/check.txt", f"--tokenizer={desk}/model"]
    alone, _ = check(*text, "--steps=24", "--batch_size=8", run="my.order")
    assert alone["files"] == check(*text)[0]["files"]


def test_what_a_run_holds_out_is_judged(desk, check, tiny_text, tmp_path):
    """Documents that only differ in case from others that are read."""
    lines = (tiny_text / "en.txt").read_text().splitlines()
    (tmp_path / "both.txt").write_text("\n".join([*lines, *map(str.upper, lines)]) + "\n")
    stage = {
        "model": desk / "model", "out": tmp_path / "run", "data.train": tmp_path / "both.txt",
        "steps": 80, "batch_size": 8, "seq_len": 128, "eval.every": 0, "data.held_out": 0.1,
    }  # fmt: skip
    keys = [f"--config.{key}={value}" for key, value in stage.items()]
    done(call("maxlite.train", "--config=continue.py", *keys))
    outcome = done(call("tools.contamination", f"--run={tmp_path}/run"))
    row = next(line for line in outcome.out.splitlines() if "both" in line)
    assert 50 < float(row.split("%")[0]) < 100


def test_only_what_is_held_out_of_a_text(desk, check):
    text = f"--text={desk}/check.txt"
    whole, some = (check(text, *more)[0]["files"][0] for more in ([], ["--held_out=0.3"]))
    assert 0 < some["documents"] < whole["documents"] == 41


def test_what_holds_nothing_to_judge(desk, check, tmp_path):
    tool, run = "tools.contamination", f"--run={desk}/run"
    (tmp_path / "short.txt").write_text("too short\nas well\n")
    short = f"{tmp_path}/short.txt"
    told = refused(desk, tool, run, f"--text={short}")
    assert "none of the 2 documents has 5 words" in told
    told = refused(desk, tool, run, f"--text={short}", "--held_out=0.0001")
    assert "no document is held out at 0.0001" in told
    figures, table = check(f"--text={short},{desk}/check.txt", "--worst=0")
    assert [one["judged"] for one in figures["files"]] == [0, 40]
    assert table.splitlines()[1].split()[0] == "–"


def test_what_cannot_be_compared(desk, tmp_path):
    tool, run = "tools.contamination", f"--run={desk}/run"
    text = f"--text={desk}/check.txt"
    done(call("tools.import_hf", f"--model={desk}/model", f"--out={tmp_path}/imported"))
    told = refused(desk, tool, f"--run={tmp_path}/imported", text)
    assert "imported model, which has not trained" in told
    assert "--run must be given" in call(tool).sentence
    assert "evaluates nothing" in refused(desk, tool, run)
    assert "no order and no run" in refused(desk, tool, f"--run={desk}/model", text)
    assert "--min_words=9 is more than" in refused(
        desk, tool, run, text, "--ngram=8", "--min_words=9"
    )
    assert "--held_out is for --text" in refused(desk, tool, run, "--held_out=0.1")
    shutil.copytree(desk / "run" / "order", tmp_path / "order")
    assert "--tokenizer must be given" in refused(
        desk, tool, f"--run={tmp_path}/order", text, "--steps=1"
    )
    assert "--steps must be given" in refused(desk, tool, f"--run={tmp_path}/order", text)
    shutil.copytree(desk / "run", tmp_path / "new")
    state = json.loads((tmp_path / "new" / "status.json").read_text()) | {"step": 0}
    (tmp_path / "new" / "status.json").write_text(json.dumps(state))
    assert "has read nothing yet" in refused(desk, tool, f"--run={tmp_path}/new", text)
    outcome = done(call(tool, run, text, "--dry_run"))
    assert not outcome.out and "24 steps of 8 x 64 tokens" in outcome.err
