"""Each command of a page under docs/ is typed, in the order of the page."""

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
    return manual_desk.laid_and_run(here, make_folder, tiny_text, tiny_tokenizer)


@pytest.mark.parametrize("page", PAGES, ids=manual.name)
def test_what_a_page_says_to_type(page, laid, tmp_path):
    manual_desk.type_all(page, laid, tmp_path / "desk")


def test_every_page_with_commands_is_here():
    assert {manual.name(page) for page in PAGES} | APART == {
        manual.name(page) for page in manual.PAGES if "```bash" in page.read_text("utf-8")
    }
    assert (ROOT / "docs" / "recipes" / "eeve.md") in PAGES
