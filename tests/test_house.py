"""The rules of the house that a machine can check."""

import ast
import graphlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from maxlite import config

ROOT = Path(__file__).resolve().parent.parent

# Who may import whom. A room may also import what those rooms may; the lowest are for everyone.
LOWEST = {"errors", "console", "outputs", "storage", "uploads"}
ROOMS: dict[str, set[str]] = {
    "transforms": set(),
    "rules": set(),
    "mixture": set(),
    "config": {"rules", "transforms", "mixture"},
    "parameters": {"config"},
    "sizes": {"parameters"},
    "flags": {"config"},
    "distributed": set(),
    "page": set(),
    "hf": {"parameters"},
    "surgery": {"hf"},
    "tokenizer": set(),
    "corpus": {"tokenizer", "config", "data.order", "data.sources", "data.parts"},
    "data": {"tokenizer", "config"},
    "xla": set(),
    "model": {"parameters", "xla"},
    "state": {"model", "hf", "surgery", "tokenizer"},
    "importance": {"state", "data"},
    "score": {"state", "data"},
    "text_scorer": {"state", "data"},
    "sequence_losses": {"state", "data"},
    "generate": {"state", "data"},
    "evaluate": {"score", "generate"},
    "likelihood": {"state", "data"},
    "harness": {"likelihood", "generate"},
    "lineage": {"state"},
    "card": {"lineage", "sizes"},
    "chips": set(),
    "training": {
        "chips",
        "corpus",
        "importance",
        "score",
        "evaluate",
        "generate",
        "card",
        "distributed",
    },
    "plan": {"training", "flags"},
    "recipe": {"plan", "flags"},
    "report": {"training", "page", "sizes", "recipe"},
    "train": {"training", "flags", "distributed", "xla"},
}

# Programs on these start in a blink and need no accelerator library.
WITHOUT_JAX = (
    "hf",
    "surgery",
    "tokenizer",
    "page",
    "corpus",
    "transforms",
    "mixture",
    "config",
    "parameters",
    "sizes",
    "errors",
    "console",
    "outputs",
    "storage",
    "uploads",
    "flags",
    "chips",
)
WITHOUT_JAX += tuple(f"data.{m}" for m in ("order", "packing", "cache", "sources", "parts"))
WITHOUT_JAX += tuple(f"data.{m}" for m in ("streams", "tokens", "shards", "making"))
WITHOUT_JAX += tuple(f"data.{m}" for m in ("view", "orders", "corpus", "kept", "sets", "ngrams"))
WITHOUT_JAX += tuple(f"data.{m}" for m in ("chat", "chat_templates", "chat_tokens", "fitting"))
WITHOUT_JAX += tuple(f"data.{m}" for m in ("losses", "losses_work", "resample", "contamination"))
WITHOUT_JAX += tuple(f"report.{m}" for m in ("tokenizer", "tokenizer_pieces", "corpus", "rounds"))
WITHOUT_JAX += tuple(f"report.{m}" for m in ("runs", "comparison", "spread", "evaluated"))
WITHOUT_JAX += tuple(f"report.{m}" for m in ("stages", "recipes", "story", "again", "rows"))
WITHOUT_JAX += tuple(f"report.{m}" for m in ("story_page", "story_model", "story_training"))
WITHOUT_JAX += tuple(f"recipe.{m}" for m in ("steps", "state", "runner", "__main__"))
WITHOUT_JAX += tuple(f"state.{m}" for m in ("host", "init"))
WITHOUT_JAX += ("lineage",)
HEAVY = ("jax", "flax", "grain", "transformers", "torch", "tensorflow")


def python_files(*folders: str) -> list[Path]:
    return sorted(p for f in folders for p in (ROOT / f).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of each import, wherever it stands in the file."""
    found = []
    package = module_name(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return found


def reachable(room: str) -> set[str]:
    seen: set[str] = set()
    todo = list(ROOMS[room])
    while todo:
        below = todo.pop()
        if below not in seen:
            seen.add(below)
            todo += ROOMS.get(below, ())
    return seen


def test_rooms_have_no_circles():
    list(graphlib.TopologicalSorter(ROOMS).static_order())


def test_imports_only_go_down():
    wrong = []
    for path in python_files("maxlite"):
        room = (*module_name(path).split("."), "")[1]
        if not room:  # maxlite/__init__.py
            allowed = set()
        elif room in LOWEST:
            allowed = LOWEST
        elif room in ROOMS:
            allowed = {room, *LOWEST, *reachable(room)}
        else:
            wrong.append(f"{path.relative_to(ROOT)}: '{room}' has no place in the table of rooms")
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "maxlite" or len(parts) == 1 or parts[1].startswith("__"):
                continue
            if parts[1] not in allowed and ".".join(parts[1:3]) not in allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: imports {name}")
    assert not wrong, "\n".join(wrong)


def test_imports_are_read_from_every_form(tmp_path, monkeypatch):
    """The test above would pass on an empty list, so its reader is tested too."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "maxlite" / "hf" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "import maxlite.state as s\nfrom maxlite import training\n"
        "def f():\n    from ..model import llama\n    from . import names\n"
    )
    expected = ["maxlite.state", "maxlite.training", "maxlite.model.llama", "maxlite.hf.names"]
    assert [name for _, name in imports(file)] == expected


def test_nothing_imports_tools_configs_or_peers():
    """Programs stand on the library, and no file of it needs what is only compared with."""
    banned = {"tools", "configs", "launch", "tests", "torch", "peft", "mergekit", "pytest"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in python_files("maxlite")
        for line, name in imports(path)
        if name.split(".")[0] in banned
    ]
    assert not wrong, "\n".join(wrong)


