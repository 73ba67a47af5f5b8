"""Joining the other processes of a job, as its launcher describes them in the environment."""

from __future__ import annotations

import os

import jax

from maxlite.errors import InputError

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def _several_hosts() -> bool:
    """Whether a launcher that jax knows has started more than one process."""
    for variable in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        if int(os.environ.get(variable, "1") or 1) > 1:
            return True
    return "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")


def initialize() -> None:
    """Initialises `jax.distributed` when this process is one of several.

    The environment says so: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what
    SLURM, Open MPI and TPU pods set, which jax reads itself.

    Raises:
      InputError: only some of the three variables are set.
    """
    given = [os.environ.get(name, "") for name in _EXPLICIT]
    if any(given):
        if not all(given) or not (given[1].isdecimal() and given[2].isdecimal()):
            raise InputError(
                f"to start several processes, set all of {', '.join(_EXPLICIT)} (the last two are "
                "numbers); only some are set"
            )
        jax.distributed.initialize(given[0], int(given[1]), int(given[2]))
    elif _several_hosts():
        jax.distributed.initialize()
