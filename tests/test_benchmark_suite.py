"""Lists of benchmarks, and the page that their figures are put into."""

import json
import shutil
from types import SimpleNamespace

import pytest
from commands import ROOT, call

from tools import cli
from tools.benchmarks import measured, record, suite

PAGE = f"# Speed\n\nBy hand.\n\n{record.BEGIN}\n{record.END}\n\nAlso by hand.\n"


def row(name="full 24M", ours=1234.5, **others):
    told = {"verb": "train", "command": "x", "date": "2026-01-02", "hardware": "a CPU, 2 cores"}
    told |= {"versions": {"jax": "1.2"}} | others.pop("measured", {})
    figures = {"name": name, "ours": ours, "peer": 1000.0, "ratio": ours / 1000}
    figures |= {"unit": "tokens/s", "runs": 3, "peak_mib": 99.5}
    return figures | others | {"measured": told}


def put(tmp_path, *rows):
    """Records rows in a page, which is made if there is none; gives its text."""
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    if not page.exists():
        page.write_text(PAGE)
    figures.write_text(json.dumps(rows))
    record.record([str(figures)], page)
    return page.read_text()


# --- the page ------------------------------------------------------------------------------------


def test_figures_are_put_in_and_replaced(tmp_path):
    first = put(tmp_path, row(), row("lora 24M"))
    assert first.startswith("# Speed\n\nBy hand.\n") and first.endswith("\n\nAlso by hand.\n")
    assert "| full 24M | 1,234 | 1,000 | 1.23 | tokens/s | 99.5 |" in first
    assert "2026-01-02, jax 1.2 |" in first
    again = put(tmp_path, row(ours=2000.0, mfu=0.5, measured={"date": "2026-02-03"}))
    assert again.count("| full 24M |") == 1 and "| full 24M | 2,000 |" in again
    assert "2026-02-03" in again and "50.0%" in again
    assert "| lora 24M | 1,234 |" in again, "what was not measured again stays"
    assert put(tmp_path, row("lora 24M")) == again, "the same figures change nothing"


def test_each_machine_has_a_section_and_each_verb_a_table(tmp_path):
    put(tmp_path, row(), row("a|b", measured={"verb": "freeze"}))
    text = put(
        tmp_path,
        row(measured={"hardware": "1 x GPU; CPU"}),
        row("a|b", measured={"verb": "freeze"}),
    )
    assert [line for line in text.splitlines() if line.startswith(("###", "**"))] == [
        *("### 1 x GPU; CPU", "**train**", "### a CPU, 2 cores", "**freeze**", "**train**")
    ]
    assert text.count("a\\|b") == 1


def test_a_page_or_figures_that_cannot_be_are_refused(tmp_path):
    put(tmp_path, row())
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    before = page.read_text()

    def refused(text, on=page):
        figures.write_text(text)
        return call("tools.benchmark", "record", f"--figures={figures}", f"--page={on}").sentence

    unstamped = row()
    del unstamped["measured"]
    assert "where it was measured" in refused(json.dumps([unstamped]))
    assert "cannot be read" in refused("{")
    assert "no rows" in refused("{}")
    assert page.read_text() == before
    page.write_text(before.replace(record.END, ""))
    assert "needs each of these lines once" in refused(json.dumps([row()]))
    assert "cannot be read" in refused(json.dumps([row()]), tmp_path / "none.md")
    assert "--figures must be given" in call("tools.benchmark", "record").sentence


def test_recording_what_a_benchmark_wrote(tmp_path):
    """The page of the project can be recorded into, and says which packages were there."""
    page = tmp_path / "page.md"
    shutil.copy(ROOT / "docs" / "benchmarks.md", page)
    figures = tmp_path / "figures.json"
    (stamped,) = measured.stamped(
        [{**row(), "name": "new row"}], "freeze", "tools.benchmark freeze"
    )
    figures.write_text(json.dumps([stamped]))
    arguments = (f"--figures={figures}", f"--page={page}")
    before = page.read_text()
    assert call("tools.benchmark", "record", *arguments, "--dry_run").status == 0
    assert page.read_text() == before
    assert call("tools.benchmark", "record", *arguments).status == 0
    text = page.read_text()
    assert f"### {measured.hardware()}" in text and f"jax {measured.versions()['jax']}" in text
    assert text.partition(record.BEGIN)[0] == before.partition(record.BEGIN)[0]
    assert set(before.splitlines()) <= set(text.splitlines()), "a figure has gone"


