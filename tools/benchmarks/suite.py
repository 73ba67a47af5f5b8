"""`benchmark --suite`: a list of commands, one after the other, and the rows of all in one file.

None takes longer than eight minutes on the machine it is for; one that does is ended, and the
others go on. With --parts each leaves its rows in that folder as soon as it has them, and what is
there already is not measured again.

cpu and gpu measure on this machine. tpu asks the TPU's own compiler, which needs no TPU, about the
stages of a 10.8B model: the least time of a step, see `maxlite.plan`.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxlite.console import say
from maxlite.errors import InputError
from tools import cli
from tools.benchmarks.measured import stamped

LIMIT = 8 * 60  # seconds
MODES = ("full", "new_rows", "lora")
TINY = {  # instead of what a flag says, to see that every command runs
    "--size": {"24M": "tiny", "110M": "tiny", "1B": "tiny_packed", "8B": "tiny_packed"},
    "--size_gb": {"3": "0.02", "16": "0.02"},
    "--runs": {"3": "1", "2": "1"},
}
STAGES = ("eeve/stage1.py", "eeve/stage5.py", "eeve/stage6.py", "solar/continue.py")
SLICES = ("v5e:8x8", "v5p:2x2x4", "v6e:4x4")
PLANNED = {  # the shape of docs/scale.md
    "architecture.vocab_size": 40960,
    "architecture.base_rows": 32000,
    "architecture.max_position_embeddings": 4096,
    "seq_len": 4096,
    "batch_size": 64,
}


@dataclass(frozen=True)
class Command:
    """One to run: a module, and its arguments."""

    module: str
    arguments: tuple[str, ...]

    @property
    def line(self) -> str:
        """As one would type it."""
        return shlex.join(["python", "-m", self.module, *self.arguments])

    @property
    def name(self) -> str:
        """Of its file."""
        words = [a.rpartition("=")[2] for a in self.arguments if not a.startswith("--config.")]
        return "-".join(word.replace("/", "_").replace(":", "_") for word in words)


def commands(suite: str, tiny: bool = False, text: str = "", tokenizer: str = "") -> list[Command]:
    """The commands of a suite.

    Args:
      suite: cpu, gpu or tpu.
      tiny: over shapes so small that no figure means anything.
      text: of the commands that read some; empty leaves them out, as an empty `tokenizer` does.
      tokenizer: the same.
    """
    if suite == "tpu":
        keys = [f"--config.{key}={value}" for key, value in PLANNED.items()]
        return [
            Command("maxlite.plan", (f"--config={stage}", f"--topology={machine}", *keys))
            for machine in SLICES
            for stage in STAGES
        ]
    lines: list[list[str]] = []
    sizes = {"24M": 3, "110M": 3} if suite == "cpu" else {"1B": 2, "8B": 1}
    for size, runs in sizes.items():
        each = ["train", f"--size={size}", f"--runs={runs}"]
        lines += [[*each, f"--modes={mode}"] for mode in MODES]
        if size == "8B":  # what layers keep would not fit beside the moments
            lines[-len(MODES)].append("--remat=full")
    lines += [["attention", "--runs=3"], ["loss", "--runs=3"], ["startup", "--runs=3"]]
    lines += [["checkpoint", "--runs=3"]]
    lines += [["import", f"--size_gb={3 if suite == 'cpu' else 16}", "--runs=2"]]
    if suite == "cpu":
        lines += [["freeze", "--runs=3"], ["surgery", "--size_gb=3", "--runs=3"]]
        if text and tokenizer:
            read = [f"--text={text}", f"--tokenizer={tokenizer}"]
            lines += [["tokenize", *read], ["data", *read]]
    return [
        Command("tools.benchmark", tuple(_tiny(a) if tiny else a for a in line)) for line in lines
    ]


def _tiny(argument: str) -> str:
    flag, _, value = argument.partition("=")
    smaller = TINY.get(flag, {}).get(value, value)
    return f"{flag}={smaller}" if value else argument


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Runs a suite.

    Args:
      settings: `suite`, `tiny`, `parts`, `text`, `tokenizer`, `dry_run` as attributes.

    Returns:
      The rows of all its commands, each with `measured`.

    Raises:
      InputError: `parts` is no folder.
      cli.Unsuccessful: some commands failed; it has the rows of the others.
    """
    several = commands(settings.suite, settings.tiny, settings.text, settings.tokenizer)
    if settings.dry_run:
        print("\n".join(command.line for command in several))
        return None
    rows: list[dict[str, Any]] = []
    failed: list[str] = []
    with _folder(settings.parts) as parts:
        for number, command in enumerate(several):
            part = parts / f"{number:02}-{command.name}.json"
            if part.is_file():
                say(f"{command.line}: in {part} already")
            elif why := _run(command, part):
                say(f"{command.line}: {why}")
                failed.append(f"{command.name} {why}")
                continue
            found = json.loads(part.read_text(encoding="utf-8"))
            rows += found if isinstance(found, list) else _planned(command, found)
    if failed:
        raise cli.Unsuccessful(
            f"of {len(several)} commands {len(failed)} failed: {'; '.join(failed)}", rows
        )
    return rows


@contextlib.contextmanager
def _folder(parts: str) -> Iterator[Path]:
    if not parts:
        with tempfile.TemporaryDirectory(prefix="maxlite-suite-") as here:
            yield Path(here)
        return
    here = Path(parts).expanduser()
    try:
        here.mkdir(exist_ok=True)
    except OSError as e:
        raise InputError(f"--parts={parts} cannot be made: {e.strerror}") from e
    yield here


def _run(command: Command, part: Path) -> str:
    """Runs a command, which speaks for itself; returns what went wrong, or nothing."""
    say(command.line)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", command.module, *command.arguments, f"--json={part}"]
    )
    try:
        status = process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        return f"took more than {LIMIT // 60} minutes"
    finally:
        if process.poll() is None:  # SIGTERM, upon which it takes back what it was writing
            process.terminate()
            process.wait()
    say(f"{time.monotonic() - began:.0f} s")
    return f"ended with status {status}" if status else ""


def _planned(command: Command, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """A plan's figures as a row: the least time of a step on a machine that is not here."""
    machine = plan["topology"]
    stage = command.arguments[0].partition("=")[2]
    flops, seconds = machine["flops_per_chip"], machine["step_s"]
    row = {
        "name": stage,
        "ours": seconds,
        "peer": None,
        "ratio": None,
        "unit": "seconds",
        "runs": 1,
        "peak_mib": machine["peak_gib"] and machine["peak_gib"] * 1024,
        "tflops": flops / seconds / 1e12 if flops and seconds else None,
        "mfu": machine["mfu"],
        "compile_s": machine["compile_s"],
    }
    (made,) = stamped([row], "plan", command.line)
    made["measured"]["hardware"] = f"{machine['name']}, by its compiler, not measured"
    return [made]
