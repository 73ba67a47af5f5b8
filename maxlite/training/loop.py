"""From a config to a run that has ended: prepare it, and train unless nothing is left to do."""

from __future__ import annotations

from contextlib import ExitStack

import jax

from maxlite import config as config_lib
from maxlite import storage, uploads
from maxlite.console import say
from maxlite.errors import InputError
from maxlite.state import origin
from maxlite.storage import Url
from maxlite.training import agreement
from maxlite.training.job import Job, prepare, summary
from maxlite.training.stop import Stop, StopSignals
from maxlite.training.trainer import Trainer


def train(config: config_lib.Config, dry_run: bool = False) -> bool:
    """Runs a config to its end, or until a signal stops it.

    Args:
      config: resolved; `dtype="auto"` in it is replaced.
      dry_run: check everything, say what would be done, and write nothing.

    Returns:
      Whether a signal ended it at once, which leaves threads behind that an ordinary exit of the
      process does not survive: `console.leave` it.

    Raises:
      InputError: the input is wrong, a checkpoint cannot be written, or training diverged.
    """
    speak = jax.process_index() == 0
    agreement.check_program(config)
    with StopSignals(several=jax.process_count() > 1) as signals, ExitStack() as ends:
        try:
            with signals.interruptible():
                job = prepare(config)
                ends.callback(job.unlock)
                exported = _check_export(job)
                agreement.check_job(job)
                signals.check()
        except Stop:
            say("stopped before the run was opened; start again to go on", speak)
            return signals.raised
        say(summary(job), speak)
        if dry_run:
            say("dry run: nothing was written", speak)
        elif job.run and job.resumed == config.steps and (exported or not config.export):
            if speak:
                job.run.set_status(status="finished", step=config.steps, steps=config.steps)
            say(f"the run in {job.run.path} is finished at step {config.steps}", speak)
        else:
            with jax.set_mesh(job.mesh):
                Trainer(job, signals).run()
    return signals.raised


def _check_export(job: Job) -> bool:
    """Whether the export is there already; refuses a folder that is something else."""
    path, out = (storage.place(p) for p in (job.config.export, job.config.out))
    if not job.config.export:
        return False
    if f"{out.resolve()}/".startswith(f"{path.resolve()}/"):
        raise InputError(f"the run folder {out} is or lies in the export folder; choose another")
    if isinstance(path, Url):
        path.check_bucket()
    if not uploads.taken(path):
        return False
    if job.run and origin.is_from(path, job.run, job.config.steps):
        return True
    raise InputError(f"the export folder {path} exists; choose another, or remove it")
