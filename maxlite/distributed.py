"""Joining the other processes of a job, and not leaving them waiting when this one fails.

Who there is say the flags --coordinator, --processes and --process, else the variables
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, else what a TPU pod, SLURM, Open MPI
or an indexed Kubernetes job has set, which jax reads itself.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax

from maxlite import console
from maxlite.errors import InputError

_EXPLICIT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "processes": "JAX_NUM_PROCESSES",
    "process": "JAX_PROCESS_ID",
}
_TPU_HOSTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")
_PATIENCE = 300  # seconds
_LAST = 2  # seconds; when all fail alike, the others can say so before the coordinator is gone
_LATER = 60  # jax's own limit is so much later than ours, because it ends in a dump of C++ frames


def initialize(
    coordinator: str = "",
    processes: str = "",
    process: str = "",
    coordinator_timeout: str = str(_PATIENCE),
) -> None:
    """Initialises `jax.distributed` when this process is one of several.

    Args:
      coordinator: HOST:PORT of process 0.
      processes: how many there are.
      process: which of them this is.
      coordinator_timeout: seconds that they wait for each other.

    Raises:
      InputError: only a part of what is needed is said, or it cannot be, or jax cannot find out
        what a launcher has set. Processes that do not find each other within the time limit end
        with a sentence as well, and status 1, at once.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    who = {flag: given[flag] or os.environ.get(name, "") for flag, name in _EXPLICIT.items()}
    if not coordinator_timeout.isdecimal() or int(coordinator_timeout) < 1:
        raise InputError(f"--coordinator_timeout={coordinator_timeout} must be seconds, from 1 on")
    seconds = int(coordinator_timeout)
    if who == {"coordinator": "", "processes": "1", "process": ""}:
        return  # alone, whatever a launcher has set
    settings = _explicit(who) if any(who.values()) else {}
    if not settings and not _launched():
        return
    jax.config.update("jax_enable_preemption_service", True)  # the stop signals stand on it
    with _time_limit(seconds, who):
        try:
            jax.distributed.initialize(**settings, initialization_timeout=seconds + _LATER)
        except (ValueError, RuntimeError, OSError, KeyError) as e:
            raise InputError(
                f"the processes of this job cannot be joined: {_first_line(e)}; name them with "
                "--coordinator, --processes and --process"
            ) from e


def _explicit(who: Mapping[str, str]) -> dict[str, Any]:
    """The arguments for jax; refuses what is not three values that fit each other."""
    if not all(who.values()):
        missing = [f"--{flag} (or {_EXPLICIT[flag]})" for flag, value in who.items() if not value]
        raise InputError(f"to start several processes, also give {' and '.join(missing)}")
    count, index = who["processes"], who["process"]
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise InputError(
            f"process '{index}' of '{count}' cannot be: --processes is their number, and --process "
            "counts from 0"
        )
    if not re.fullmatch(r".+:\d+", who["coordinator"]):
        raise InputError(f"the coordinator '{who['coordinator']}' must be HOST:PORT")
    return {
        "coordinator_address": who["coordinator"],
        "num_processes": int(count),
        "process_id": int(index),
    }


def _launched() -> bool:
    """Whether a launcher that jax knows has started this process, perhaps as one of several."""
    have = os.environ

    def above_one(variable: str) -> bool:
        return have.get(variable, "").isdecimal() and int(have[variable]) > 1

    if "KUBERNETES_SERVICE_HOST" in have and "JOB_COMPLETION_INDEX" in have and not _tpu():
        if not importlib.util.find_spec("kubernetes"):
            raise InputError(
                "this is a process of an indexed Kubernetes job, and the package that finds the "
                "others is not installed: pip install 'jax[k8s]', or give --coordinator, "
                "--processes and --process, or --processes=1 if it is alone"
            )
        return True
    slurm = "SLURM_STEP_NODELIST" in have and "SLURM_PROCID" in have  # not the shell of `salloc`
    return (
        (slurm and above_one("SLURM_NTASKS"))
        or above_one("OMPI_COMM_WORLD_SIZE")
        or above_one("MEGASCALE_NUM_SLICES")
        or any("," in have.get(name, "") for name in _TPU_HOSTS)
        or (
            _tpu()
            and not have.get("TPU_SKIP_MDS_QUERY")
            and not any(name in have for name in _TPU_HOSTS)
        )
    )


def _tpu() -> bool:
    """Whether this is the machine of a TPU, perhaps one of a pod, and it is to be used."""
    chips = any(Path(place).exists() for place in ("/dev/accel0", "/dev/vfio/0"))
    wanted = os.environ.get("JAX_PLATFORMS", "") in ("", "tpu", "tpu,cpu")
    return chips and wanted and importlib.util.find_spec("libtpu") is not None


@contextlib.contextmanager
def _time_limit(seconds: int, who: Mapping[str, str]) -> Iterator[None]:
    """Ends the process with a sentence unless the block is done in time."""
    where = f" at {who['coordinator']}" if who["coordinator"] else ""

    def give_up() -> None:
        if who["process"] == "0":
            text = f"not all {who['processes']} processes have come to the coordinator{where}"
        else:
            text = f"the coordinator{where}, which process 0 is, could not be reached"
        _leave_with(f"{text} in {seconds} s: see what the others say, and that its port is open")

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def fate_shared() -> Iterator[None]:
    """Ends the process at once when the block fails and there are others.

    An ordinary exit waits for the other processes, which wait for this one in a collective. That
    this one is gone ends them: gloo tells them at once, the coordinator when it has missed this
    one's heartbeat for 100 seconds.
    """
    try:
        with peers_needed():
            yield
    except (InputError, OSError) as e:
        if jax.process_count() == 1:
            raise
        if jax.process_index() == 0:
            time.sleep(_LAST)
        _leave_with(console.sentence(e))


@contextlib.contextmanager
def peers_needed() -> Iterator[None]:
    """Ends the process at once when, in several, a computation fails in the block.

    Nothing else is done then: to finish a save, or to say in status.json that the run has failed,
    would need the others, or be untrue of a run that only has to be started again.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        if jax.process_count() == 1:
            raise
        _leave_with(
            f"process {jax.process_index()} of {jax.process_count()} cannot go on: "
            f"{_first_line(e)} (where this is about a connection, another process has died, and "
            "its own log says why); start all of them again to go on from the last checkpoint"
        )


def _leave_with(text: str) -> NoReturn:
    print(f"maxlite: {text}", file=sys.stderr)
    console.leave(1)


def _first_line(error: BaseException) -> str:
    return next((s.strip() for s in str(error).splitlines() if s.strip()), repr(error))[:300]
