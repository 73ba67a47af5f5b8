"""What a run tells: a console line, metrics.jsonl and TensorBoard files.

MFU (model FLOPs utilisation: PaLM, arXiv 2204.02311, appendix B) = `model.flops.flops_per_token` x
tokens a second / the devices' peak bfloat16 FLOP/s. It counts what the mathematics needs: 6 FLOPs a
weight and token that trains, 4 for a frozen weight that passes a gradient on, 2 where none passes;
rematerialisation does not count.
"""

from __future__ import annotations

import contextlib
import json
import math
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import jax

from maxlite import outputs
from maxlite.chips import of_kind
from maxlite.console import human, say
from maxlite.errors import InputError
from maxlite.storage import Place
from maxlite.training.board import Board
from maxlite.uploads import Mirror

_EVERY = 60.0  # seconds between two copies of what grows, where the run is at an address


def peak_flops() -> float:
    """Peak bfloat16 FLOP/s of all devices together; 0 where it is unknown, as on a CPU."""
    chip = of_kind(jax.devices()[0].device_kind)
    return chip.flops / chip.devices * jax.device_count() if chip else 0.0


def memory_gib() -> float:
    """Peak device memory in GiB, or on a CPU the peak memory of this process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def cut_back(path: Place, step: int, write: bool = True) -> set[int]:
    """Drops what metrics.jsonl has beyond a step, and a torn last line.

    Args:
      path: the file; it need not exist.
      step: the last that is kept.
      write: false on processes that only want to know what will be left.

    Returns:
      The steps that still have an evaluation line.
    """
    kept: list[bytes] = []
    evaluated: set[int] = set()
    if path.is_file():
        before = path.read_bytes()
        for line in before.split(b"\n"):  # a torn line may end within a character
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if entry["step"] > step:
                break
            kept.append(line)
            if "loss" not in entry:
                evaluated.add(entry["step"])
        after = b"".join(line + b"\n" for line in kept)
        if write and after != before:
            outputs.write_bytes(path, after)
    return evaluated


class Metrics:
    """Writes a run's figures; on processes other than 0 it only keeps time."""

    def __init__(
        self, folder: Place, steps: int, start: int, tokens_per_step: int, flops_per_token: float
    ):
        self.speaks = jax.process_index() == 0
        self._steps, self._tokens, self._flops = steps, tokens_per_step, flops_per_token
        self._peak = peak_flops()
        self._since, self._step, self._paused = time.monotonic(), start, 0.0
        self._file = self._board = None
        if self.speaks:
            self._mirror = Mirror(folder, "metrics.jsonl")
            self._file = (self._mirror.path / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = Board(self._mirror.path / "tensorboard", start + 1)

    def train(self, step: int, values: Mapping[str, float]) -> None:
        """A training line: `values` holds loss, learning_rate, grad_norm, tokens and skipped."""
        now = time.monotonic()
        seconds = max(now - self._since - self._paused, 1e-9) / max(step - self._step, 1)
        self._since, self._step, self._paused = now, step, 0.0
        speed = self._tokens / seconds
        mfu = speed * self._flops / self._peak if self._peak else 0.0
        timing = {"tokens_per_second": speed, "memory_gib": memory_gib()}
        if self._peak:
            timing["mfu"] = mfu
        self._write(step, {**values, **timing})
        left = timedelta(seconds=round(seconds * (self._steps - step)))
        parts = [
            f"step {step}/{self._steps} {'█' * round(10 * step / self._steps):░<10} ETA {left}",
            f"loss {values['loss']:.4f}",
            f"lr {values['learning_rate']:.2e}",
            f"|g| {values['grad_norm']:.3g}",
            f"{human(speed)} tokens/s",
            f"{timing['memory_gib']:.2f} GiB",
        ]
        if self._peak:
            parts.append(f"MFU {mfu:.1%}")
        if values["skipped"]:
            parts.append(f"skipped {values['skipped']:.0f}")
        say("  ".join(parts), self.speaks)

    def evaluation(self, step: int, values: Mapping[str, Any]) -> None:
        """An evaluation line: eval/NAME/loss and bits_per_byte, data/NAME/share, a sample."""
        self._write(step, values)
        self.flush()

    def flush(self, every: float = 0) -> None:
        """Brings what was written to where the run is; see `Mirror.copy`."""
        if self._file is not None:
            self._mirror.copy(every)

    def pause(self, seconds: float) -> None:
        """Takes time that was not training out of the speed of the next line."""
        self._paused += seconds

    def _write(self, step: int, values: Mapping[str, Any]) -> None:
        if self._file is None or self._board is None:
            return
        entry = {"step": step} | {
            key: None if isinstance(v, float) and not math.isfinite(v) else v
            for key, v in values.items()
        }
        tags = {
            key if "/" in key or isinstance(value, str) else f"train/{key}": value
            for key, value in values.items()
        }
        try:
            self._file.write(json.dumps(entry, ensure_ascii=False) + "\n")
            self._file.flush()
            self._board.add(step, tags)
        except OSError as e:
            raise InputError(
                f"{self._file.name} or what is beside it cannot be written: {e.strerror}; the run "
                "goes on from its last checkpoint when you start it again"
            ) from e
        self.flush(_EVERY)

    def close(self) -> None:
        """Flushes and closes the files."""
        for file in (self._file, self._board):
            if file is not None:
                with contextlib.suppress(OSError):  # on a full disk, which has been told
                    file.close()
        with contextlib.suppress(InputError):  # no way to where it was written before
            self.flush()
        sys.stderr.flush()
