"""Processes of their own: that tell figures as the last line they print, or that work together."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

from maxlite.errors import InputError


def figures(name: str, module: str, *arguments: str, **settings: Any) -> Any:
    """What `python -m module arguments` tells.

    Args:
      name: of the measurement, for messages.
      module, arguments: the process.
      settings: for `subprocess.run`, such as `env`.

    Raises:
      InputError: it failed; with the last line that it said.
    """
    return json.loads(output(name, module, *arguments, **settings).splitlines()[-1])


def output(name: str, module: str, *arguments: str, **settings: Any) -> str:
    """All that such a process prints; the arguments and errors are those of `figures`."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    if done.returncode:
        (last,) = done.stderr.strip().splitlines()[-1:] or ["no message"]
        last = last.partition("InputError: ")[2] or last.removeprefix("maxlite: ")
        raise InputError(f"{name} failed: {last}")
    return done.stdout


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def together(count: int) -> list[dict[str, str]]:
    """The variables, of each of several processes on this machine, by which jax joins them."""
    address = f"127.0.0.1:{free_port()}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(count)}
    return [shared | {"JAX_PROCESS_ID": str(index)} for index in range(count)]
