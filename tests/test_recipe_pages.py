"""What docs/recipes says to type is typed, as a plan."""

import re
import shlex

import pytest
from commands import ROOT, call, done

PAGES = sorted((ROOT / "docs" / "recipes").glob("*.md"))


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder):
    here = tmp_path_factory.mktemp("pages")
    make_folder(here / "MODEL")
    (here / "text").mkdir()
    (here / "text" / "a.txt").write_text("봄이 왔다.\n" * 20, "utf-8")
    return here


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def commands(page):
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            yield shlex.split(line, comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_of_a_page_can_be_planned(page, desk, monkeypatch):
    monkeypatch.chdir(desk)
    several = list(commands(page))
    assert several
    for python, m, module, *arguments in several:
        assert (python, m, module) == ("python", "-m", "maxlite.recipe")
        outcome = done(call(module, *arguments, "--plan"))
        assert "1. clean: to do" in outcome.out and ". after: to do" in outcome.out
    assert not (desk / "runs").exists()


def test_the_recipe_of_ones_own(desk, monkeypatch):
    monkeypatch.chdir(desk)
    (text,) = blocks(ROOT / "docs" / "recipes" / "README.md", "python")
    (desk / "mine.py").write_text(text, "utf-8")
    keys = ("model=MODEL", "corpus=text/*.txt", "out=runs/mine", "size=laptop", "keep=text/a.txt")
    arguments = ["--config=mine.py", *(f"--config.{key}" for key in keys), "--plan"]
    outcome = done(call("maxlite.recipe", *arguments))
    found = re.findall(r"^\d+\. (\w+): to do", outcome.out, re.M)
    assert found == ["clean", "before", "all", "model", "after", "samples"]
    assert "--config.model=MODEL " in outcome.out
