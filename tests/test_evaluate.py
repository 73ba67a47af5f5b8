"""`evaluate` as a user calls it; what it prints is tested in report/."""

import json
import shutil

import pytest
from commands import call, done, refused

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.view import split
from maxlite.tokenizer.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    """model/ and other/, text/, and run/, which has trained a little and evaluates two sets."""
    here = tmp_path_factory.mktemp("evaluate")
    make_folder(here / "model", scale=0.4)
    make_folder(here / "other", scale=0.4, seed=3)
    shutil.copytree(tiny_text, here / "text")
    stage = {
        "model": here / "model", "out": here / "run", "steps": 12, "batch_size": 8, "seq_len": 32,
        "data.train": here / "text" / "xx.txt", "data.eval": here / "text" / "en.jsonl",
        "data.held_out": 0.1, "optimizer.learning_rate": 3e-3, "eval.sample_tokens": 0,
    }  # fmt: skip
    keys = [f"--config.{key}={value}" for key, value in stage.items()]
    done(call("maxlite.train", "--config=continue.py", *keys))
    return here


@pytest.fixture
def evaluate(tmp_path):
    """evaluate(*flags) -> figures, what was printed."""

    def evaluate(*flags):
        file = tmp_path / "figures.json"
        outcome = done(call("tools.evaluate", *flags, f"--json={file}", "--overwrite"))
        return json.loads(file.read_text()), outcome.out

    return evaluate


def test_by_language_and_domain(desk, evaluate):
    text = f"en/a={desk}/text/en.txt,xx={desk}/text/xx.txt,en/b={desk}/text/en.jsonl"
    found, table = evaluate(f"--model={desk}/model", f"--text={text}", "--documents=30")
    groups = {group["name"]: group for group in found["groups"]}
    assert [*groups] == ["en", "en/a", "en/b", "xx"]
    assert [line.split()[-1] for line in table.splitlines()[1:]] == [*groups, "total"]
    assert [(f["set"], f["name"].rsplit("/", 1)[-1]) for f in found["files"]] == [
        ("en/a", "en.txt"), ("xx", "xx.txt"), ("en/b", "en.jsonl"),
    ]  # fmt: skip
    for key in ("bytes", "tokens", "documents"):
        assert groups["en"][key] == groups["en/a"][key] + groups["en/b"][key]
        assert found["total"][key] == groups["en"][key] + groups["xx"][key]
    a, b = (group["bits_per_byte"] * group["bytes"] for group in map(groups.get, ("en/a", "en/b")))
    assert groups["en"]["bits_per_byte"] == pytest.approx((a + b) / groups["en"]["bytes"])
    whole = sum(file["bits_per_byte"] * file["bytes"] for file in found["files"])
    assert found["total"]["bits_per_byte"] == pytest.approx(whole / found["total"]["bytes"])
    assert {file["documents"] for file in found["files"]} == {30}
    for group in groups.values():
        expected = found["seq_len"] / group["tokens_per_char"]
        assert group["context_chars"] == pytest.approx(expected)


