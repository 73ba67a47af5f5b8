"""merge_tokenizer, as a user calls it."""

import io
import json

import pytest
import sentencepiece
from commands import call, heavy, snapshot
from tokenizers import Tokenizer, models, pre_tokenizers

from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.definition import open_definition
from maxlite.tokenizer.extension import check_extends
from maxlite.tokenizer.reachability import unreachable

TOOL = "tools.merge_tokenizer"


@pytest.fixture(scope="module")
def extra(tmp_path_factory, tiny_text):
    """A Unigram model of the other script."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((tiny_text / "xx.txt").read_text("utf-8").splitlines()),
        model_writer=written,
        vocab_size=300,
        model_type="unigram",
        character_coverage=1.0,
        minloglevel=3,
    )
    path = tmp_path_factory.mktemp("extra") / "extra.model"
    path.write_bytes(written.getvalue())
    return path


def test_a_merge(tiny_tokenizer, extra, tiny_text, tmp_path):
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments = [f"--base={tiny_tokenizer}", f"--extra={extra}", "--keep=script:Hangul"]
    verify = f"--verify={tiny_text}/xx.txt,{tiny_text}/en.*"
    outcome = call(
        TOOL, *arguments, f"--out={out}", verify, "--add_special=[PAD]", f"--json={figures}"
    )
    assert outcome.status == 0, outcome.err
    told = json.loads(figures.read_text())
    new = load_tokenizer(out)
    check_extends(load_tokenizer(tiny_tokenizer), new)
    assert (told["base_rows"], told["rows"]) == (400, new.rows)
    assert told["added"] == new.rows - 401 > 100 and new.piece(new.rows - 1) == "[PAD]"
    assert f"400 ids + {told['added']} new + 1 special = {new.rows}" in outcome.out
    assert {f.name for f in out.iterdir()} == {f.name for f in tiny_tokenizer.iterdir()}
    dead = unreachable(open_definition(out))
    assert (told["stranded"]["count"], told["unreachable"]["count"]) == (0, len(dead))
    assert f"{len(dead)} of the new pieces can never be" in outcome.out
    lines = [(f["lines"], f["differing"], f["differing_special"]) for f in told["agreement"]]
    assert lines == [(400, 0, 0)] * 3
    assert "on 0 of 1,200 lines (0 where" in outcome.out


def test_published_scores_are_told_of(tiny_tokenizer, extra, tiny_text, tmp_path):
    arguments = [f"--base={tiny_tokenizer}/tokenizer.model", f"--extra={extra}"]
    arguments.append("--scores=published")
    outcome = call(TOOL, *arguments, f"--out={tmp_path}/a")
    assert outcome.status == 0 and "Equal scores cannot be written" in outcome.out
    outcome = call(
        TOOL,
        *arguments,
        f"--out={tmp_path}/b",
        f"--json={tmp_path}/b.json",
        f"--verify={tiny_text}/xx.txt",
    )
    (told,) = json.loads((tmp_path / "b.json").read_text())["agreement"]
    assert told["lines"] == 400 and told["differing"] > 0
    assert f"on {told['differing']} of 400 lines" in outcome.out
    assert "the first is line" in outcome.out and "tokenizer.json:  " in outcome.out
    assert snapshot(tmp_path / "a") == snapshot(tmp_path / "b")
    assert "tokenizer_config.json" in snapshot(tmp_path / "a")


def test_what_is_refused_leaves_nothing(tiny_tokenizer, extra, tmp_path, tiny_text):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    byte_level = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel()
    byte_level.save(str(tmp_path / "l3.json"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "weights").touch()
    (tmp_path / "bad.txt").write_bytes(b"fine\ncaf\xe9\n")
    base, other, out = f"--base={tiny_tokenizer}", f"--extra={extra}", f"--out={tmp_path}/out"
    before = snapshot(tmp_path)
    for arguments, told in (
        ([base, other], "--out must be given"),
        ([base, out], "--extra must be given"),
        ([base, out, "--method=continued_bpe"], "--text, --size must be given"),
        ([base, other, out, "--size=5"], "--method=merge has no use for --size"),
        ([base, other, f"--out={tmp_path}/there"], "exists already"),
        ([base, other, f"--out={tmp_path}/there", "--overwrite"], "more than a tokenizer"),
        ([f"--base={extra}", f"--extra={tiny_tokenizer}", out], "is a Unigram model"),
        ([f"--base={tmp_path}/l3.json", other, out], "continued_bpe"),
        ([base, other, out, "--keep=Hangul"], "does not select pieces"),
        ([base, other, out, "--keep=script:Thai"], "and --keep wants"),
        ([base, other, out, "--add_special=<s>"], "has '<s>' already"),
        ([base, other, out, f"--verify={tmp_path}/no*.txt"], "no file matches"),
        ([base, other, out, f"--verify={tmp_path}/bad.txt"], "bad.txt, line 2: not valid UTF-8"),
        (
            [f"--base={tiny_tokenizer}/tokenizer.json", other, out, f"--verify={tiny_text}/*.txt"],
            "it has no tokenizer.model",
        ),
    ):
        assert told in call(TOOL, *arguments).sentence
        assert snapshot(tmp_path) == before


def test_a_dry_run_tells_and_writes_nothing(tiny_tokenizer, extra, tmp_path):
    before = snapshot(tmp_path)
    arguments = [f"--base={tiny_tokenizer}", f"--extra={extra}", "--dry_run"]
    outcome = call(TOOL, *arguments, f"--out={tmp_path}/out", f"--json={tmp_path}/figures.json")
    assert outcome.status == 0 and "400 ids + " in outcome.out
    assert "would write" in outcome.err and "tokenizer.json" in outcome.err
    assert snapshot(tmp_path) == before


def test_help_tells_of_every_flag():
    told = call(TOOL, "--help").out
    flags = "base extra keep scores add_special method text size verify out json overwrite dry_run"
    for flag in flags.split():
        assert f"--{flag}:" in told or f"--[no]{flag}:" in told, flag


def test_no_accelerator_library_is_loaded(tiny_tokenizer, extra, tiny_text, tmp_path):
    flags = [f"--base={tiny_tokenizer}", f"--extra={extra}", f"--out={tmp_path}/o"]
    assert heavy("tools.merge_tokenizer", *flags, f"--verify={tiny_text}/xx.txt") == "[]"
