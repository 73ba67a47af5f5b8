"""One run on its devices: restore or begin, train, look, save, stop politely, export."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maxlite import card, distributed, storage, uploads
from maxlite import config as config_lib
from maxlite.console import say, sentence
from maxlite.data.loader import batches
from maxlite.data.orders import write_order
from maxlite.errors import InputError
from maxlite.generate import Generator, prompt_ids, stop_ids
from maxlite.score import Scorer
from maxlite.state import base, checkpoint, export, origin, run
from maxlite.state import batch as batch_lib
from maxlite.state import mesh as mesh_lib
from maxlite.state.base import Base
from maxlite.storage import Url
from maxlite.training import metrics as metrics_lib
from maxlite.training import optim
from maxlite.training.begin import begin
from maxlite.training.job import Job
from maxlite.training.lowering import abstract, halved, lowered, make_optimizer
from maxlite.training.stop import Stop, StopSignals
from maxlite.training.watchdog import Watchdog

MAX_SKIPPED = 20  # steps in a row with a non-finite gradient before a run stops


class Trainer:
    """One run on its devices. The mesh is set while it lives."""

    def __init__(self, job: Job, signals: StopSignals):
        self.job, self.config, self.signals = job, job.config, signals
        self.speak = jax.process_index() == 0
        self.optimizer = make_optimizer(job.config, job.claims)
        # All at once: asked for one by one, each would wait on the devices for the step that runs.
        updates = np.arange(job.config.steps)
        self.rates = np.asarray(jax.vmap(optim.schedule(job.config))(updates), np.float64)
        self.batch_sharding = mesh_lib.batch_sharding(job.mesh)
        self.replicated = mesh_lib.replicated(job.mesh)

    def run(self) -> None:
        """Trains to the end. Every way out leaves a true status.json."""
        self.state, self.frozen, self.step = begin(self.job, self.optimizer)
        self.saved, self.saved_at = self.job.resumed, time.monotonic()
        self._open()
        try:
            with distributed.peers_needed(), self.watchdog:
                try:
                    self._finish()
                except Stop:
                    self._stop()
        except BaseException as e:
            with contextlib.suppress(OSError, InputError):  # a full disk may refuse even this
                self._status(status="failed", message=sentence(e))
            raise
        finally:
            with contextlib.suppress(InputError):
                self.checkpoints.close()
            self.metrics.close()

    # --- beginning -------------------------------------------------------------------------------

    def _open(self) -> None:
        """The run folder and what is written into it."""
        job, config = self.job, self.config
        if job.run is None:
            fingerprint = job.corpus.order.fingerprint
            description = {"config": config_lib.as_dict(config), "order": fingerprint}
            if job.source.told:
                description["source"] = dict(job.source.told)
            if job.claims.frozen:
                description["trained"] = job.claims.trained
            if job.claims.begun:
                description["begun"] = dict(job.claims.begun)
            path = storage.place(config.out)
            if self.speak:
                source = job.source
                rests_on = self._base if job.claims.frozen else None
                run.create(
                    path, description, source.carried, source.dtypes, rests_on, self._write_order
                )
            checkpoint.barrier("maxlite_run_folder")
            self.folder = job.run = run.RunFolder(path)
            if self.speak:
                self.folder.lock()
        else:
            self.folder = job.run
            if self.speak:
                self.folder.set_steps(config.steps)
        checkpoint.set_aside(self.folder.checkpoints, job.problems)
        self.checkpoints = checkpoint.Checkpoints(
            self.folder.checkpoints,
            config.checkpoint.keep,
            config.checkpoint.keep_every,
            on_verified=lambda step: self._status(checkpoint=step),
        )
        here = self.folder.path
        stacks = None if isinstance(here, Url) else here / f"stuck-{jax.process_index()}.txt"
        self.watchdog = Watchdog(config.stuck_minutes, stacks)
        self.evaluated = metrics_lib.cut_back(self.folder.metrics, self.step, self.speak)
        tokens = config.batch_size * config.seq_len
        self.metrics = metrics_lib.Metrics(
            self.folder.path, config.steps, self.step, tokens, job.flops_per_token
        )
        self._status(status="running", step=self.step, steps=config.steps, message="")

    def _write_order(self, folder: Path) -> None:
        """The run's own order, so that tools can take the run as one."""
        write_order(folder / "order", self.job.corpus.file)

    def _base(self, folder: Path) -> Base:
        """What the run rests on whose folder is being made."""
        source = self.job.source
        assert source.base and source.host
        if self.config.checkpoint.copy_base:
            return base.of_copy(source.host, folder)
        return source.base()

    def _compile(self) -> None:
        began = time.monotonic()
        job = self.job
        state, frozen = jax.tree.map(abstract, (self.state, self.frozen))
        step = lowered(
            job.bind,
            self.optimizer,
            job.dropout_seed,
            self.config.z_loss,
            halved(job.config, job.claims),
            job.mesh,
            job.batch_shape,
            state,
            frozen,
        )
        self._step = step.compile()
        self.flags = mesh_lib.flags(job.mesh)
        seconds = time.monotonic() - began
        self.metrics.pause(seconds)
        kept = jax.config.values["jax_compilation_cache_dir"]
        say(f"compiled in {seconds:.1f} s{f', kept in {kept}' if kept else ''}", self.speak)

    def _finish(self) -> None:
        """All that is left to do; a signal leaves it with `Stop`."""
        job, config = self.job, self.config
        self.scorer = Scorer(job.bind, job.mesh, job.batch_shape[1], config.seq_len)
        self.generator = Generator(job.bind, job.source.architecture, job.tokenizer.rows, job.dtype)
        if self.step < config.steps:
            with self.signals.interruptible(), self.watchdog.paused():
                self._compile()
        self._train()
        self._save()
        self.checkpoints.wait()
        self._export()
        self._status(status="finished", step=self.step, message="")
        say(f"finished at step {self.step}: {self.folder.path}", self.speak)

    # --- the steps -------------------------------------------------------------------------------

    def _train(self) -> None:
        config = self.config
        if self._evaluation_due():
            self._evaluate()
        rows = batch_lib.rows_needed(self.batch_sharding, self.job.batch_shape)
        stream = batches(self.job.corpus, self.step, config.steps, rows)
        waiting: tuple[int, dict[str, jax.Array]] | None = None
        for local in stream:
            batch = batch_lib.to_devices(local, rows, self.batch_sharding, self.job.batch_shape)
            time_to_save = self.flags[self._long_unsaved()]
            self.state, figures = self._step(self.state, self.frozen, batch, time_to_save)
            self.step += 1
            # The figures of a step are read while the next one runs, so the devices never wait.
            at_save = bool(waiting and self._look(*waiting))
            waiting = (self.step, figures)
            stopping = self.signals.poll()
            at_evaluation = self._evaluation_due()
            at_save |= self.step % config.checkpoint.every == 0
            if stopping or at_evaluation or at_save or self.step == config.steps:
                self._look(*waiting)
                waiting = None
            if stopping:
                raise Stop
            if at_evaluation:
                self._evaluate()
            if at_save:
                self._save()
            self.checkpoints.check()

    def _look(self, step: int, figures: Mapping[str, jax.Array]) -> bool:
        """Logs a step's figures when they are due, ends a run that has diverged.

        Returns:
          Whether it was time to save then by the clock; the same on every process.
        """
        values = {key: float(v) for key, v in jax.device_get(dict(figures)).items()}
        self.watchdog.beat()
        if step % self.config.log.every == 0 or step == self.config.steps:
            applied = step - int(values["skipped"])
            self.metrics.train(
                step,
                {
                    "loss": values["loss"],
                    "learning_rate": float(self.rates[max(applied - 1, 0)]),
                    "grad_norm": values["grad_norm"],
                    "tokens": values["tokens"],
                    "skipped": values["skipped"],
                }
                | {key: values[key] for key in ("z_loss",) if key in values},
            )
        in_row = int(values["skipped_in_row"])
        if in_row >= MAX_SKIPPED:
            self._save()
            raise InputError(
                f"the loss or its gradient was not finite in {in_row} steps in a row, up to step "
                f"{step}; the weights are as they were before and saved: lower the learning rate "
                "in a new run, or look at the text there"
            )
        return values["save"] > 0

    def _long_unsaved(self) -> bool:
        """Whether `checkpoint.minutes` have passed, by the clock of process 0."""
        minutes = self.config.checkpoint.minutes
        since = time.monotonic() - self.saved_at
        return bool(self.speak and minutes and since >= minutes * 60)

    def _moved(self) -> None:
        """Between two pieces of long work, the same in every process: a place to stop."""
        self.watchdog.beat()
        self.signals.check()

    # --- looking ---------------------------------------------------------------------------------

    def _evaluation_due(self) -> bool:
        every = self.config.eval.every
        due = every and (self.step % every == 0 or self.step == self.config.steps)
        # At step 0 nothing has been read, and there may be nothing else to tell.
        wanted = self.step or self.job.corpus.evals or self.config.eval.sample_tokens
        return bool(due and wanted and self.step not in self.evaluated)

    def _evaluate(self) -> None:
        """Scores every held-out set, writes a sample, and tells what has been read.

        A signal leaves it at once.
        """
        config, began = self.config, time.monotonic()
        values: dict[str, Any] = {}
        with self.signals.interruptible():
            for name, view in self.job.corpus.evals.items():
                score = self.scorer(
                    self.state.params, self.frozen, view, name, config.eval.documents, self._moved
                )
                values[f"eval/{name}/loss"] = score.loss
                values[f"eval/{name}/bits_per_byte"] = score.bits_per_byte
                say(
                    f"step {self.step}: {name}: loss {score.loss:.4f} a token, "
                    f"{score.bits_per_byte:.4f} bits per byte",
                    self.speak,
                )
            if config.eval.sample_tokens:
                values["sample"] = self._sample()
                say(f"step {self.step}: sample: {values['sample']!r}", self.speak)
        self.metrics.evaluation(self.step, values | self._read())
        self.evaluated.add(self.step)
        self.metrics.pause(time.monotonic() - began)

    def _read(self) -> dict[str, float]:
        """The share of tokens read so far that each source has, and how often it was read."""
        if not self.step:
            return {}
        read = self.job.corpus.order.read(self.step)
        told = ", ".join(f"{name} {r.share:.2%} ({r.epochs:.3g} x)" for name, r in read.items())
        say(f"step {self.step}: tokens read: {told}", self.speak)
        shares = {f"data/{name}/share": r.share for name, r in read.items()}
        return shares | {f"data/{name}/epochs": r.epochs for name, r in read.items()}

    def _sample(self) -> str:
        prompt = prompt_ids(self.job.tokenizer, self.config.eval.prompt)
        room = self.job.source.architecture.max_position_embeddings - len(prompt)
        count = min(self.config.eval.sample_tokens, room)
        if not prompt or count < 1:
            return ""
        new = []
        for token in self.generator(
            self.state.params,
            self.frozen,
            prompt,
            count,
            stop=stop_ids(self.job.tokenizer, self.job.source),
        ):
            new.append(token)
            self._moved()
        return self.job.tokenizer.decode([*prompt, *new])

    # --- ending ----------------------------------------------------------------------------------

    def _save(self) -> None:
        """Begins to save this step, unless it is saved."""
        if self.saved == self.step:
            return
        began = time.monotonic()
        self.metrics.flush()  # a checkpoint that counts has the figures of all steps before it
        rest = {"opt": self.state.opt, "counters": self.state.counters}
        self.checkpoints.save(self.step, self.state.params, rest, {"step": self.step})
        self.saved, self.saved_at = self.step, time.monotonic()
        self.watchdog.beat()
        self.metrics.pause(time.monotonic() - began)
        self._status(step=self.step)

    def _stop(self) -> None:
        """After a signal: what has been done is saved, and the status says so."""
        if hasattr(self, "state"):
            self._save()
        self.checkpoints.wait()
        self._status(status="stopped", step=self.step, message="stopped by a signal")
        say(f"stopped and saved at step {self.step}; start again to go on", self.speak)

    def _export(self) -> None:
        target = self.config.export
        if not target:
            return
        path = storage.place(target)
        if uploads.taken(path) and origin.is_from(path, self.folder, self.step):
            return
        source, config = self.job.source, self.config
        notes = origin.notes(self.folder, self.step, source.metadata)
        if config.export_card:
            name = path.resolve().name
            source = card.carded(source, notes, self.folder, name, config.export_dtype)
        with self.signals.interruptible():
            export.write(
                path,
                source,
                self.state.params | {n: x for n, x in self.frozen.items() if _whole(x)},
                dtype=config.export_dtype,
                notes=notes,
                between=self._moved,
            )
        if self.job.source.architecture.lora.rank:
            say("its adapters are merged into the weights", self.speak)
        say(f"exported to {path}", self.speak)

    def _status(self, **changes: Any) -> None:
        if self.speak:
            self.folder.set_status(**changes)


def _whole(x: Any) -> bool:
    """Whether a leaf has all its bits; of a quantised one the source has them."""
    return isinstance(x, jax.Array)
