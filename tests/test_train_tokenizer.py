"""The tool that trains tokenizers, as a user calls it."""

import gzip
import json

import pytest
from commands import call, done, heavy, refused, run, snapshot

from maxlite.tokenizer import load_tokenizer
from maxlite.tokenizer.training import KINDS

TOOL = "tools.train_tokenizer"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind, tiny_text, tmp_path):
    out, figures = tmp_path / "new", tmp_path / "figures.json"
    text = f"--text={tiny_text}/*.txt,{tiny_text}/en.jsonl,{tiny_text}/en.txt"
    flags = [text, "--size=390", f"--kind={kind}", f"--out={out}", f"--json={figures}"]
    outcome = done(call(TOOL, *flags))
    told = json.loads(figures.read_text())
    assert (told["kind"], told["size"]) == (kind, 390)
    assert told["documents"] == told["sampled_documents"] == 1200, "each file once"
    files = [tiny_text / name for name in ("en.txt", "xx.txt")]
    text = sum(len(line) - 1 for path in files for line in path.open("rb"))
    text += sum(len(json.loads(line)["text"].encode()) for line in (tiny_text / "en.jsonl").open())
    assert told["bytes"] == told["sampled_bytes"] == text
    assert f"{kind} with 390 pieces" in outcome.out
    assert f"{told['tokens_per_char']:.4f} tokens per character" in outcome.out
    assert (told["checked"], told["differing"]) == (1200, 0)
    assert ("differ on 0 of 1,200 documents" in outcome.out) == (kind != "byte_level")
    tokenizer = load_tokenizer(out)
    assert tokenizer.rows == 390 and 0 < told["tokens_per_char"] < 1
    assert tokenizer.decode(tokenizer.encode_one("the cat 강산")) == "the cat 강산"
    before = snapshot(out)
    assert "exists already" in refused(tmp_path, TOOL, *flags[:-1])
    done(call(TOOL, *flags, "--overwrite"))
    assert snapshot(out) == before, "the same text gives the same files"


def test_a_part_of_the_text(tiny_text, tmp_path):
    big = tmp_path / "big.txt.gz"
    lines = (tiny_text / "en.txt").read_text("utf-8").split("\n")
    with gzip.open(big, "wt") as file:
        for i in range(60):
            file.writelines(f"{line} {i}\n" for line in lines if line)
    flags = [f"--text={big}", "--size=380", "--sample_mb=1", f"--json={tmp_path}/f.json"]
    outcome = done(call(TOOL, *flags, f"--out={tmp_path}/new"))
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["documents"] == 24_000 and told["bytes"] > 1.5e6
    assert 0.99e6 < told["sampled_bytes"] <= 1e6
    assert f"({told['sampled_documents']:,} of 24,000 documents)" in outcome.err
    (tmp_path / "f.json").unlink()
    flags[2] = "--sample_mb=0"
    done(call(TOOL, *flags, f"--out={tmp_path}/whole"))
    assert json.loads((tmp_path / "f.json").read_text())["sampled_documents"] == 24_000


def test_the_kind_of_the_base(tiny_text, tiny_tokenizer, tmp_path):
    flags = [f"--text={tiny_text}/xx.txt", "--size=320", f"--base={tiny_tokenizer}"]
    assert "sentencepiece_bpe" in done(call(TOOL, *flags, f"--out={tmp_path}/new")).out
    flags[1] = "--size=300"
    done(call(TOOL, *flags[:2], "--kind=byte_level", f"--out={tmp_path}/bytes"))
    flags[2] = f"--base={tmp_path}/bytes"
    outcome = done(call(TOOL, *flags, f"--out={tmp_path}/more"))
    assert "byte_level with 300 pieces (256 byte, 42 normal, 2 special)" in outcome.out
    told = refused(tmp_path, TOOL, *flags, "--kind=sentencepiece_bpe", f"--out={tmp_path}/no")
    assert f"{tmp_path}/bytes" in told and "leave the base out" in told


def test_a_dry_run_tells_how_much_it_would_read(tiny_text, tmp_path):
    flags = [f"--text={tiny_text}/*.txt", "--size=400", f"--out={tmp_path}/new", "--dry_run"]
    outcome = done(call(TOOL, *flags, f"--json={tmp_path}/f.json"))
    size = sum(path.stat().st_size for path in tiny_text.glob("*.txt"))
    assert f"would read 2 files with {size / 1e6:.1f} MB" in outcome.err
    assert "400 pieces of the kind sentencepiece_bpe" in outcome.err
    assert not snapshot(tmp_path)


def test_bad_input(tiny_text, tmp_path):
    flags = [f"--text={tiny_text}/en.txt", "--size=400", f"--out={tmp_path}/new"]
    for left_out in range(3):
        some = flags[:left_out] + flags[left_out + 1 :]
        name = flags[left_out].split("=")[0]
        assert f"{name} must be given" in refused(tmp_path, TOOL, *some)
    assert "no file matches" in refused(tmp_path, TOOL, *flags[1:], "--text=/nowhere/*.txt")
    assert "must be positive" in refused(tmp_path, TOOL, *flags, "--size=-3")
    assert "no tokenizer at" in refused(tmp_path, TOOL, *flags, f"--base={tmp_path}/no")
    assert "--coverage" in refused(tmp_path, TOOL, *flags, "--coverage=1.2")
    assert "--coverage" in refused(tmp_path, TOOL, *flags, "--coverage=0.5")
    assert "no coverage" in refused(tmp_path, TOOL, *flags, "--kind=byte_level", "--coverage=1")
    assert "largest size possible" in refused(tmp_path, TOOL, *flags, "--size=60000")
    assert "too few" in refused(tmp_path, TOOL, *flags, "--size=30")
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xffd\n")
    told = refused(tmp_path, TOOL, *flags[1:], f"--text={tmp_path}/bad.txt")
    assert f"{tmp_path}/bad.txt, line 2: not valid UTF-8" in told
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "no text" in refused(tmp_path, TOOL, *flags[1:], f"--text={tmp_path}/empty.txt")
    (tmp_path / "long.txt").write_text("x y " * 300_000)
    told = refused(tmp_path, TOOL, *flags[1:], f"--text={tmp_path}/long.txt", "--sample_mb=1")
    assert "--sample_mb=1 is too little for a document" in told
    (tmp_path / "lines.jsonl").write_text('{"content": "x"}\n')
    told = refused(tmp_path, TOOL, *flags[1:], f"--text={tmp_path}/lines.jsonl")
    assert "no field 'text'" in told
    done(call(TOOL, *flags, "--dry_run"))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.safetensors").touch()
    assert "is more than a tokenizer" in refused(tmp_path, TOOL, *flags, "--overwrite")


def test_help_tells_of_every_flag():
    told = done(call(TOOL, "--help")).out
    for flag in "text field size kind base out sample_mb coverage json overwrite dry_run".split():
        assert f"--{flag}:" in told or f"--[no]{flag}:" in told, flag


def test_as_a_process_it_is_quiet_and_light(tiny_text, tmp_path):
    flags = [f"--text={tiny_text}/en.txt", "--size=400", f"--out={tmp_path}/new"]
    outcome = done(run(TOOL, *flags))
    said = [line for line in outcome.err.splitlines() if "read:" not in line and line.strip()]
    assert len(said) == 1 and said[0].startswith("learning from "), outcome.err
    assert "largest size possible" in run(TOOL, *flags, "--size=9000", "--overwrite").sentence
    assert heavy(TOOL, *flags, "--overwrite") == "[]"
