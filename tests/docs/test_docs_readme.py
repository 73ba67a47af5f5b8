"""The README and what stands around it: each command is typed, and what it leads to is there."""

from collections import Counter

import manual
import manual_desk
import pytest
import yaml
from commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "evaluation.md"]

# `call` runs as a program what is imported here.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


@pytest.fixture(scope="module")
def laid(tmp_path_factory, make_folder, tiny_text, tiny_tokenizer):
    here = tmp_path_factory.mktemp("readme")
    manual_desk.laid_and_run(here, make_folder, tiny_text, tiny_tokenizer)
    elsewhere = tmp_path_factory.mktemp("recipe")
    manual_desk.run_recipe(here, elsewhere, make_folder, tiny_text, tiny_tokenizer)
    return here


@pytest.mark.parametrize("page", PAGES, ids=manual.name)
def test_what_a_page_says_to_type(page, laid, tmp_path):
    manual_desk.type_all(page, laid, tmp_path / "desk")


def test_what_is_left_to_others_is_in_a_page():
    typed = Counter(" ".join(one.words) for page in manual.PAGES for one in manual.commands(page))
    assert not manual.ELSEWHERE.keys() - typed.keys()


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(manual.TOOLS) > 25
    names = [module.removeprefix("tools.") for module in manual.TOOLS]
    assert not [name for name in names if f"`{name}`" not in text and f"tools.{name}" not in text]


def test_the_readme_can_be_read_in_ten_minutes():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 170 and len(text.split()) <= 1300


def test_the_citation():
    """Citation File Format 1.2.0 asks for these keys."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert told["cff-version"] == "1.2.0" and told["type"] == "software"
    assert told["message"] and told["title"] == "maxlite" and told["license"] == "Apache-2.0"
    assert told["authors"] == [{"name": "The maxlite authors"}]
    setup = (ROOT / "setup.py").read_text("utf-8")
    assert f'version="{told["version"]}"' in setup
    papers = {one["identifiers"][0]["value"]: one for one in told["references"]}
    numbers = ("2402.14714", "2304.08177", "2408.11294", "2312.15166", "2402.02791")
    assert papers.keys() == {f"arXiv:{number}" for number in numbers}
    for number, paper in papers.items():
        assert paper["type"] == "article" and paper["title"] and paper["authors"]
        assert paper["url"] == f"https://arxiv.org/abs/{number.removeprefix('arXiv:')}"
