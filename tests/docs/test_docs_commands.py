"""Each command of a page under docs/ is typed, in the order of the page."""

import shutil

import manual
import manual_desk
import pytest
from commands import ROOT

APART = {"README.md", "CONTRIBUTING.md", "docs/evaluation.md"}  # see test_docs_readme.py
PAGES = [page for page in manual.PAGES if manual.name(page) not in APART and manual.commands(page)]

# `call` runs as a program what is imported here.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


@pytest.fixture(scope="module")
def laid(tmp_path_factory, make_folder, tiny_text, tiny_tokenizer):
    here = tmp_path_factory.mktemp("pages")
    manual_desk.lay(here, make_folder, tiny_text, tiny_tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        manual_desk.run_once(here)
    return here


@pytest.mark.parametrize("page", PAGES, ids=manual.name)
def test_what_a_page_says_to_type(page, laid, tmp_path, monkeypatch):
    several = manual.commands(page)
    desk = shutil.copytree(laid, tmp_path / "desk")
    manual_desk.without(desk, manual.made(several))
    monkeypatch.chdir(desk)
    for each in several:
        manual.enter(each)


def test_every_page_with_commands_is_here():
    assert {manual.name(page) for page in PAGES} | APART == {
        manual.name(page) for page in manual.PAGES if "```bash" in page.read_text("utf-8")
    }
    assert (ROOT / "docs" / "recipes" / "eeve.md") in PAGES
