"""`benchmark surgery`: rebuilding a model folder beside copying the result with `cp`.

Ours is the whole command, from the interpreter's start to the last fsync. `cp` does not wait for
the disk; the second figure for it does (`sync` on its files). Neither finds its source in the page
cache, whatever fits there.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from maxlite.console import say
from maxlite.errors import InputError
from maxlite.hf.folder import open_folder, resolve
from tools.benchmarks import model
from tools.benchmarks.load import MIB, anonymous


def measure(settings: Any) -> list[dict[str, Any]] | None:
    """Measures depth up-scaling, LLaMA-Pro and vocabulary extension; prints a table.

    Args:
      settings: `model`, `size_gb`, `dir`, `runs`, `dry_run` as attributes. A model that is given
        is only up-scaled; random weights come with the tokenizers that an extension needs.

    Returns:
      One row a tool: name, ours, peer (`cp`), ratio, unit, runs, peak_mib (anonymous memory of the
      whole process), and peer_synced. Seconds are the median of the runs, memory the most of any.

    Raises:
      InputError: the folder cannot be read, or there is no room.
    """
    if settings.dir and not Path(settings.dir).expanduser().is_dir():
        raise InputError(f"--dir={settings.dir} is not a folder; make it, or leave --dir out")
    place = Path(settings.dir).expanduser() if settings.dir else Path(tempfile.gettempdir())
    given = open_folder(resolve(settings.model)) if settings.model else None
    size = sum(t.nbytes for t in given.tensors.values()) if given else settings.size_gb * 1e9
    need, free = size * (3 if given else 4), shutil.disk_usage(place).free
    if need > free:
        raise InputError(
            f"this needs {need / 1e9:.1f} GB at the most and {place} has {free / 1e9:.1f} GB free:"
            " lower --size_gb, or name another --dir"
        )
    if settings.dry_run:
        say(f"would rebuild {settings.model or f'{size / 1e9:g} GB of random weights'}")
        return None
    with tempfile.TemporaryDirectory(prefix="maxlite-benchmark-", dir=place) as name:
        scratch = Path(name)
        folder = given.path if given else scratch / "model"
        if not given:
            say(f"writing {size / 1e9:g} GB of random weights to {folder}")
            model.write(folder, model.architecture(int(size)))
            model.write_tokenizers(folder, scratch / "tokenizer")
        rows = _rows(folder, scratch, settings.runs, extend=not given)
    print(f"{'':<34}{'ours s':>8}{'cp s':>8}{'ratio':>8}{'cp+sync s':>11}{'peak MiB':>10}")
    for row in rows:
        print(
            f"{row['name']:<34}{row['ours']:>8.2f}{row['peer']:>8.2f}{row['ratio']:>8.2f}"
            f"{row['peer_synced']:>11.2f}{row['peak_mib']:>10.0f}"
        )
    return rows


def _rows(folder: Path, scratch: Path, runs: int, extend: bool) -> list[dict[str, Any]]:
    depth = open_folder(folder).architecture.num_hidden_layers
    add = next((n for n in range(depth // 4, 0, -1) if depth % n == 0), 1)
    commands = {
        "dus": ["upscale_depth", "--method=dus", f"--drop={max(1, depth // 4)}"],
        "llama_pro": ["upscale_depth", "--method=llama_pro", f"--add={add}"],
    }
    if extend:
        commands["extend_vocab"] = ["extend_vocab", f"--tokenizer={scratch / 'tokenizer'}"]
    before = _gigabytes(folder)
    rows = []
    with tqdm(total=len(commands) * runs, desc="rebuilding", unit=" rounds") as bar:
        for kind, (tool, *arguments) in commands.items():
            rounds = []
            for _ in range(runs):  # in turn, so that a slow minute of the machine hits all alike
                rounds.append(_round(folder, scratch, tool, arguments))
                bar.update()
            ours, peer, synced, peaks, sizes = zip(*rounds, strict=True)
            mine, cp = statistics.median(ours), statistics.median(peer)
            rows.append(
                {
                    "name": f"{kind} {before:.2f} -> {sizes[0]:.2f} GB",
                    "ours": mine,
                    "peer": cp,
                    "ratio": mine / cp,
                    "unit": "seconds",
                    "runs": runs,
                    "peak_mib": max(peaks),
                    "peer_synced": statistics.median(synced),
                }
            )
    return rows


def _round(
    folder: Path, scratch: Path, tool: str, arguments: list[str]
) -> tuple[float, float, float, float, float]:
    """Seconds of ours, of cp and of cp with sync; MiB of ours; GB of the output."""
    out, copy = scratch / "out", scratch / "copy"
    command = [sys.executable, "-m", f"tools.{tool}", f"--model={folder}", f"--out={out}"]
    ours, peak = _timed([*command, *arguments], folder)
    size = _gigabytes(out)
    peer, _ = _timed(["cp", "-r", str(out), str(copy)], out)
    shutil.rmtree(copy)
    copy_and_sync = 'cp -r "$0" "$1" && sync "$1"/*'
    synced, _ = _timed(["sh", "-c", copy_and_sync, str(out), str(copy)], out)
    shutil.rmtree(copy)
    shutil.rmtree(out)
    return ours, peer, synced, peak, size


def _timed(command: list[str], source: Path) -> tuple[float, float]:
    """How long a command that reads `source` took in seconds, and its most anonymous MiB."""
    subprocess.run(["sync"], check=True)  # what was written before is no part of it
    for file in source.glob("*.safetensors"):
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with tempfile.TemporaryFile("w+") as errors:
        began = time.monotonic()
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        most = 0
        try:
            while running.poll() is None:
                most = max(most, anonymous(running.pid))
                time.sleep(0.003)
        finally:
            running.kill()  # or it would go on writing while its folder is removed
            running.wait()
        seconds = time.monotonic() - began
        if running.returncode:
            errors.seek(0)
            last = errors.read().strip().splitlines()[-1:] or ["no message"]
            raise InputError(f"{' '.join(command[:3])} failed: {last[0]}")
    return seconds, most / MIB


def _gigabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e9