def test_a_run_is_judged_on_what_it_evaluates(desk, evaluate):
    """And has the figures that it logged, before and after."""
    flags = [f"--model={desk}/run", f"--before={desk}/model", "--seq_len=32"]
    found, table = evaluate(*flags, "--prompt=the cat", "--prompt=")
    lines = (desk / "run" / "metrics.jsonl").read_text().splitlines()
    logged = [e for e in map(json.loads, lines) if "eval/xx/loss" in e]
    assert (logged[0]["step"], logged[-1]["step"]) == (0, 12)
    assert {group["name"] for group in found["groups"]} == {"xx", "en"}
    for group in found["groups"]:
        (was,) = (g for g in found["before"]["groups"] if g["name"] == group["name"])
        for ours, theirs in ((was, logged[0]), (group, logged[-1])):
            bits = theirs[f"eval/{group['name']}/bits_per_byte"]
            assert ours["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
        assert group["gain"] == pytest.approx(was["bits_per_byte"] - group["bits_per_byte"])
    (learnt,) = (g["gain"] for g in found["groups"] if g["name"] == "xx")
    assert learnt > 0.1 and f"{learnt:.4f}" in table and "forgotten" in table
    assert [s["prompt"] for s in found["samples"]] == ["the cat", ""]
    assert "▸ the cat" in table and "before" in table


def test_texts_are_those_of_generate(desk, evaluate, tmp_path):
    prompts = ["the cat", "a small dog", "once"]
    (tmp_path / "p.txt").write_text("\n".join(prompts[1:]) + "\n")
    flags = [f"--model={desk}/run", f"--prompts={tmp_path}/p.txt", "--max_new_tokens=9"]
    found, _ = evaluate(*flags, f"--text={desk}/text/en.txt", "--documents=2", "--prompt=the cat")
    assert [sample["prompt"] for sample in found["samples"]] == prompts
    for sample in found["samples"]:
        flags = [f"--prompt={sample['prompt']}", "--max_new_tokens=9"]
        alone = done(call("tools.generate", f"--model={desk}/run", *flags)).out
        assert alone.rstrip("\n") == (sample["prompt"] + sample["text"]).rstrip("\n")


def test_an_earlier_evaluation_and_a_model_give_the_same(desk, evaluate, tmp_path):
    text = [f"--text=xx={desk}/text/xx.txt", "--documents=20"]
    both, table = evaluate(f"--model={desk}/other", f"--before={desk}/model", *text)
    earlier = tmp_path / "earlier.json"
    done(call("tools.evaluate", f"--model={desk}/model", *text, f"--json={earlier}"))
    again, same = evaluate(f"--model={desk}/other", f"--before={earlier}", *text)
    assert (again, same) == (both, table)


def test_what_cannot_be_judged(desk, tmp_path):
    def sentence(model="model", *flags):
        return refused(desk, "tools.evaluate", f"--model={desk}/{model}", *flags)

    text = f"--text=xx={desk}/text/xx.txt"
    assert "--text must be given" in sentence()
    done(call("tools.import_hf", f"--model={desk}/model", f"--out={tmp_path}/imported"))
    assert "evaluates nothing" in call("tools.evaluate", f"--model={tmp_path}/imported").sentence
    assert "--held_out is for --text" in sentence("run", "--held_out=0.1")
    assert "no file --prompts" in sentence("model", text, f"--prompts={desk}/no.txt")
    assert "there is no file" in sentence("model", text, f"--before={desk}/no.json")
    shutil.copytree(desk / "model", tmp_path / "mute")
    for file in (tmp_path / "mute").glob("tokenizer*"):
        file.unlink()
    told = call("tools.evaluate", f"--model={tmp_path}/mute", text).sentence
    assert f"{tmp_path}/mute cannot be judged on text" in told and "tokenizer.json" in told
    told = sentence("model", text, f"--before={tmp_path}/mute")
    assert f"{tmp_path}/mute cannot be judged" in told


def test_what_is_held_out_is_what_training_leaves_out(desk, evaluate):
    flags = [f"--model={desk}/model", f"--text={desk}/text/en.txt"]
    held, whole = (evaluate(*flags, *more)[0]["total"] for more in (["--held_out=0.2"], []))
    cache = tokenize(Source(f"{desk}/text/en.txt"), load_tokenizer(desk / "model"), Data())
    trained, left = split(cache, None, None, 0.2)
    assert held["documents"] == len(left) and len(trained) + len(left) == whole["documents"]
    lines = (desk / "text" / "en.txt").read_text("utf-8").splitlines()
    assert held["bytes"] == sum(len(lines[i].encode()) for i in left.index)


def test_nothing_held_out_is_no_perfect_score(desk, evaluate, tmp_path):
    lines = (desk / "text" / "en.txt").read_text("utf-8").splitlines()
    (tmp_path / "few.txt").write_text("\n".join(lines[:3]) + "\n", "utf-8")
    model, share = f"--model={desk}/model", "--held_out=0.001"
    told = refused(desk, "tools.evaluate", model, f"--text={tmp_path}/few.txt", share)
    assert "none of the 3 documents is held out at 0.001" in told
    text = f"--text=few={tmp_path}/few.txt,xx={desk}/text/xx.txt"
    for before in ([], [f"--before={desk}/other"]):
        found, table = evaluate(model, text, "--held_out=0.05", *before)
        few, xx = found["groups"]
        assert (few["documents"], few["bits_per_byte"]) == (0, 0) and xx["documents"]
        (row,) = (line.split() for line in table.splitlines() if line.endswith(" few"))
        assert "–" in row and not {"0.0000", "0.000"} & {*row}


def test_other_windows_and_fields(desk, evaluate, tmp_path):
    """Windows that advance by less see more; a text is the same in whichever field it is."""
    line = " ".join((desk / "text" / "en.txt").read_text("utf-8").splitlines()[:20])
    (tmp_path / "one.txt").write_text(line + "\n", "utf-8")
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "no", "said": line}) + "\n")
    flags = [f"--model={desk}/run", "--seq_len=16"]
    plain, near, far = (
        evaluate(*flags, f"--text={tmp_path}/one.txt", *more)[0]["total"]
        for more in ([], ["--stride=1"], ["--stride=16"])
    )
    assert len({plain["loss"], near["loss"], far["loss"]}) == 3
    assert near["tokens"] == plain["tokens"] == far["tokens"] > 48
    again = evaluate(*flags, f"--text={tmp_path}/one.jsonl", "--field=said")[0]["total"]
    assert again == plain
