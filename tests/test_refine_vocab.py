"""The tool that refines a vocabulary by frequency, as a user calls it."""

import json
import random
import shutil
from collections import Counter

import pytest
import sentencepiece
from commands import call, done, heavy, refused, run, snapshot

from maxlite.tokenizer import load_tokenizer, refining
from maxlite.tokenizer.counts import read_counts
from maxlite.tokenizer.definition import write_definition
from maxlite.tokenizer.training import train

TOOL = "tools.refine_vocab"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_text, tiny_tokenizer):
    """A folder of text in which some words are frequent, and its lines."""
    folder = tmp_path_factory.mktemp("refine")
    chance = random.Random(3)
    words = [
        "".join(chance.choices("가나다라마바사아자하", k=chance.randint(1, 4))) for _ in range(60)
    ]
    lines = [" ".join(chance.choices(words, range(60, 0, -1), k=6)) for _ in range(900)]
    lines[5:5] = ["뷁"] * 41 + ["햏"] * 39
    (folder / "a.txt").write_text("\n".join(lines[:600]) + "\n", "utf-8")
    with (folder / "b.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": line}) + "\n" for line in lines[600:])
    return folder, lines


@pytest.fixture
def flags(desk, tiny_tokenizer, tmp_path):
    return [
        f"--base={tiny_tokenizer}", f"--text={desk[0]}/*.txt,{desk[0]}/b.jsonl", "--script=Hangul",
        "--candidates=400", "--min_count=40", f"--out={tmp_path}/new",
    ]  # fmt: skip


def test_from_text_to_tokenizer(desk, flags, tmp_path, tiny_tokenizer):
    outcome = done(call(TOOL, *flags, f"--json={tmp_path}/f.json"))
    out, lines = tmp_path / "new", desk[1]
    names = {"tokenizer.model", "tokenizer.json", "refine.json", "counts.json"}
    assert names < {path.name for path in out.iterdir()} and not (tmp_path / "new.work").exists()
    own = sentencepiece.SentencePieceProcessor(model_file=str(out / "tokenizer.model"))
    numbers = Counter(i for line in lines for i in own.encode(line))
    seen = {own.id_to_piece(i): numbers[i] for i in range(400, own.get_piece_size())}
    assert len(seen) > 15 and all(number >= 40 for number in seen.values())
    assert seen["뷁"] == 41 and "햏" not in seen, "which are characters seen 41 and 39 times"
    counts = read_counts(out / "counts.json")
    counts.check(load_tokenizer(out / "tokenizer.model"))
    assert counts.counts.tolist() == [numbers[i] for i in range(own.get_piece_size())]
    assert [file.documents for file in counts.files] == [600, 380]
    figures = json.loads((tmp_path / "f.json").read_text())
    report = json.loads((out / "refine.json").read_text())
    assert report["rounds"] == figures["rounds"] and len(report["banned"]) == figures["banned"]
    assert figures["new"] == len(seen) and figures["rows"] == 400 + len(seen)
    assert (figures["min_count"], figures["method"]) == (40, "merge")
    assert figures["tokens"] == sum(numbers.values()) and not figures["rare"]
    last = figures["rounds"][-1]
    assert (last["dropped"], last["added"]) == (0, 0)
    assert last["tokens_per_character"] == figures["tokens"] / sum(map(len, lines))
    table = [line.split() for line in outcome.out.splitlines()[: len(figures["rounds"]) + 1]]
    assert table[0][:3] == ["round", "candidates", "dropped"]
    assert [row[0] for row in table[1:]] == [str(row["round"]) for row in figures["rounds"]]
    assert f"400 ids + {len(seen):,} new = {400 + len(seen):,}" in outcome.out
    assert "exists already" in refused(tmp_path, TOOL, *flags)
    before = snapshot(out)
    done(call(TOOL, *flags, "--overwrite", "--workers=1"))
    assert snapshot(out) == before, "the same text gives the same files"


