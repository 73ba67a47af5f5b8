"""tools.evaluate beside an earlier evaluation, and on what training leaves out."""

import json
import shutil

import pytest
from commands import call, done

from maxlite.config import Data, Source
from maxlite.data.cache import tokenize
from maxlite.data.view import split
from maxlite.tokenizer.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_text):
    here = tmp_path_factory.mktemp("evaluate")
    make_folder(here / "one", seed=1)
    make_folder(here / "two", seed=2)
    shutil.copy(tiny_text / "en.txt", here / "en.txt")
    return here


def evaluated(desk, model, *arguments, file):
    given = (f"--model={desk}/{model}", f"--text={desk}/en.txt", f"--json={file}", *arguments)
    outcome = done(call("tools.evaluate", *given))
    return json.loads(file.read_text())["files"][0], outcome.out.splitlines()


def test_before_and_after_stand_side_by_side(desk, tmp_path):
    before, plain = evaluated(desk, "one", file=tmp_path / "1")
    after, table = evaluated(desk, "two", f"--before={tmp_path}/1", file=tmp_path / "2")
    assert table[0].split()[:2] == ["before", "bits/byte"] and "before" not in plain[0]
    told = [f"{file['bits_per_byte']:.4f}" for file in (before, after)]
    assert table[1].split()[:2] == told and told[0] != told[1]


def test_another_evaluation_is_no_before(desk, tmp_path):
    evaluated(desk, "one", "--documents=3", file=tmp_path / "1")
    arguments = [f"--model={desk}/one", f"--before={tmp_path}/1"]
    sentence = call("tools.evaluate", *arguments, f"--text={desk}/en.txt").sentence
    assert "3 of" in sentence and "evaluate the same text again" in sentence
    shutil.copy(desk / "en.txt", tmp_path / "other.txt")
    sentence = call("tools.evaluate", *arguments, f"--text={tmp_path}/other.txt").sentence
    assert "evaluate the same files" in sentence
    for wrong, said in (("nothing", "there is no file"), ("one/config.json", "is not what --json")):
        arguments = [f"--model={desk}/one", f"--before={desk}/{wrong}", f"--text={desk}/en.txt"]
        assert said in call("tools.evaluate", *arguments).sentence


def test_what_is_held_out_is_what_training_leaves_out(desk, tmp_path):
    held, _ = evaluated(desk, "one", "--held_out=0.2", file=tmp_path / "held")
    whole, _ = evaluated(desk, "one", file=tmp_path / "whole")
    cache = tokenize(Source(f"{desk}/en.txt"), load_tokenizer(desk / "one"), Data())
    trained, left = split(cache, None, None, 0.2)
    assert held["documents"] == len(left) and len(trained) + len(left) == whole["documents"]
    lines = (desk / "en.txt").read_text("utf-8").splitlines()
    assert held["bytes"] == sum(len(lines[i].encode()) for i in left.index)
