"""Takes training steps as a run does, and says how fast they came and what memory they took.

Needs neither jax nor torch, so that ours and the peer are held to the same watch.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 2**20


def paced(step: Callable[[int], Any], read: Callable[[Any], float], steps: int) -> dict[str, float]:
    """Takes three steps and then `steps` more, which count.

    As in training, a step's loss is read while the next one runs: the time of a step is that from
    one loss to the next.

    Args:
      step: takes the step of a number and returns its loss, which may still be on its way.
      read: waits for a loss.
      steps: how many count.

    Returns:
      first_s, the seconds of the first step, which compiles; seconds, the median of those that
      count; the loss of the first and of the last step, as first_loss and loss.
    """
    began = time.monotonic()
    first = read(step(0))
    first_s = time.monotonic() - began
    read(step(1))
    forget_peak()
    waiting = step(2)
    times, since = [], time.monotonic()
    for number in range(3, steps + 3):
        following = step(number)
        read(waiting)
        now = time.monotonic()
        times.append(now - since)
        waiting, since = following, now
    return {
        "first_s": first_s,
        "seconds": statistics.median(times),
        "first_loss": first,
        "loss": read(waiting),
    }


def forget_peak() -> None:
    """What this process had in memory at its peak so far no longer counts, where Linux lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident_peak() -> float:
    """The peak of this process's memory in MiB since `forget_peak`."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
