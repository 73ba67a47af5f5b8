"""Who runs the tasks of a pass: processes here, a Slurm cluster, or Ray. All are datatrove's.

An executor keeps, in a folder, which tasks are done and what their blocks counted.
"""

import logging
import multiprocessing
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import dill
from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from maxlite.corpus import blocks
from maxlite.corpus.cleaning import Cleaning
from maxlite.corpus.passes import Pass
from maxlite.errors import InputError
from maxlite.tokenizer.workers import cores, leave_with_parent

Progress = Callable[[int], None]


def run_here(one: Pass, logs: Path, workers: int, progress: Progress) -> None:
    """Runs what is left of a pass in processes of this machine.

    Args:
      one: the pass.
      logs: where it is kept which tasks are done.
      workers: processes; 0: as many as there are cores.
      progress: told of bytes that were read, by 1 for each task if the pass reads none.

    Raises:
      InputError: what a task raised, or a process was killed; tasks that are done stay done.
    """
    logger.disable("datatrove")  # what it logs of an error it raises as well
    executor = LocalPipelineExecutor(one.blocks, one.tasks, logging_dir=str(logs))
    todo = executor.get_incomplete_ranks()
    workers = min(workers or cores(), len(todo))
    if workers == 1:
        _alone(executor, todo, one, progress)
    elif todo:
        _side_by_side(executor, todo, workers, one, progress)


def _alone(executor: PipelineExecutor, todo: list[int], one: Pass, progress: Progress) -> None:
    blocks.progress = progress if one.folder else None
    _receive(_sent(executor))  # what steps open here is not to be sent on by a later pass
    try:
        for rank in todo:
            _task(rank)
            if not one.folder:
                progress(1)
    finally:
        blocks.progress = None


def _side_by_side(
    executor: PipelineExecutor, todo: list[int], workers: int, one: Pass, progress: Progress
) -> None:
    context = multiprocessing.get_context("forkserver")
    read = context.RawArray("q", workers)  # bytes, by process
    # datatrove's own pool waits for ever for a process that was killed.
    pool = ProcessPoolExecutor(workers, context, _begin, (read, _sent(executor)))
    told = 0
    try:
        waiting = {pool.submit(_task, rank) for rank in todo}
        while waiting:
            finished, waiting = wait(waiting, timeout=0.3, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                if not one.folder:
                    progress(1)
            if one.folder:
                progress(sum(read) - told)
                told = sum(read)
    except BrokenProcessPool:
        raise InputError(
            f"a process was killed during the pass '{one.name}'; what is done is kept, so start "
            "again to go on, with a lower workers or shard_mb if memory ran out"
        ) from None
    finally:
        for process in list((pool._processes or {}).values()):
            process.kill()  # what it leaves half-written is written again
        pool.shutdown(cancel_futures=True)


def _begin(read: Any, executor: bytes) -> None:
    """A process of `_side_by_side` begins: it counts what it reads, and Ctrl-C is not for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=leave_with_parent, daemon=True).start()
    logger.disable("datatrove")

    mine = multiprocessing.current_process()._identity[-1] % len(read)  # they are consecutive

    def count(size: int) -> None:
        read[mine] += size

    blocks.progress = count
    _receive(executor)


def _sent(executor: PipelineExecutor) -> bytes:
    """As another process reads it, with the classes and functions of the config file in it.

    Raises:
      InputError: a step cannot be sent.
    """
    for block in executor.pipeline:
        try:
            dill.dumps(block)
        except Exception as error:
            raise InputError(
                f"the step '{block.name}' cannot be sent to other processes: {error}; what it needs"
                " beyond its settings it must open in open()"
            ) from None
    return dill.dumps(executor)


def _receive(sent: bytes) -> None:
    """Lets this process do tasks of a pass."""
    global _executor, _blocks
    _executor = dill.loads(sent)
    _blocks = _executor.pipeline


_executor: Any = None
_blocks: list[PipelineStep] = []


def _task(rank: int) -> None:
    _executor.pipeline = list(map(blocks.for_task, _blocks))
    _executor._run_for_rank(rank)


def run_on_ray(one: Pass, logs: Path, workers: int, progress: Progress) -> None:
    """Runs a pass on the Ray cluster that $RAY_ADDRESS names, or on one that is started here.

    Raises:
      InputError: Ray is not installed, or a task has failed; with the place of the logs.
    """
    try:
        import ray
        from datatrove.executor.ray import RayPipelineExecutor
    except ImportError:
        raise InputError("executor='ray' needs the package ray; install it with pip") from None
    logger.disable("datatrove")
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    executor = RayPipelineExecutor(
        one.blocks, one.tasks, workers or -1, logging_dir=str(logs), mem_per_cpu_gb=1
    )
    executor.run()
    left = executor.get_incomplete_ranks()
    if left:
        raise InputError(
            f"{len(left)} of {one.tasks} tasks of the pass '{one.name}' failed on Ray; their logs "
            f"are in {logs}/logs"
        )
    progress(one.size if one.folder else one.tasks)


class Queued(SlurmPipelineExecutor):
    """A pass in Slurm's queue. What its tasks counted is read where they wrote it."""

    def launch_merge_stats(self) -> None:
        """No job of its own, which would outlive the folder that it works in."""


def submit(
    config: Cleaning, several: list[Pass], logs: Callable[[int], Path], command: Sequence[str]
) -> str:
    """Submits all passes to Slurm, each waiting for the one before, and then a command.

    Returns:
      The id of the last job.

    Raises:
      InputError: there is no Slurm here, or it refuses.
    """
    if not shutil.which("sbatch"):
        raise InputError("executor='slurm' needs the command sbatch; run it on a login node")
    settings = config.slurm
    if not settings.partition:
        raise InputError("executor='slurm' needs a partition; give --config.slurm.partition=NAME")
    setup = settings.setup or _here()
    logger.disable("datatrove")
    before: Queued | None = None
    for i, one in enumerate(several):
        before = Queued(
            one.blocks,
            one.tasks,
            settings.time,
            settings.partition,
            mem_per_cpu_gb=settings.memory_gb,
            workers=config.workers or -1,
            job_name=f"clean-{i:02d}",
            qos=settings.qos,
            env_command=setup,
            depends=before,
            logging_dir=str(logs(i)),
            requeue_signals=None,
        )
    assert before is not None
    last = [
        f"--partition={settings.partition}",
        f"--time={settings.time}",
        f"--mem={settings.memory_gb}G",
        f"--output={logs(len(several) - 1) / 'finish.out'}",
        "--job-name=clean-finish",
        *([f"--qos={settings.qos}"] if settings.qos else []),
        f"--wrap={setup}; {shlex.join(command)}",
    ]
    try:
        before.launch_job()
        done = [f"--dependency=afterok:{before.job_id}"] if before.job_id != -1 else []
        told = subprocess.run(["sbatch", *done, *last], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().partition("\n")[0] or f"status {error.returncode}"
        raise InputError(f"sbatch refuses: {said}") from None
    return told.stdout.split()[-1]


def queued(job: str) -> bool:
    """Whether a job still waits or runs."""
    told = subprocess.run(["squeue", "-h", "-j", job], capture_output=True, text=True)
    return told.returncode == 0 and bool(told.stdout.strip())


def _here() -> str:
    """Shell commands that make a task find this code and these packages."""
    path = shlex.quote(str(Path(sys.executable).parent))
    root = str(Path(__file__).resolve().parents[2])
    known = shlex.quote(os.pathsep.join(dict.fromkeys([root, *filter(None, sys.path)])))
    return f"export PATH={path}:$PATH; export PYTHONPATH={known}"