def test_it_goes_on_where_it_stopped(flags, tmp_path, monkeypatch):
    done(call(TOOL, *flags))
    whole = snapshot(tmp_path / "new")
    shutil.rmtree(tmp_path / "new")
    work, next_round, calls = tmp_path / "new.work", refining.next_round, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return next_round(*arguments)

    monkeypatch.setattr(refining, "next_round", interrupted)
    assert call(TOOL, *flags).status == 130
    assert [path.name for path in work.iterdir()] == ["state.json"]
    assert not (tmp_path / "new").exists()
    told = refused(tmp_path, TOOL, *flags, "--min_count=41", "--as_published")
    assert "begun with another --as_published, --min_count" in told and str(work) in told
    assert "would go on after 1 rounds" in done(call(TOOL, *flags, "--dry_run")).err
    shutil.copytree(work, tmp_path / "other.work")
    outcome = done(call(TOOL, *flags))
    assert "going on after round 1" in outcome.err and "candidates come from" not in outcome.err
    assert snapshot(tmp_path / "new") == whole and not work.exists()
    anew = done(call(TOOL, *flags, f"--out={tmp_path}/other", "--min_count=60", "--overwrite"))
    assert "going on" not in anew.err and not (tmp_path / "other.work").exists()
    work.mkdir()
    (work / "state.json").write_text('{"kind": "letters"}')
    assert "no work that can be gone on with" in refused(tmp_path, TOOL, *flags, "--overwrite")


def test_lists_and_a_tokenizer_of_candidates(desk, flags, tmp_path, tiny_tokenizer):
    write_definition(train(desk[1], 400, "sentencepiece_bpe"), tmp_path / "candidates")
    (tmp_path / "keep").write_text("햏뷁햏뷁\n햏가\n", "utf-8")
    assert "cannot be kept" in refused(tmp_path, TOOL, *flags, f"--keep_list={tmp_path}/keep")
    (tmp_path / "keep").write_text("햏가\r\n", "utf-8-sig")
    (tmp_path / "ban").write_text("뷁\n", "utf-8")
    lists = [f"--keep_list={tmp_path}/keep", f"--ban_list={tmp_path}/ban"]
    more = [f"--candidates={tmp_path}/candidates", f"--json={tmp_path}/f.json"]
    outcome = done(call(TOOL, *flags, *lists, *more))
    tokenizer = load_tokenizer(tmp_path / "new")
    assert tokenizer.find("햏가") and tokenizer.find("햏") and not tokenizer.find("뷁")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["rare"]["햏가"] == 0 and "kept or parts of others" in outcome.out
    assert figures["keep"] == ["햏가"]
    report = json.loads((tmp_path / "new" / "refine.json").read_text())
    assert report["banned"][0] == "뷁"
    (tmp_path / "ban").write_text("햏가\n", "utf-8")
    assert "both to keep and banned" in refused(
        tmp_path, TOOL, *flags, *lists, f"--out={tmp_path}/no"
    )


@pytest.mark.parametrize("kind", ["sentencepiece", "byte_level"])
def test_continued_bpe(kind, desk, flags, tmp_path, tiny_text):
    if kind == "byte_level":
        text = (tiny_text / "en.txt").read_text("utf-8").split("\n")
        write_definition(train(text, 320, kind), tmp_path / "base")
        flags[0] = f"--base={tmp_path}/base"
        assert "take --method=continued_bpe" in refused(tmp_path, TOOL, *flags, "--method=merge")
    else:
        flags.append("--method=continued_bpe")
    outcome = done(call(TOOL, *flags, f"--json={tmp_path}/f.json"))
    figures = json.loads((tmp_path / "f.json").read_text())
    tokenizer = load_tokenizer(tmp_path / "new")
    assert figures["method"] == "continued_bpe" and tokenizer.rows == figures["rows"]
    numbers = Counter(i for line in desk[1] for i in tokenizer.encode_one(line).tolist())
    assert figures["tokens"] == sum(numbers.values())
    new = range(figures["base_rows"], figures["rows"])
    rare = [tokenizer.piece(i) for i in new if numbers[i] < 40]
    assert rare == list(figures["rare"]) and len(new) > 15 + len(rare)
    assert not rare or (kind == "byte_level" and "parts of others" in outcome.out)


