"""Where and with what figures were taken: what each row of a benchmark carries with it."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import maxlite

PACKAGES = ("jax", "jaxlib", "torch", "transformers", "peft")  # where they are installed


def stamped(rows: list[dict[str, Any]], verb: str, command: str) -> list[dict[str, Any]]:
    """The rows, each with `measured`: verb, command, date, hardware and versions."""
    told = {
        "verb": verb,
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "hardware": hardware(),
        "versions": versions(),
    }
    return [row | {"measured": told} for row in rows]


def versions() -> dict[str, str]:
    """Of maxlite, Python, and those of PACKAGES that are installed."""
    found = {"maxlite": maxlite.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> str:
    """The accelerators if there are any, and the processor: "1 x NVIDIA H100; EPYC, 8 cores"."""
    found: dict[str, int] = {}
    for line in _nvidia() or _of_jax():
        found[line] = found.get(line, 0) + 1
    cores, memory = len(os.sched_getaffinity(0)), _memory_gib()
    here = f"{_processor()}, {cores} core{'s' * (cores > 1)}, {memory:.0f} GiB"
    return "; ".join([*(f"{count} x {name}" for name, count in found.items()), here])


def _nvidia() -> list[str]:
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]


def _of_jax() -> list[str]:
    """What jax has found, where a benchmark has asked it already; a CPU is no accelerator."""
    jax = sys.modules.get("jax")
    if jax is None or jax.default_backend() == "cpu":
        return []
    return [device.device_kind for device in jax.devices()]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
