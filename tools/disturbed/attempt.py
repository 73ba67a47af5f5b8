"""One start of the training program, in one or several processes, watched from outside."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maxlite.state import manifest
from tools.benchmarks.worker import together
from tools.disturbed.desk import EVALUATED, Desk

PHASES = ("loading", "compile", "evaluation", "step", "save", "export")
TIMINGS = {"tokens_per_second", "memory_gib", "mfu"}

_ROOT = Path(__file__).resolve().parents[2]
_LOOK = 0.002  # seconds between two looks at a run that is to be hit
_GRACE = 20.0  # seconds in which a process ends by itself when another of its job is gone
_LIMIT = 300.0  # seconds that an attempt may take


def status(run_folder: Path) -> dict[str, Any]:
    """status.json of a run; empty while there is none."""
    try:
        return json.loads((run_folder / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def metrics(run_folder: Path) -> list[dict[str, Any]]:
    """Whole lines of metrics.jsonl, without timings."""
    path = run_folder / "metrics.jsonl"
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    entries = [json.loads(line) for line in lines]
    return [{k: v for k, v in entry.items() if k not in TIMINGS} for entry in entries]


def snapshot(folder: Path) -> dict[str, str]:
    """Everything under a folder: relative path to content hash ("folder" for folders)."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else "folder"
        for path in sorted(folder.rglob("*"))
    }


class Attempt:
    """A running job; used as a context, at whose end none of its processes is left.

    Attributes:
      run, export: the folders that it writes.
    """

    def __init__(
        self, desk: Desk, folder: Path, number: int, processes: int = 1, cold: bool = False
    ):
        """Starts it.

        Args:
          desk: the model, the text and the stage.
          folder: of the trial; run/, better/ and the logs of attempts come into it.
          number: of the attempt in its trial.
          processes: of the job, with one device each.
          cold: what it compiles and tokenizes is kept in the folder, and not with the others'.
        """
        self.run, self.export = folder / "run", folder / "better"
        self._logs = [folder / f"attempt-{number}-{i}.log" for i in range(processes)]
        variables = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "MAXLITE_CACHE": str(folder / "cache" if cold else desk.cache),
            "PYTHONPATH": os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        }
        for name in ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL"):
            variables.pop(name, None)
        own = together(processes) if processes > 1 else [{}]
        self.processes = []
        for log, more in zip(self._logs, own, strict=True):
            with log.open("w") as file:
                command = [sys.executable, "-m", "maxlite.train", f"--config={desk.stage}"]
                command += [f"--config.out={self.run}", f"--config.export={self.export}"]
                self.processes.append(
                    subprocess.Popen(command, env=variables | more, stdout=file, stderr=file)
                )

    def __enter__(self) -> Attempt:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()  # does nothing to one that has ended
            process.wait()

    # --- while it runs ---------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """Whether all of its processes run."""
        return all(process.poll() is None for process in self.processes)

    def said(self, index: int = 0) -> str:
        """What a process has said so far."""
        return self._logs[index].read_text(encoding="utf-8", errors="replace")

    def phase(self) -> str:
        """What it is doing, one of `PHASES`; "ending" after the last of them."""
        said = self.said()
        if "finished at step" in said or "exported to" in said:
            return "ending"
        if "steps: " not in said:
            return "loading"
        if any(self.export.parent.glob(f"{self.export.name}.tmp-*")):
            return "export"
        if "compiled in" not in said:
            return "save" if self._saving() else "compile"
        step = self.step()
        scored = any(e["step"] == step and "loss" not in e for e in metrics(self.run))
        if step % EVALUATED == 0 and not scored:
            return "evaluation"
        return "save" if self._saving() else "step"

    def _saving(self) -> bool:
        """Whether a checkpoint is not yet whole, or not yet in its manifests."""
        checkpoints = self.run / "checkpoints"
        try:
            if any(checkpoints.glob("*.orbax-checkpoint-tmp*")):
                return True
            newest = manifest.steps_in(checkpoints)[:1]
            written = [len([*(checkpoints / str(n)).glob("manifest-*.json")]) for n in newest]
        except FileNotFoundError:  # it was renamed in between
            return True
        return any(count < len(self.processes) for count in written)

    def step(self) -> int:
        """The last step in the metrics, 0 before the first."""
        return max((entry["step"] for entry in metrics(self.run)), default=0)

    def wait_for(self, moment: Callable[[], bool], seconds: float = _LIMIT) -> bool:
        """Waits until something holds; false if the job ended before, or took too long."""
        until = time.monotonic() + seconds
        while not moment():
            if not self.alive or time.monotonic() > until:
                return False
            time.sleep(_LOOK)
        return self.alive

    # --- its end ---------------------------------------------------------------------------------

    def wait(self) -> list[int]:
        """The statuses of its processes, when all have ended.

        When one ends in an error the others may follow by themselves; as a launcher would, this
        kills those that have not after a while.

        Raises:
          TimeoutError: they have not ended in time, and are killed.
        """
        until, failed = time.monotonic() + _LIMIT, 0.0
        while any(process.poll() is None for process in self.processes):
            now = time.monotonic()
            if not failed and any(process.poll() for process in self.processes):
                failed = now
            if failed and now > failed + _GRACE:
                self.__exit__()
            if now > until:
                self.__exit__()
                raise TimeoutError(f"had not ended after {_LIMIT:.0f} s")
            time.sleep(_LOOK)
        return [process.returncode for process in self.processes]

    def sentence(self) -> str:
        """The one sentence of a program that refused; empty if it said anything else at its end."""
        lines = self.said().strip().splitlines()
        ours = [line for line in lines if line.startswith("maxlite: ")]
        if "Traceback" in self.said() or ours != lines[-1:] or self.processes[0].returncode != 1:
            return ""
        return ours[0].removeprefix("maxlite: ")

    def send(self, number: signal.Signals, index: int = 0) -> None:
        """Sends a signal to one of its processes."""
        self.processes[index].send_signal(number)