# --- suites --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_every_command_of_a_suite_would_run(name, monkeypatch, tiny_text, tiny_tokenizer):
    read = (f"{tiny_text}/en.txt", str(tiny_tokenizer))
    several = suite.commands(name, text=read[0], tokenizer=read[1])
    small = suite.commands(name, tiny=True, text=read[0], tokenizer=read[1])
    assert len({command.name for command in several}) == len(several) == len(small)
    for command in (*several, *small):
        assert call(command.module, *command.arguments, "--dry_run").status == 0
    assert all("M" not in word and "B" not in word for c in small for word in c.arguments[1:2])


def test_the_tpu_suite_names_stages_and_slices():
    outcome = call("tools.benchmark", "--suite=tpu", "--dry_run")
    lines = outcome.out.splitlines()
    assert len(lines) == 12 and all(line.startswith("python -m maxlite.plan ") for line in lines)
    for command in suite.commands("tpu"):
        arguments = [a for a in command.arguments if not a.startswith("--topology")]
        assert call(command.module, *arguments).status == 0


def test_a_plan_is_a_row():
    command = suite.Command("maxlite.plan", ("--config=a.py", "--topology=v5e:8x8"))
    machine = {"name": "v5e:8x8", "step_s": 2.0, "flops_per_chip": 4e14, "mfu": 0.5}
    machine |= {"peak_gib": 3.0, "compile_s": 9.0}
    (made,) = suite._planned(command, {"topology": machine})
    assert (made["name"], made["ours"], made["tflops"], made["peak_mib"]) == ("a.py", 2, 200, 3072)
    assert made["measured"]["hardware"].startswith("v5e:8x8, ")
    refused = machine | dict.fromkeys(("step_s", "mfu", "peak_gib"))
    assert suite._planned(command, {"topology": refused})[0]["ours"] is None


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of a suite of three commands: two that write a row, and one that fails between them."""

    def short(name, ok=True):
        body = "json.dump([{'name': sys.argv[1]}], open(sys.argv[2].partition('=')[2], 'w'))"
        (tmp_path / f"{name}.py").write_text(f"import json, sys\n{body if ok else 'sys.exit(3)'}\n")
        return suite.Command(name, (name,))

    several = [short("one"), short("two", ok=False), short("three")]
    monkeypatch.setattr(suite, "commands", lambda *_: several)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rest = {"suite": "cpu", "tiny": False, "text": "", "tokenizer": "", "dry_run": False}
    return SimpleNamespace(**rest, parts=str(tmp_path / "parts"))


def test_a_command_that_fails_does_not_stop_the_others(settings, capfd):
    with pytest.raises(cli.Unsuccessful) as failed:
        suite.measure(settings)
    assert [row["name"] for row in failed.value.figures] == ["one", "three"]
    assert "two ended with status 3" in str(failed.value)


def test_what_is_there_is_not_measured_again(settings, tmp_path, capfd):
    with pytest.raises(cli.Unsuccessful):
        suite.measure(settings)
    (tmp_path / "parts" / "00-one.json").write_text('[{"name": "kept"}]')
    (tmp_path / "parts" / "01-two.json").write_text('[{"name": "brought"}]')
    assert [row["name"] for row in suite.measure(settings)] == ["kept", "brought", "three"]
    assert "already" in capfd.readouterr().err


def test_a_command_has_its_time(settings, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(suite, "LIMIT", 0.5)
    (tmp_path / "two.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(cli.Unsuccessful, match="two took more than"):
        suite.measure(settings)


def test_parts_that_cannot_be_made(settings, tmp_path):
    settings.parts = str(tmp_path / "no" / "parts")
    with pytest.raises(suite.InputError, match="--parts"):
        suite.measure(settings)
