"""report_tokenizer, as a user calls it."""

import json

import pages
import pytest
from commands import call, run, snapshot

from maxlite.tokenizer.definition import open_definition, write_definition

TOOL = "tools.report_tokenizer"
NASTY = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_tokenizer, tiny_text):
    """Tokenizers old, new and foreign; texts in folders en and ko; a model's config.json."""
    desk = tmp_path_factory.mktemp("desk")
    old = open_definition(tiny_tokenizer)
    write_definition(old, desk / "old")
    syllables = "가나다라마바사아자하강산달별물불꽃말길집"
    write_definition(old.extended([*syllables, "강산", "산달별물"]), desk / "new")
    nasty = [c for c in dict.fromkeys(NASTY + "\u202e") if c not in old.ids]
    write_definition(old.extended([*nasty, NASTY, "a\u202e", *"강산"]), desk / "nasty")
    for folder, file in (("en", "en.txt"), ("ko", "xx.txt")):
        (desk / folder).mkdir()
        (desk / folder / "a.txt").write_text((tiny_text / file).read_text("utf-8"), "utf-8")
    (desk / "ko" / "<b>.jsonl").write_text(json.dumps({"text": NASTY + " 강"}) + "\n")
    model = {
        "model_type": "llama", "vocab_size": 400, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "tie_word_embeddings": True,
    }  # fmt: skip
    (desk / "tiny").mkdir()
    (desk / "tiny" / "config.json").write_text(json.dumps(model))
    return desk


@pytest.fixture
def said(desk, tmp_path):
    """A command line that works."""
    return {
        "base": desk / "old", "tokenizer": f"{desk}/new,{desk}/nasty",
        "text": f"{desk}/*/*.txt,{desk}/ko/*.jsonl", "model": f"{desk}/tiny",
        "out": tmp_path / "report.html", "json": tmp_path / "report.json", "workers": 1,
    }  # fmt: skip


def asked(said, **changes):
    flags = {key: value for key, value in {**said, **changes}.items() if value is not None}
    return [f"--{key}={value}" for key, value in flags.items()]


def done(said, **changes):
    outcome = call(TOOL, *asked(said, **changes))
    assert outcome.status == 0, outcome.err
    return outcome


def refused(said, folder, *more, **changes):
    before = snapshot(folder)
    sentence = call(TOOL, *asked(said, **changes), *more).sentence
    assert snapshot(folder) == before
    return sentence


def test_a_page_with_everything(said, tmp_path):
    outcome = done(said)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]
    page = pages.read((tmp_path / "report.html").read_text("utf-8"))
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    headings = [h.text for h in page.all("h2")]
    assert headings == [
        "Summary", "Fertility", "Texts that changed", "Pieces never produced",
        "How often pieces occur", "New pieces in use", "Share of the model", "Odd pieces",
        "Two forms of one tokenizer",
    ]  # fmt: skip
    assert all(s.all("p", class_="lead")[0].text for s in page.all("section"))
    assert page.all("h1")[0].text == "Tokenizer report: new, nasty"
    assert len(page.all("svg")) == 6
    cells = [cell.text for cell in page.all("td") + page.all("th")]
    total = figures["total"]["tokens_per_character"]
    assert f"{total['old']:.3f}" in cells and f"{total['new']:.3f}" in cells
    assert {"en/a.txt", "ko/<b>.jsonl"} <= set(cells)
    assert [g["name"] for g in figures["groups"]] == ["en", "ko"]
    codes = {code.text for code in page.all("code")}
    assert NASTY in codes and "aU+202E" in codes and "산달별물" in codes
    assert f"{total['old']:.4f}" in outcome.out
    dead = figures["tokenizers"][1]["unreachable"]["count"]
    assert f"new: 422 ids, {dead} pieces that no text produces" in outcome.out and dead >= 1
    assert "wrote" in outcome.err