def test_a_dry_run_writes_nothing(flags, desk, tmp_path):
    outcome = done(call(TOOL, *flags, "--min_count=auto", "--dry_run", f"--json={tmp_path}/f"))
    size = sum((desk[0] / name).stat().st_size for name in ("a.txt", "b.jsonl"))
    assert f"would count {size / 1e3:.3g}kB in 2 files" in outcome.err
    assert "about 100" in outcome.err and "by merge: 400 pieces" in outcome.err
    assert not snapshot(tmp_path)


def test_bad_input(flags, desk, tmp_path, tiny_tokenizer):
    for flag in ("base", "text", "script", "out"):
        some = [f for f in flags if not f.startswith(f"--{flag}=")]
        assert f"--{flag} must be given" in refused(tmp_path, TOOL, *some)
    assert "not a script" in refused(tmp_path, TOOL, *flags, "--script=Klingon")
    assert "no tokenizer at" in refused(tmp_path, TOOL, *flags, f"--base={tmp_path}/no")
    write_definition(train(desk[1], 300, "sentencepiece_unigram"), tmp_path / "unigram")
    assert "is a Unigram model" in refused(tmp_path, TOOL, *flags, f"--base={tmp_path}/unigram")
    for wrong in ("0", "-3", "6000.5", "many"):
        assert "must be auto, or a number" in refused(
            tmp_path, TOOL, *flags, f"--min_count={wrong}"
        )
    assert "must be positive" in refused(tmp_path, TOOL, *flags, "--candidates=0")
    assert "no tokenizer at" in refused(tmp_path, TOOL, *flags, "--candidates=nowhere")
    learn = [*flags, "--method=continued_bpe"]
    assert "must be a number here" in refused(
        tmp_path, TOOL, *learn, f"--candidates={tiny_tokenizer}"
    )
    assert "leave --scores=ranked" in refused(tmp_path, TOOL, *learn, "--scores=published")
    assert "no candidates" in refused(tmp_path, TOOL, *flags, f"--candidates={tiny_tokenizer}")
    assert "no file matches" in refused(tmp_path, TOOL, *flags, "--text=/nowhere/*")
    (tmp_path / "bad.txt").write_bytes(b"good\nb\xffd\n")
    told = refused(tmp_path, TOOL, *flags, f"--text={tmp_path}/bad.txt")
    assert f"{tmp_path}/bad.txt, line 2: not valid UTF-8" in told
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "there is no text" in refused(tmp_path, TOOL, *flags, f"--text={tmp_path}/empty.txt")
    assert "cannot be read" in refused(tmp_path, TOOL, *flags, f"--keep_list={tmp_path}/no")
    assert "lists no pieces" in refused(tmp_path, TOOL, *flags, f"--ban_list={tmp_path}/empty.txt")
    assert "not valid UTF-8" in refused(tmp_path, TOOL, *flags, f"--ban_list={tmp_path}/bad.txt")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "model.safetensors").touch()
    assert "is more than a tokenizer" in refused(tmp_path, TOOL, *flags, "--overwrite")


def test_what_is_not_utf8_is_left_out_if_asked(flags, desk, tmp_path):
    data = (desk[0] / "a.txt").read_bytes()
    (tmp_path / "a.txt").write_bytes(b"\xff\n" + data + b"\xfe\xff\n")
    flags[1] = f"--text={tmp_path}/a.txt"
    outcome = done(call(TOOL, *flags, "--skip_invalid", f"--json={tmp_path}/f.json"))
    assert json.loads((tmp_path / "f.json").read_text())["skipped"] == 2
    assert "2 documents left out" in outcome.out


def test_too_many_rounds_can_be_gone_on_with(flags, tmp_path):
    told = call(TOOL, *flags, "--max_rounds=1").sentence
    assert "after 1 rounds it is not settled" in told
    assert "going on after round 1" in done(call(TOOL, *flags)).err


def test_as_a_process_it_is_light(flags, tmp_path):
    assert heavy(TOOL, *flags) == "[]"
    assert "exists already" in run(TOOL, *flags).sentence
    told = done(call(TOOL, "--help")).out
    for flag in "base text field script candidates min_count keep_list ban_list method".split():
        assert f"--{flag}:" in told, flag
