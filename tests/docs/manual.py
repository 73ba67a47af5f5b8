"""What the pages tell a user to type: read from them, made small, and typed in this process."""

import contextlib
import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from commands import ROOT, call, done

from maxlite import flags
from maxlite.plan import topology

TOOLS = [
    f"tools.{file.stem}"
    for file in sorted((ROOT / "tools").glob("*.py"))
    if "if __name__ ==" in file.read_text("utf-8")
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Flags that make a command small, in the place of what the page gives or beside it.
SMALL = {
    "maxlite.train": {
        "config.steps": "2",
        "config.batch_size": "8",
        "config.seq_len": "32",
        "config.eval.documents": "4",
        "config.eval.sample_tokens": "2",
    },
    "maxlite.recipe": {"plan": ""},
    "tools.benchmark": {"dry_run": ""},
    "tools.generate": {"max_new_tokens": "4"},
    "tools.faults": {"dry_run": ""},
    "tools.evidence": {"dry_run": ""},
    "tools.refine_vocab": {"candidates": "500"},
    "tools.select_documents": {"config.batch_size": "8", "config.seq_len": "32"},
    "tools.evaluate": {"documents": "10", "max_new_tokens": "4"},
    "tools.lm_eval": {"tasks": "my_task", "include_path": "tasks", "num_fewshot": "0"},
    "tools.importance": {"sequences": "4", "seq_len": "16"},
}
# The same, only where the page gives the flag.
INSTEAD = {
    "tools.generate": {"count": "3"},
    "tools.inherit": {"intermediate_size": "24", "num_hidden_layers": "2"},
    "tools.merge_tokenizer": {"size": "40"},
    "tools.refine_vocab": {"min_count": "5"},
    "tools.compact_tokenizer": {"size": "350"},
    "tools.benchmark": {"figures": "measured.json"},
    "tools.clean_corpus": {"config.workers": "1"},
}
# What is not typed here: each stands in a page, and something else looks at it.
ELSEWHERE = {
    "./launch/demo.sh": ".ci/run does it",
    "./tests/run.sh": "this is done by it",
    "source .venv/demo/bin/activate": "what launch/demo.sh makes",
    "source .venv/test/bin/activate": "what tests/run.sh makes",
    "ruff check --fix .": "tests/run.sh checks the same",
    "ruff format .": "tests/run.sh checks the same",
    "docker push REGISTRY/maxlite:tpu": "needs a registry",
}


@dataclass(frozen=True)
class Typed:
    """A command of a page: where it stands, and its words."""

    place: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.place}: {shlex.join(self.words)}"


def name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """The fenced blocks of a language, each with the number of its first line."""
    text = page.read_text("utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return [(text[: match.start(1)].count("\n") + 1, match[1]) for match in found]


def prose(page: Path) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.M | re.S)


def commands(page: Path) -> list[Typed]:
    """The commands of a page's blocks, in order; a line that ends in a backslash goes on."""
    found = []
    for first, block in blocks(page, "bash"):
        begun = ""
        for number, line in enumerate(block.splitlines(), first):
            begun += line
            if begun.endswith("\\"):
                begun = begun[:-1]
            elif words := tuple(shlex.split(begun, comments=True)):
                found.append(Typed(f"{name(page)}:{number}", words))
                begun = ""
            else:
                begun = ""
    return found


def made(typed: list[Typed]) -> set[str]:
    """The paths that commands write."""
    written = r"--(?:out|json|plot|samples|parts|config\.out|config\.export)=(.+)"
    words = [word for one in typed for word in " ".join(one.words).split()]
    return {match[1] for word in words if (match := re.fullmatch(written, word))}


# --- typing --------------------------------------------------------------------------------------


def enter(typed: Typed) -> None:
    """Does what a command does, on small figures; what it says is wrong fails the test."""
    words = list(typed.words)
    settings = {}
    while re.match(r"[A-Z_]+=", words[0]):
        key, _, value = words.pop(0).partition("=")
        settings[key] = value
    try:
        with mock.patch.dict(os.environ, settings):
            _enter(words)
    except BaseException as e:
        e.add_note(str(typed))
        raise


def _enter(words: list[str]) -> None:
    match words:
        case [*_] if shlex.join(words) in ELSEWHERE:
            return
        case ["python", "-m", module, *arguments]:
            _program(module, arguments)
        case ["srun", "bash", "-c", command]:  # one of one
            within = command.replace("$SLURM_NTASKS", "1").replace("$SLURM_PROCID", "0")
            _enter(shlex.split(within))
        case ["pip", "install", *arguments]:
            installable(arguments)
        case ["sbatch", "--nodes=4", script, *arguments]:
            _launched(script, arguments)
        case [script, *arguments] if script.startswith("launch/"):
            _launched(script, arguments)
        case ["docker", "build", "-f", file, "-t", image, "."]:
            assert (ROOT / file).is_file()
            assert image in (ROOT / "launch" / "gke.yaml").read_text()
        case ["kubectl", "apply", "-f", file]:
            assert (ROOT / file).is_file()
        case _:
            raise AssertionError("nobody here knows what this is; see tests/docs/manual.py")