def test_light_rooms_do_not_load_jax():
    light = [
        name
        for name in map(module_name, python_files("maxlite"))
        if any(f"{name}.".startswith(f"maxlite.{room}.") for room in WITHOUT_JAX)
    ]
    assert light
    program = (
        "import importlib, json, sys\n"
        "found = {}\n"
        f"for name in {light!r}:\n"
        "    importlib.import_module(name)\n"
        f"    heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "    if heavy: found[name] = heavy; break\n"
        "print(json.dumps(found))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout) == {}


def test_config_stays_small():
    assert len(config.keys()) < 80


def test_files_stay_small():
    long = {
        str(path.relative_to(ROOT)): lines
        for path in python_files("maxlite", "tools", "tests")
        if (lines := len(path.read_text("utf-8").splitlines())) > 400
    }
    assert not long


def undescribed(paths: list[Path]) -> list[str]:
    """What is public and has no docstring; a method's may be that of a base class or a Protocol."""
    trees = {path: ast.parse(path.read_text("utf-8")) for path in paths}
    classes = [n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]

    def inherited(cls: ast.ClassDef, name: str) -> bool:
        bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in cls.bases}
        for above in classes:
            base = above.name in bases
            if base or any(ast.unparse(kind) == "Protocol" for kind in above.bases):
                own = [n for n in above.body if isinstance(n, ast.FunctionDef) and n.name == name]
                if any(map(ast.get_docstring, own)) or (base and inherited(above, name)):
                    return True
        return False

    def bare(body: list[ast.stmt]) -> list[ast.ClassDef | ast.FunctionDef]:
        some = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        return [node for node in some if node.name[0] != "_" and not ast.get_docstring(node)]

    found = []
    for path, tree in trees.items():
        wrong = [] if ast.get_docstring(tree) else ["the module"]
        wrong += [
            n.name for n in bare(tree.body) if n.name != "main"
        ]  # a program's is the module's
        for cls in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
            if cls.name[0] != "_":
                methods = [node.name for node in bare(cls.body)]
                wrong += [f"{cls.name}.{name}" for name in methods if not inherited(cls, name)]
        found += [f"{path.relative_to(ROOT)}: {name}" for name in wrong]
    return found


def test_what_is_public_is_described():
    assert not (wrong := undescribed(python_files("maxlite", "tools"))), "\n".join(wrong)


def test_what_is_not_described_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "x.py").write_text(
        "def f(): 'says'\ndef g(): ...\ndef _h(): ...\ndef main(): ...\n"
        "class A:\n    'says'\n    def a(self): 'says'\n    def b(self): ...\n"
        "class B(A):\n    'says'\n    def a(self): ...\n    def c(self): ...\n"
    )
    expected = ["the module", "g", "A.b", "B.c"]
    assert undescribed([tmp_path / "x.py"]) == [f"x.py: {name}" for name in expected]


def test_tools_show_how_they_are_called():
    for path in (ROOT / "tools").glob("*.py"):
        if "cli.run(main" in (text := path.read_text("utf-8")):
            assert f"python -m tools.{path.stem} " in ast.get_docstring(ast.parse(text)), path


def test_no_utils():
    names = {path.stem for path in python_files("maxlite", "tools")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_names_of_test_files_are_unique():
    """pytest imports them by their bare names."""
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names))


def shell_scripts() -> list[Path]:
    some = [*(ROOT / "launch").rglob("*.sh"), *(ROOT / "tests").glob("*.sh")]
    return sorted([*some, *(ROOT / "requirements").glob("*.sh"), ROOT / ".ci" / "run"])


@pytest.mark.parametrize("script", shell_scripts(), ids=lambda p: str(p.relative_to(ROOT)))
def test_shell_scripts_parse(script):
    subprocess.run(["bash", "-n", str(script)], check=True, capture_output=True)
    if script.read_text("utf-8").startswith("#!"):
        assert os.access(script, os.X_OK), f"{script} is not executable"


def test_locks_hold_exact_versions_and_no_addresses():
    locks = sorted((ROOT / "requirements").glob("*.txt"))
    known = {f"{kind}py31{i}.txt" for kind in ("", "corpus-", "test-") for i in (1, 2)} | {
        "tpu.txt"
    }
    assert known == {p.name for p in locks}
    for lock in locks:
        for line in lock.read_text("utf-8").splitlines():
            if not line.startswith("#"):
                name, _, version = line.partition("==")
                assert name and version and not set(line) & set("/@:+ "), f"{lock.name}: {line}"


def test_test_locks_contain_the_runtime_locks():
    for version in ("py311", "py312"):
        runtime, corpus, test = (
            set((ROOT / "requirements" / f"{kind}{version}.txt").read_text("utf-8").splitlines())
            for kind in ("", "corpus-", "test-")
        )
        assert runtime <= test and runtime < corpus


PICK = """
source launch/environment.sh
find_python "${WANT:-}" || echo none
"""


def test_a_python_that_does_not_start_is_passed_over(tmp_path):
    """pyenv puts names on the PATH for versions that are not selected; calling one fails."""
    for name, body in (
        ("python3.11", "exit 127"),
        ("python3.12", f'exec "{sys.executable}" "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path), "PYENV_ROOT": "/nonexistent"}

    def find(**extra):
        out = subprocess.run(
            ["bash", "-c", PICK], cwd=ROOT, env=env | extra, capture_output=True, text=True
        )
        return out.stdout.strip()

    # /usr/bin may have a python3.11 of its own, but the first of that name on the PATH is broken.
    assert find() == "python3.12"
    assert find(WANT="99") == "none"
    assert find(MAXLITE_PYTHON=sys.executable) == sys.executable
