"""What pages mention beside their commands: flags, config files, links."""

import re
import shlex

import manual
import pytest
import test_house
from commands import ROOT, call, done

from maxlite import config as config_lib
from maxlite import rules, transforms
from maxlite.config import Config

MODULES = [*manual.TOOLS, "maxlite.train", "maxlite.plan", "maxlite.recipe"]
FOREIGN = {  # flags of other people's programs
    "ntasks-per-node",
    "gpus-per-node",
    "xla_cpu_prefer_vector_width",
    "xla_cpu_use_onednn",
    "xla_cpu_experimental_onednn_fusion_type",
}

# `call` runs as a program what is imported here.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")


def spans(page):
    """What stands between backticks on a page, outside blocks."""
    return re.findall(r"`([^`]+)`", manual.prose(page))


def words_of(span):
    try:
        return shlex.split(span)
    except ValueError:
        return span.split()


@pytest.mark.parametrize("page", manual.PAGES, ids=manual.name)
def test_flags_of_a_mentioned_command_are_known(page):
    wrong = []
    for words in map(words_of, spans(page)):
        if words[:2] == ["python", "-m"] and words[2] in MODULES:
            given = [word[2:].partition("=")[0] for word in words if word.startswith("--")]
            file = next((w.partition("=")[2] for w in words if w.startswith("--config=")), "")
            known = manual.known_flags(words[2], file if file != "FILE" else "")
            wrong += [f"{words[2]} --{f}" for f in given if f not in known | {"config.key"}]
        elif re.match(r"python -m (maxlite|tools)\.(?!NAME)", " ".join(words)):
            wrong.append(words[2])
        elif words[:2] == ["pip", "install"]:
            manual.installable(words[2:])
    assert not wrong


@pytest.mark.parametrize("page", manual.PAGES, ids=manual.name)
def test_files_that_are_mentioned_are_there(page):
    folders = {"maxlite", "tools", "configs", "launch", "tests", "requirements", "docs"}
    paths = [span for span in spans(page) if re.match(r"[a-z]+/\S+$", span)]
    paths = [path for path in paths if path.split("/")[0] in folders]
    paths = [path for path in paths if not re.search(r"[A-Z]{2,}(?!.md)|[{*]", path)]
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_every_flag_that_is_mentioned_is_someones():
    known = set(FOREIGN)
    for module in MODULES:
        known |= manual.known_flags(module)
    for recipe in (ROOT / "configs").glob("*/*.py"):
        if recipe.name in ("recipe.py", "sweep.py", "criteria.py"):
            known |= manual.known_flags("maxlite.recipe", str(recipe))
    for script in ("local.sh", "tpu_vm.sh", "slurm.sbatch"):
        known |= set(re.findall(r"--([a-z_]+)", (ROOT / "launch" / script).read_text()))
    wrong = []
    for page in manual.PAGES:
        for span in spans(page):
            for flag in re.findall(r"(?:^|[\s/(])--([a-z][\w.-]*)", span):
                if flag not in known and flag not in ("config", "config.key"):
                    wrong.append(f"{manual.name(page)}: --{flag}")
    assert not wrong


def test_what_is_read_of_flags_tells_wrong_ones_from_right_ones():
    known = manual.known_flags("tools.evaluate") | manual.known_flags("maxlite.train")
    assert {"text", "before", "overwrite", "config.data.held_out"} <= known
    assert not {"txet", "config.data.held_uot", "a", "the"} & known


BLOCKS = {
    f"{manual.name(page)}:{line}": text
    for page in manual.PAGES
    for line, text in manual.blocks(page, "python")
}


@pytest.mark.parametrize("place", BLOCKS)
def test_python_of_a_page_is_what_config_files_take(place):
    """A whole file must bring its names itself; lines of one are given the usual ones."""
    whole = "def get_config" in BLOCKS[place]
    usual = {k: v for m in (rules, transforms, config_lib) for k, v in vars(m).items()}
    here = {} if whole else dict(usual)
    exec(compile(BLOCKS[place], place, "exec"), here)
    if whole:
        config = here["get_config"]()
    else:
        given = {k: v for k, v in here.items() if v is not usual.get(k) and k != "__builtins__"}
        config = given.pop("config", None) or Config(out="runs/x", **given)
    if isinstance(config, Config):  # a cleaning and a recipe are run, below
        config_lib.resolve(config)


def test_the_filter_of_ones_own(tmp_path, monkeypatch):
    pytest.importorskip("datatrove")
    monkeypatch.chdir(tmp_path)
    ((_, text),) = manual.blocks(ROOT / "docs" / "design.md", "python")
    (tmp_path / "mine.py").write_text(text, "utf-8")
    lines = ["봄이 왔다고 합니다.", "이 글은 그저 광고입니다."]
    (tmp_path / "text.txt").write_text("\n".join(lines), "utf-8")
    keys = ("text=text.txt", "out=clean", "workers=1")
    outcome = done(
        call("tools.clean_corpus", "--config=mine.py", *(f"--config.{key}" for key in keys))
    )
    assert re.search(r"^  banned word +-1 ", outcome.out, re.M)


def test_the_recipe_of_ones_own(tmp_path, make_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "MODEL")
    (tmp_path / "text.txt").write_text("봄이 왔다.\n" * 20, "utf-8")
    ((_, text),) = manual.blocks(ROOT / "docs" / "recipes" / "README.md", "python")
    (tmp_path / "mine.py").write_text(text, "utf-8")
    keys = ("model=MODEL", "corpus=text.txt", "out=runs/mine", "size=laptop", "keep=text.txt")
    arguments = ["--config=mine.py", *(f"--config.{key}" for key in keys), "--plan"]
    outcome = done(call("maxlite.recipe", *arguments))
    found = re.findall(r"^\d+\. (\w+): to do", outcome.out, re.M)
    assert found == ["clean", "before", "all", "model", "after", "samples"]
    assert "--config.model=MODEL " in outcome.out
    assert not (tmp_path / "runs").exists()


def test_the_rooms_of_the_page_are_those_of_the_house():
    """Who may import whom, and what never loads jax."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    told, light = set(), set()
    for rooms, _, below in re.findall(r"^\| (`.*) \| (.*) \|(.*)\|$", text, re.M):
        names = set(re.findall(r"`([\w.]+)/?`", rooms))
        light |= set(re.findall(r"`(\w+)/?`°", rooms))
        allowed = set().union(*(test_house.ROOMS.get(name, set()) for name in names)) - names
        assert set(re.findall(r"`([\w.]+)`", below)) == allowed, rooms
        told |= names
    assert told == test_house.ROOMS.keys() | test_house.LOWEST
    assert light - {"data"} == {name for name in test_house.WITHOUT_JAX if "." not in name}


def anchors(page):
    """The places in a page that links may name, as GitHub makes them of headings."""
    for heading in re.findall(r"^#+ (.*)$", manual.prose(page), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        yield re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", manual.PAGES, ids=manual.name)
def test_links_lead_somewhere(page):
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", manual.prose(page)):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(link)
    assert not wrong
