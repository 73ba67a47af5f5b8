"""Runs the programs as a user does: as processes of their own, or (faster) inside this one."""

import contextlib
import io
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from absl import flags

from tools.disturbed.attempt import metrics, snapshot
from tools.disturbed.attempt import status as status  # for tests, as the others are

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Outcome:
    """How a program ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one sentence of a program that refused its input; everything about it is checked."""
        said = f"status {self.status}\n{self.out}\n{self.err}"
        assert self.status == 1, said
        assert "Traceback" not in self.err, said
        lines = self.err.strip().splitlines()
        assert [line for line in lines if line.startswith("maxlite: ")] == lines[-1:], said
        return lines[-1].removeprefix("maxlite: ")


def call(module: str, *arguments: Any) -> Outcome:
    """`python -m module arguments` inside this process, on its devices."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = [module, *map(str, arguments)]
    sys.modules.pop(module, None)  # runpy warns of a program that was imported before
    status: Any = 0
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("os._exit", sys.exit),
        ):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as e:
        status = e.code or 0
    finally:
        sys.argv = argv
        _forget_flags()
    return Outcome(status, out.getvalue(), err.getvalue())


def _forget_flags() -> None:
    """Tools define flags of the same names, which one process can do only once."""
    for name in list(flags.FLAGS):
        if "tools" in (flags.FLAGS.find_module_defining_flag(name) or ""):
            delattr(flags.FLAGS, name)
    for name in [name for name in sys.modules if f"{name}.".startswith("tools.")]:
        del sys.modules[name]


def start(module: str, *arguments: Any, devices: int = 1, **variables: Any) -> subprocess.Popen:
    """Starts `python -m module arguments` on virtual CPU devices.

    Args:
      module, arguments: the program.
      devices: of the process.
      variables: of its environment, beyond this process's.
    """
    inherited = dict(os.environ)
    inherited.pop("TF_CPP_MIN_LOG_LEVEL", None)  # which jax has set for this process
    environment = inherited | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"
        " --xla_cpu_collective_call_terminate_timeout_seconds=300",
        **{key: str(value) for key, value in variables.items()},
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(*processes: subprocess.Popen, seconds: float = 240) -> list[Outcome]:
    """Waits for processes; if one takes longer all are killed, and the test fails."""
    try:
        outcomes = []
        for process in processes:
            out, err = process.communicate(timeout=seconds)
            outcomes.append(Outcome(process.returncode, out, err))
        return outcomes
    finally:
        for process in processes:
            process.kill()  # does nothing to one that has ended


def run(module: str, *arguments: Any, **settings: Any) -> Outcome:
    """`start` and `finish`."""
    return finish(start(module, *arguments, **settings))[0]


def strike(
    number: signal.Signals,
    process: subprocess.Popen,
    moment: Callable[[], bool],
    *others: subprocess.Popen,
    seconds: float = 240,
) -> list[Outcome]:
    """Sends a signal to a living process as soon as `moment()` holds, and waits for its end.

    Args:
      number: the signal.
      process: who gets it.
      moment: asked every two milliseconds.
      others: processes that belong to it, and must end with it.
      seconds: that the moment, and then the end, may take to come.
    """
    until = time.monotonic() + seconds
    try:
        while not moment() and process.poll() is None:
            assert time.monotonic() < until, "the moment did not come"
            time.sleep(0.002)
        assert process.poll() is None, f"it had ended before the signal: {finish(process)}"
        process.send_signal(number)
    except BaseException:
        for each in (process, *others):
            each.kill()
        raise
    return finish(process, *others, seconds=seconds)


def losses(run_folder: Path) -> dict[int, float]:
    """The training loss of each logged step."""
    return {entry["step"]: entry["loss"] for entry in metrics(run_folder) if "loss" in entry}


def step_reached(run_folder: Path) -> int:
    """The newest step in the metrics, -1 before the first line."""
    return max((entry["step"] for entry in metrics(run_folder)), default=-1)


_TOLD_AT_THE_END = """
import atexit, runpy, sys
heavy = ("jax", "flax", "grain", "transformers", "torch", "tensorflow")
atexit.register(lambda: print([m for m in heavy if m in sys.modules]))
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def heavy(module: str, *arguments: Any) -> str:
    """The large libraries, as a list, that a program which must end well has loaded by then."""
    command = [sys.executable, "-c", _TOLD_AT_THE_END, module, *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()[-1]


def done(outcome: Outcome) -> Outcome:
    """The outcome of a program that must end well."""
    assert outcome.status == 0, outcome.err
    return outcome


def refused(here: Path, module: str, *arguments: Any) -> str:
    """The sentence of a program that must refuse, and must leave a folder as it was."""
    before = snapshot(here)
    sentence = call(module, *arguments).sentence
    assert snapshot(here) == before
    return sentence
