"""The shortest proof that everything works together, as a user would: one command after another."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).resolve().parent.parent


def command(*arguments: str) -> str:
    """Runs `python -m ...` in the root of the repository; gives its stdout."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


EXTRAS = {"corpus": ("datatrove", "dill"), "harness": ("lm_eval",)}


def test_every_module_imports():
    for file in sorted((ROOT / "maxlite").rglob("*.py")):
        if file.name == "__init__.py":
            continue
        try:
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
        except ModuleNotFoundError as e:
            where = file.parent.name if file.parent.name == "corpus" else file.stem
            assert e.name in EXTRAS.get(where, ())


TOOLS = [p.stem for p in sorted((ROOT / "tools").glob("*.py")) if "if __name__ ==" in p.read_text()]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_says_what_it_is_for(tool):
    assert f"python -m tools.{tool}" in command(f"tools.{tool}", "--help")


def test_text_and_a_folder_become_a_better_folder(tiny_folder, tiny_text, tmp_path):
    base, out = tiny_folder("base"), tmp_path / "better"
    text = tiny_text / "en.txt"
    command(
        "maxlite.train",
        "--config=continue.py",
        f"--config.model={base}",
        f"--config.data.train={text}",
        f"--config.out={tmp_path / 'run'}",
        f"--config.export={out}",
        "--config.steps=20",
        "--config.batch_size=8",
        "--config.seq_len=64",
        "--config.optimizer.learning_rate=1e-2",
        "--config.eval.sample_tokens=0",
    )
    loss = {}
    for name, folder in (("before", base), ("after", out)):
        figures = tmp_path / f"{name}.json"
        command("tools.evaluate", f"--model={folder}", f"--text={text}", f"--json={figures}")
        loss[name] = json.loads(figures.read_text())["total"]["bits_per_byte"]
    assert loss["after"] < 0.9 * loss["before"]
    said = command("tools.generate", f"--model={out}", "--prompt=The cat", "--max_new_tokens=8")
    assert said.startswith("The cat") and len(said) > len("The cat\n")
