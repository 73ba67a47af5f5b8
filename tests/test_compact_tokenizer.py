"""compact_tokenizer, as a user calls it, and compact_vocab after it."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import ROOT, call, refused, snapshot
from safetensors.numpy import load_file

from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.counting import count_texts
from maxlite.tokenizer.definition import open_definition

TOOL = "tools.compact_tokenizer"


@pytest.fixture
def desk(tmp_path, tiny_text, tiny_tokenizer):
    """Counts of English text, and other such text beside them."""
    lines = (tiny_text / "en.txt").read_text("utf-8").splitlines()
    count_texts(load_tokenizer(tiny_tokenizer), lines[::2]).write(tmp_path / "counts.json")
    (tmp_path / "held.txt").write_text("\n".join(lines[1::2]) + "\n", "utf-8")
    return tmp_path


@pytest.fixture
def given(desk, tiny_tokenizer):
    return [f"--tokenizer={tiny_tokenizer}", f"--counts={desk}/counts.json", f"--out={desk}/out"]


def done(*arguments):
    outcome = call(TOOL, *arguments)
    assert outcome.status == 0, outcome.err
    return outcome


def test_both_ways_are_compared(desk, given, tiny_tokenizer):
    figures = {}
    for way, flag in (("closed", []), ("published", ["--as_published"])):
        outcome = done(
            *given, "--size=320", f"--text={desk}/held.txt", f"--json={desk}/{way}.json",
            "--overwrite", *flag,
        )  # fmt: skip
        figures[way] = json.loads((desk / f"{way}.json").read_text())
        assert f"* {way}" in outcome.out and f"Written to {desk}/out" in outcome.out
        ids = [int(line) for line in (desk / "out/kept_ids.txt").read_text().split()]
        assert len(ids) == 320 == figures[way]["rows"] and ids == sorted(set(ids))
        small, whole = open_definition(desk / "out"), open_definition(tiny_tokenizer)
        assert [p.text for p in small.pieces] == [whole.pieces[i].text for i in ids]
        names = {path.name for path in tiny_tokenizer.iterdir()} | {"kept_ids.txt"}
        assert {path.name for path in (desk / "out").iterdir()} == names
        held = (desk / "held.txt").read_text().splitlines()
        for form in ("tokenizer.model", "tokenizer.json"):
            tokens = sum(map(len, load_tokenizer(desk / "out" / form).encode(held)))
            mine = figures[way]["ways"][way]
            assert mine["tokens"][form] == tokens
            before = figures[way]["tokens_before"][form]
            assert before == sum(map(len, load_tokenizer(tiny_tokenizer / form).encode(held)))
            assert mine["growth"][form] == tokens / before - 1 and mine["inexact"][form] == 0
            assert f"{tokens:,}" in outcome.out
    assert figures["closed"]["ways"] == figures["published"]["ways"]
    closed, published = figures["closed"]["ways"].values()
    assert closed["dead"] == 0 and published["dead"] > 0
    assert len(published["dead_examples"]) == min(20, published["dead"])
    assert repr(published["dead_examples"][0]) in outcome.out
    for form, growth in closed["growth"].items():
        assert growth < published["growth"][form]


def test_without_text_growth_is_predicted_and_it_says_so(desk, given):
    outcome = done(*given, "--size=300", f"--json={desk}/figures.json")
    assert "Growth is predicted from the counts" in outcome.out
    way = json.loads((desk / "figures.json").read_text())["ways"]["closed"]
    assert way["growth"] == {} and way["growth_predicted"]["tokenizer.model"] > 0


@pytest.mark.parametrize("form", ["both", "model", "json"])
def test_a_model_of_the_kept_rows(form, desk, tiny_folder):
    """Text of kept pieces has the rows it had, in the order it had them."""
    model = tiny_folder(tokenizer=form)
    counts = count_texts(load_tokenizer(model), (desk / "held.txt").read_text().splitlines())
    counts.write(desk / "own.json")
    done(f"--tokenizer={model}", f"--counts={desk}/own.json", "--size=330", f"--out={desk}/small")
    outcome = call(
        "tools.compact_vocab", f"--model={model}", f"--kept_ids={desk}/small/kept_ids.txt",
        f"--tokenizer={desk}/small", f"--out={desk}/compacted",
    )  # fmt: skip
    assert outcome.status == 0, outcome.err
    kept = np.loadtxt(desk / "small/kept_ids.txt", dtype=np.int64)
    before, after = (
        load_file(model / "model.safetensors"),
        load_file(desk / "compacted/model.safetensors"),
    )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        np.testing.assert_array_equal(after[name], before[name][kept])
    whole, small = load_tokenizer(model), load_tokenizer(desk / "compacted")
    same = 0
    for line in (desk / "held.txt").read_text().splitlines():
        for word in line.split():
            old = whole.encode_one(word)
            if np.isin(old, kept).all():
                same += 1
                assert kept[small.encode_one(word)].tolist() == old.tolist()
    assert same > 100
    assert small.bos == 1 and small.eos == 2


def test_dry_run_overwrite_and_what_is_not_a_tokenizer(desk, given):
    before = snapshot(desk)
    outcome = done(*given[:2], "--size=300", "--dry_run")
    assert "would write" in outcome.err and "never produced" in outcome.out
    assert snapshot(desk) == before
    done(*given, "--size=300")
    made = snapshot(desk)
    assert "exists already" in refused(desk, TOOL, *given, "--size=300")
    done(*given, "--size=300", "--overwrite")
    assert snapshot(desk) == made
    (desk / "out/notes.txt").write_text("mine")
    assert "more than a tokenizer" in refused(desk, TOOL, *given, "--size=300", "--overwrite")


def test_bad_input_is_one_sentence(desk, given, tiny_tokenizer):
    tokenizer, counts, out = given
    other = shutil.copytree(tiny_tokenizer, desk / "other")
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(config | {"pad_token": "▁the"}))
    holes = shutil.copytree(tiny_tokenizer, desk / "holes")
    (holes / "tokenizer.json").unlink()
    (holes / "added_tokens.json").write_text('{"<pad>": 402}')
    (desk / "empty.json").write_text(
        (desk / "counts.json").read_text().partition('"tokens"')[0] + '"tokens": 0}'
    )
    for arguments, words in (
        ([counts, out, "--size=300"], "--tokenizer must be given"),
        ([tokenizer, out, "--size=300"], "--counts must be given"),
        ([tokenizer, counts, out], "--size must be given"),
        ([tokenizer, counts, "--size=300"], "--out must be given"),
        ([*given, "--size=100"], "100 pieces are too few"),
        ([*given, "--size=400"], "so 400 are not fewer"),
        ([*given, "--size=-4"], "-4 pieces are too few"),
        ([*given, "--size=300", f"--text={desk}/z*"], "no file matches"),
        ([tokenizer, out, "--size=300", f"--counts={desk}/z"], "cannot be read"),
        ([tokenizer, out, "--size=300", f"--counts={desk}/held.txt"], "is not a file of token"),
        ([tokenizer, out, "--size=300", f"--counts={desk}/empty.json"], "empty.json is damaged"),
        ([f"--tokenizer={other}", counts, out, "--size=300"], "made with another tokenizer"),
        ([f"--tokenizer={holes}", counts, out, "--size=300"], "holes"),
    ):
        sentence = refused(desk, TOOL, *arguments)
        assert words in sentence, (arguments, sentence)


def test_it_needs_no_accelerator_library():
    program = "import sys, tools.compact_tokenizer; print({'jax', 'torch'} & {*sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == "set()\n", found.stderr
