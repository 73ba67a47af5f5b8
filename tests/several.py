"""Several processes of one job on this machine."""

import re
import subprocess
from collections.abc import Sequence
from typing import Any

from commands import Outcome, start

from tools.benchmarks.worker import free_port, together


def start_several(
    *arguments: Sequence[str],
    module: str = "maxlite.train",
    devices: int = 1,
    variables: Sequence[dict[str, Any]] = (),
) -> list[subprocess.Popen]:
    """Starts a program once for each list of arguments; flags tell them who they are.

    Args:
      arguments: of each process.
      module: the program, which takes the flags of `maxlite.train`.
      devices: of each process.
      variables: of the environment of each process.
    """
    address, count = f"127.0.0.1:{free_port()}", len(arguments)
    return [
        start(
            module,
            *own,
            f"--coordinator={address}",
            f"--processes={count}",
            f"--process={i}",
            devices=devices,
            **(variables[i] if variables else {}),
        )
        for i, own in enumerate(arguments)
    ]


def start_alike(module: str, *arguments: Any, devices: int = 1) -> list[subprocess.Popen]:
    """Starts a program in two processes, which find each other through the environment."""
    return [start(module, *arguments, devices=devices, **own) for own in together(2)]


def silent(outcome: Outcome) -> bool:
    """Whether a process said nothing; gloo's threads say, in torn lines, that they connect."""
    return not outcome.err and not re.search(r"step \d|loss|model:|maxlite", outcome.out)
