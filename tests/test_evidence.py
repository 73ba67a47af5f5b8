"""`evidence` from a model and text to tables in a page."""

import json
import subprocess
import sys

import pytest
from commands import ROOT, call, done, run

from maxlite.report.claims import CLAIMS

# `call` runs as a program what is imported here.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

PAGE = "# Page\n\n<!-- chinese_llama -->\nold\n<!-- end of chinese_llama -->\n\nrest\n"


def test_a_claim_from_a_model_to_a_table(make_folder, tmp_path):
    make_folder(tmp_path / "model", num_hidden_layers=2)
    for language, stories in (("ko", 120), ("en", 20)):
        words = [f"--language={language}", f"--stories={stories}", f"--out={tmp_path}/{language}"]
        script = ROOT / "launch" / "demo" / "make_text.py"
        subprocess.run([sys.executable, script, *words], check=True)
        (tmp_path / language).rename(tmp_path / f"{language}.txt")
    page, figures = tmp_path / "page.md", tmp_path / "told.json"
    page.write_text(PAGE, "utf-8")
    given = {"model": tmp_path / "model", "corpus": tmp_path / "ko.txt", "claims": "chinese_llama"}
    given |= {"keep": tmp_path / "en.txt", "seeds": 1, "out": tmp_path / "out", "page": page}
    given |= {"set": "megabytes=0.01,seq_len=32", "json": figures}
    arguments = [f"--{key}={value}" for key, value in given.items()]
    outcome = done(run("tools.evidence", *arguments, seconds=600))
    (table,) = json.loads(figures.read_text("utf-8"))["chinese_llama"]
    assert [row[0] for row in table[1:]] == [
        "input table, then adapters and tables",
        "adapters and tables at once",
        "adapters alone",
    ]
    before, after = ([float(row[i]) for row in table[1:]] for i in (2, 3))
    assert before[0] == before[1] and all(new < old for new, old in zip(after, before, strict=True))
    text = page.read_text("utf-8")
    assert text.startswith("# Page\n\n<!-- chinese_llama -->\n|  | parameters | new, before |")
    assert text.endswith("<!-- end of chinese_llama -->\n\nrest\n") and "old" not in text
    assert "model, ko.txt, en.txt" in outcome.out and "1 seed" in outcome.out

    again = run("tools.evidence", *arguments, "--overwrite")
    assert again.status == 0 and again.err.count(": done") > 5
    assert page.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--claims=eve",), "--claims has no 'eve'; there are eeve, chinese_llama"),
        (("--claims=hooks", "--page=none.md"), "--page=none.md cannot be read"),
        (("--claims=hooks", "--set=megabytes"), "--set has 'megabytes'; write KEY=VALUE"),
        (("--claims=solar", "--corpus=none.txt"), "no file matches 'none.txt'"),
    ],
)
def test_bad_input(arguments, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in call("tools.evidence", *arguments).sentence
    assert not list(tmp_path.iterdir())


def test_a_page_without_marks_is_refused(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE, "utf-8")
    outcome = call("tools.evidence", "--claims=hooks", f"--page={page}", f"--out={tmp_path}/out")
    assert (
        "needs these lines: <!-- hooks --> and, below it, <!-- end of hooks -->" in outcome.sentence
    )
    more = call("tools.evidence", "--claims=chinese_llama", f"--page={page}#mine")
    assert "needs these lines: <!-- chinese_llama mine -->" in more.sentence
    assert page.read_text("utf-8") == PAGE and not (tmp_path / "out").exists()


def test_the_page_of_the_project_has_a_place_and_a_command_for_each_claim():
    text = (ROOT / "docs" / "evidence.md").read_text("utf-8")
    for name in CLAIMS:
        assert f"python -m tools.evidence --claims={name}\n" in text
        marks = [name] if name in ("solar", "hooks") else [name, f"{name} reviews"]
        for mark in marks:
            between = text.split(f"<!-- {mark} -->\n")[1].split(f"<!-- end of {mark} -->")[0]
            assert between.startswith("|") and "±" in between


def test_a_table_of_hooks():
    rows = [
        {"decay": 0.1, "ours": 0.0, "peer": peer, "arithmetic": 0.6, "moved": 17.0}
        for peer in (0.5, 0.7)
    ]
    head, row = CLAIMS["hooks"][0](rows)
    assert len(head) == len(row) == 5
    assert row == ["0.1", "0.0000 ± 0.0000", "0.6000 ± 0.1000", "0.6000", "17.0 ± 0.0"]