def _program(module: str, arguments: list[str]) -> None:
    if module == "pytest":
        files = [word for word in arguments if word.endswith(".py")]
        assert all((ROOT / file).is_file() for file in files)
        return
    if module == "tools.lm_eval" and importlib.util.find_spec("lm_eval"):
        _known_tasks(arguments)
    given = smaller(module, arguments)
    with missing(module, given) as sentence:
        outcome = call(module, *given)
        if sentence:
            assert sentence in outcome.sentence
        else:
            done(outcome)
            assert "plan" not in SMALL.get(module, {}) or "1. " in outcome.out, outcome.out


def _known_tasks(arguments: list[str]) -> None:
    """Tasks of the harness read data from the hub; one that is made here stands in for them."""
    import lm_eval

    (names,) = (word.partition("=")[2] for word in arguments if word.startswith("--tasks="))
    theirs = [path.name for path in (Path(lm_eval.__file__).parent / "tasks").iterdir()]
    assert set(names.split(",")) <= {*theirs, "my_task"}


def smaller(module: str, arguments: list[str]) -> list[str]:
    """The arguments with figures that a test can afford."""
    small = {k: v for k, v in INSTEAD.get(module, {}).items() if _gives(arguments, k)}
    if arguments[:1] != ["record"]:  # of a benchmark: that is quick
        small = SMALL.get(module, {}) | small
    kept = [word for word in arguments if not any(_gives([word], key) for key in small)]
    return [*map(_machine, kept), *(f"--{k}={v}" if v else f"--{k}" for k, v in small.items())]


def _gives(arguments: list[str], key: str) -> bool:
    return any(word.startswith(f"--{key}=") or word == f"--{key}" for word in arguments)


def _machine(word: str) -> str:
    """For TPUs their own compiler would take minutes: as many GPUs stand in for them."""
    if not word.startswith("--topology="):
        return word
    chips = [topology.parse(each).chips for each in word.partition("=")[2].split(",")]
    return "--topology=" + ",".join(dict.fromkeys(f"h100:{count}" for count in chips))


@contextlib.contextmanager
def missing(module: str, arguments: list[str]) -> Iterator[str]:
    """What a program says of something that it needs and that is not there, or nothing."""
    if "--config.executor=slurm" in arguments:
        with mock.patch.dict(os.environ, {"PATH": str(Path(sys.executable).parent)}):
            yield "needs the command sbatch"
    elif "--config.executor=ray" in arguments:
        with mock.patch.dict(sys.modules, {"ray": None}):
            yield "needs the package ray"
    elif module == "tools.lm_eval" and not importlib.util.find_spec("lm_eval"):
        yield "lm-evaluation-harness is not here"
    elif module == "tools.lm_eval":
        with mock.patch("datasets.config.HF_DATASETS_CACHE", Path("cache").absolute()):
            yield ""
    else:
        yield ""


def _launched(script: str, arguments: list[str]) -> None:
    """A launcher prints what it would start; the config is checked first."""
    beside = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        [ROOT / script, "--dry_run", *arguments],
        env=os.environ | {"PATH": beside, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    _, rest = flags.parse(arguments[arguments.index("--") + 1 :])  # of a slice it is not checked
    assert not rest
    assert "-m maxlite.train --config=" in ended.stdout


def installable(arguments: list[str]) -> None:
    """Lock files must be there, and extras in setup.py."""
    match arguments:
        case ["-e", what]:
            extras = re.fullmatch(r"\.(?:\[([\w,]+)\])?", what)
            assert extras, "maxlite is installed from its checkout"
            known = re.findall(r'^        "(\w+)": ', (ROOT / "setup.py").read_text(), re.M)
            assert set((extras[1] or known[0]).split(",")) <= set(known)
        case ["-r", file]:
            assert (ROOT / file).is_file()
        case _:
            raise AssertionError(f"what does pip install {arguments} bring?")


# --- what is only mentioned ----------------------------------------------------------------------


@functools.cache
def help_of(module: str, *given: str) -> str:
    """What a program says of itself."""
    return done(call(module, *given, "--help")).out


def known_flags(module: str, config: str = "") -> set[str]:
    """The flags and config keys of a program; of a recipe only with its file."""
    own = config and module == "maxlite.recipe"
    told = help_of(module, *([f"--config={config}"] if own else []))
    written = re.findall(r"(?<![\w-])--(?:\[no\])?([a-z]\w*)", told)
    written += [f"no{flag}" for flag in re.findall(r"--\[no\](\w+)", told)]
    keys = re.findall(r"^  ([a-z][\w.]*) {2,}(?:str|int|float|bool|tuple) ", told, re.M)
    return {*written, "help", *(f"config.{key}" for key in keys)}