def test_a_tokenizer_alone(said, desk, tmp_path):
    done(said, base=None, tokenizer=f"{desk}/old/tokenizer.json", model=None)
    page = pages.read((tmp_path / "report.html").read_text("utf-8"))
    headings = [h.text for h in page.all("h2")]
    assert headings == [
        "Summary", "Fertility", "Pieces never produced", "How often pieces occur", "Odd pieces",
    ]  # fmt: skip
    assert page.all("h1")[0].text == "Tokenizer report: old"


def test_names_that_are_given(said, desk, tmp_path):
    done(
        said, base=f"before={desk}/old", tokenizer=f"after={desk}/new",
        text=f"English={desk}/en/*.txt,{desk}/ko/a.txt", model=f"1B={desk}/tiny/config.json",
    )  # fmt: skip
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [t["name"] for t in figures["tokenizers"]] == ["before", "after"]
    assert [g["name"] for g in figures["groups"]] == ["English", "ko"]
    (model,) = figures["models"]
    width, rows = 32, {"before": 400, "after": figures["tokenizers"][1]["rows"]}
    assert model["name"] == "1B" and model["now"]["rows"] == 400
    for name, tables in model["tokenizers"].items():
        assert tables["tables"] == rows[name] * width
        assert tables["parameters"] - tables["tables"] == 2 * (4 * 32 * 32 + 3 * 32 * 48 + 64) + 32


def test_no_extension_is_told_at_the_top(said, desk, tmp_path):
    done(said, base=f"{desk}/new", tokenizer=f"{desk}/old")
    page = pages.read((tmp_path / "report.html").read_text("utf-8"))
    remarks = [p.text for p in page.all("section")[0].all("p", class_="remark bad")]
    assert len(remarks) == 1 and "does not extend the base" in remarks[0]


def test_only_some_lines_are_compared(said, tmp_path):
    done(said, lines=5)
    figures = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert [f["texts"] for f in figures["tokenizers"][1]["changes"]["files"]] == [5, 5, 1]
    page = pages.read((tmp_path / "report.html").read_text("utf-8"))
    assert "Only the first 5 texts of each file" in page.all("header")[0].text


def test_dry_run_writes_nothing(said, tmp_path):
    outcome = call(TOOL, *asked(said), "--dry_run")
    assert outcome.status == 0 and "3 tokenizers" in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_replaced_unasked(said, tmp_path):
    (tmp_path / "report.html").write_text("mine")
    assert "exists" in refused(said, tmp_path)
    done(said, overwrite="true")
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_bad_input_is_refused(said, desk, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "broken.txt").write_bytes(b"fine\nno\xff\n")
    assert "empty" in refused(said, tmp_path, text=tmp_path / "empty.txt")
    assert "line 2: not valid UTF-8" in refused(said, tmp_path, text=tmp_path / "broken.txt")
    assert "no file matches" in refused(said, tmp_path, text=tmp_path / "*.none")
    assert "twice" in refused(said, tmp_path, text=f"{desk}/en/*.txt,{desk}/*/a.txt")
    assert "there is no tokenizer" in refused(said, tmp_path, tokenizer=tmp_path / "none")
    assert "called 'old'" in refused(said, tmp_path, tokenizer=f"{desk}/old")
    assert "called 'new'" in refused(said, tmp_path, tokenizer=f"{desk}/new,{desk}/new")
    assert "one is the base" in refused(said, tmp_path, base=f"{desk}/old,{desk}/new")
    assert "config.json" in refused(said, tmp_path, model=desk / "en")
    assert "Klingon" in refused(said, tmp_path, scripts="Klingon")
    assert "--out" in refused(said, tmp_path, out=tmp_path / "none" / "x.html")
    assert "--out" in refused(said, tmp_path, "--overwrite", out=tmp_path)
    for flag in ("tokenizer", "text", "out"):
        assert f"--{flag}" in refused(said, tmp_path, **{flag: ""})


def test_a_process_of_its_own(said, tmp_path):
    outcome = run(TOOL, *asked(said, tokenizer=said["tokenizer"].split(",")[0], workers=2))
    assert outcome.status == 0, outcome.err
    assert "new pieces" in outcome.out and (tmp_path / "report.html").stat().st_size > 10_000
