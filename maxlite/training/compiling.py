"""The train step, compiled while the weights are read: it needs their shapes and places alone."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import optax

from maxlite.training.job import Job
from maxlite.training.lowering import abstract_frozen, abstract_state, lowered


class Compiling:
    """Compiles a run's step in a thread of its own, which the process does not end before.

    Args:
      job: the run.
      optimizer: made for it.
    """

    def __init__(self, job: Job, optimizer: optax.GradientTransformation):
        pool = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._step = pool.submit(self._compile, job, optimizer)
        pool.shutdown(wait=False)

    @property
    def going(self) -> bool:
        """Whether an ordinary exit of the process would have to wait for it."""
        return not self._step.done()

    def result(self) -> tuple[jax.stages.Compiled, float]:
        """The step, once it is there, and the seconds that it took; a signal may end the waiting.

        Raises:
          JaxRuntimeError: it cannot be compiled.
        """
        return self._step.result()

    @staticmethod
    def _compile(
        job: Job, optimizer: optax.GradientTransformation
    ) -> tuple[jax.stages.Compiled, float]:
        began = time.monotonic()
        with jax.set_mesh(job.mesh):  # which is another thread's business otherwise
            state = abstract_state(job.claims, job.shardings, optimizer, job.mesh)
            frozen = abstract_frozen(job.claims, job.shardings, job.dtypes())
            shape, seed = job.batch_shape, job.dropout_seed
            step = lowered(job.bind, optimizer, seed, job.mesh, shape, state, frozen).compile()
        return step, time.monotonic() - began
