"""Several processes of one job on this machine."""

import re
import socket
import subprocess
from collections.abc import Sequence
from typing import Any

from commands import Outcome, start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def silent(outcome: Outcome) -> bool:
    """Whether a process said nothing; gloo's threads say, in torn lines, that they connect."""
    return not outcome.err and not re.search(r"step \d|loss|model:|maxlite", outcome.out)
