"""Flags of XLA by platform, each with the reason for it. Read by XLA when its backend starts.

Nothing here imports jax: what is set must be set before. A flag that the user has set stays.
"""

from __future__ import annotations

import importlib.util
import os

# Flag: why. What each gains has not been measured here; all are about several GPUs. Left as XLA
# has them: --xla_gpu_triton_gemm_any and --xla_gpu_enable_triton_gemm, for which NVIDIA's and jax's
# advice is opposite, and command buffers, which are on.
GPU = {
    # jax's and NVIDIA's first advice for training: collectives move to where they overlap products.
    "--xla_gpu_enable_latency_hiding_scheduler": "true",
    # NVIDIA's advice for weights that are gathered for each layer of a loop: the next layer's are
    # fetched, and the last one's gradients sent, during this one's products.
    "--xla_gpu_enable_pipelined_all_gather": "true",
    "--xla_gpu_enable_pipelined_reduce_scatter": "true",
}
# Sums in a fixed order, and the same kernels in every process instead of the fastest of a trial.
DETERMINISTIC = "--xla_gpu_deterministic_ops"
_PLUGINS = ("jax_cuda12_plugin", "jax_cuda13_plugin")


def set_flags(deterministic: bool = False) -> None:
    """Adds to XLA_FLAGS what this machine's platform profits from; before jax starts its backend.

    Args:
      deterministic: the same numbers in every run, bit for bit. CPUs and TPUs give them anyway.
    """
    if not _gpu():
        return
    given = os.environ.get("XLA_FLAGS", "").split()
    named = {flag.partition("=")[0] for flag in given}
    wanted = GPU | ({DETERMINISTIC: "true"} if deterministic else {})
    added = [f"{flag}={value}" for flag, value in wanted.items() if flag not in named]
    os.environ["XLA_FLAGS"] = " ".join([*given, *added])


def deterministic() -> bool:
    """Whether GPUs are to give the same numbers in every run."""
    last = [f for f in os.environ.get("XLA_FLAGS", "").split() if f.startswith(DETERMINISTIC)]
    return bool(last) and last[-1].partition("=")[2].lower() in ("", "true", "1")


def _gpu() -> bool:
    """Whether jax will look for NVIDIA GPUs."""
    allowed = os.environ.get("JAX_PLATFORMS", "")
    wanted = not allowed or bool({"cuda", "gpu"} & set(allowed.split(",")))
    return wanted and any(importlib.util.find_spec(name) for name in _PLUGINS)
