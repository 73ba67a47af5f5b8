"""`benchmark import`: how long a model folder takes to reach the devices, and with what memory.

The promise: anonymous host memory beyond the device arrays stays below the largest array that is
placed on one device (its layers stacked) plus a constant. On a CPU the device arrays are anonymous
memory themselves and are subtracted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite.console import say
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder, resolve
from tools.benchmarks import model, worker

VIRTUAL = 8  # devices of one CPU


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures loading on one device, on eight virtual ones and in processes of one; a table.

    Args:
      settings: `model`, `size_gb`, `dir`, `runs`, `against`, `processes`, `dry_run` as attributes.

    Returns:
      One row a layout: name, ours, peer, ratio, unit, runs, peak_mib and more on memory. Seconds
      are the median of the runs, memory the most of any.

    Raises:
      InputError: the folder cannot be read, or there is no room for the random weights.
    """
    peer = settings.against
    if peer == "transformers" and not importlib.util.find_spec("torch"):
        say("torch is not installed, so there is no peer: pip install -e '.[test]'")
        peer = "none"
    if settings.model:
        folder = open_folder(resolve(settings.model)).path  # refused here, not in a process of ours
    elif settings.dir and not Path(settings.dir).expanduser().is_dir():
        raise InputError(f"--dir={settings.dir} is not a folder; make it, or leave --dir out")
    if settings.dry_run:
        say(f"would load {settings.model or f'{settings.size_gb:g} GB of random weights'}")
        return None
    if settings.model:
        return _rows(folder, settings.runs, peer, settings.processes)
    place = Path(settings.dir).expanduser() if settings.dir else None
    with tempfile.TemporaryDirectory(prefix="maxlite-benchmark-", dir=place) as scratch:
        folder = Path(scratch) / "model"
        say(f"writing {settings.size_gb:g} GB of random weights to {folder}")
        model.write(folder, model.architecture(int(settings.size_gb * 10**9)))
        return _rows(folder, settings.runs, peer, settings.processes)


def _rows(folder: Path, runs: int, peer: str, processes: int) -> list[dict[str, Any]]:
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    flag = "--xla_force_host_platform_device_count"
    virtual = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flag}={VIRTUAL}"}
    alone = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flag}=1"}
    layouts = {"{} device{}": ({"XLA_FLAGS": ""}, 1), "{} virtual device{}": (virtual, 1)}
    if processes > 1:
        layouts[f"{{}} device{{}} of {processes} processes"] = (alone, processes)
    ours: list[list[dict[str, Any]]] = [[] for _ in layouts]
    theirs: list[dict[str, Any]] = []
    total = runs * (len(layouts) + (peer != "none"))
    with tqdm(total=total, desc="loading", unit=" runs") as bar:
        for _ in range(runs):  # in turn, so that a slow minute of the machine hits all alike
            for several, layout in zip(ours, layouts.values(), strict=True):
                several.append(_run("ours", folder, *layout))
                bar.update()
            if peer != "none":
                theirs.append(_run(peer, folder, {}))
                bar.update()
    seconds = statistics.median(t["seconds"] for t in theirs) if theirs else None
    about_peer = {
        "peer_peak_mib": max(t["peak_mib"] for t in theirs) if theirs else None,
        "peer_mapped": statistics.median(t["mapped_seconds"] for t in theirs) if theirs else None,
    }
    rows = []
    for several, kind in zip(ours, layouts, strict=True):
        devices = several[0].pop("devices")
        mine = statistics.median(run.pop("seconds") for run in several)
        rows.append(
            {
                "name": f"{size / 1e9:.2f} GB onto {kind.format(devices, 's' * (devices > 1))}",
                "ours": mine,
                "peer": seconds,
                "ratio": mine / seconds if seconds else None,
                "unit": "seconds",
                "runs": runs,
                **{key: max(run[key] for run in several) for key in several[0]},
                **about_peer,
            }
        )
    _print(rows, peer)
    return rows


def _run(what: str, folder: Path, variables: dict[str, str], processes: int = 1) -> dict[str, Any]:
    """The figures of one load; of several processes, those of the one that took the most."""
    command = [sys.executable, "-m", "tools.benchmarks.load", what, str(folder)]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"} | variables
    own = worker.together(processes) if processes > 1 else [{}]
    started = [
        subprocess.Popen(
            command,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment | more,
        )
        for more in own
    ]
    figures: list[dict[str, Any]] = []
    for out, err in [process.communicate() for process in started]:
        found = [line for line in out.splitlines() if line.startswith("{")]  # gloo talks there too
        if not found:
            last = err.strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"loading {folder} with {what} failed: {last[0]}")
        figures.append(json.loads(found[-1]))
    return {key: max(each[key] for each in figures) for key in figures[0]}


def _print(rows: list[dict[str, Any]], peer: str) -> None:
    print(f"{'':<38}{'ours s':>8}{f'{peer} s':>16}{'ratio':>8}{'peak MiB':>10}{'arrays MiB':>12}")
    for row in rows:
        theirs, ratio = (f"{row[k]:.2f}" if row[k] else "-" for k in ("peer", "ratio"))
        print(
            f"{row['name']:<38}{row['ours']:>8.2f}{theirs:>16}{ratio:>8}"
            f"{row['peak_mib']:>10.0f}{row['device_mib']:>12.0f}"
        )
    for row in rows:
        print(
            f"{row['name']}: {row['excess_mib']:.0f} MiB of anonymous memory beyond the arrays at "
            f"the peak; the largest array on one device has {row['largest_mib']:.0f} MiB"
        )
    if rows[0]["peer"] is not None:
        print(
            f"{peer}: {rows[0]['peer_peak_mib']:.0f} MiB at the peak; from_pretrained returned "
            f"after {rows[0]['peer_mapped']:.2f} s, on a CPU with weights in mapped files, and "
            "each was then copied to where it is computed with"
        )
