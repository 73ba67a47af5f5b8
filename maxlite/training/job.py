"""From a config to everything a run needs, checked, before anything is written or trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from maxlite import storage
from maxlite.config import Architecture, Config
from maxlite.console import human, say
from maxlite.data.chat_tokens import taught
from maxlite.data.corpus import Corpus, load_corpus
from maxlite.errors import InputError
from maxlite.hf import metadata
from maxlite.hf.folder import resolve, without_tokenizer
from maxlite.model import attention, llama, nf4
from maxlite.model.flops import flops_per_token
from maxlite.model.memory import moment_bytes
from maxlite.state import checkpoint
from maxlite.state import mesh as mesh_lib
from maxlite.state.claims import Claims, claim, dtypes, table
from maxlite.state.moments import Moments, moments
from maxlite.state.ready import default_dtype
from maxlite.state.run import RunFolder, check_free, check_same, check_store, is_run
from maxlite.state.source import ModelSource, open_model, random_model, run_files
from maxlite.storage import Place
from maxlite.tokenizer import Tokenizer, check_rows, load_tokenizer
from maxlite.training.lowering import binding, dropout_seed


@dataclass
class Job:
    """A run that can start: nothing in it has been written yet."""

    config: Config
    source: ModelSource
    tokenizer: Tokenizer
    corpus: Corpus
    mesh: Mesh
    claims: Claims
    shardings: Mapping[str, NamedSharding]
    moments: Moments | None  # of the stage before, to begin with
    run: RunFolder | None  # the run to go on with
    resumed: int  # its newest verified checkpoint; -1: begin with the source's weights
    problems: Mapping[int, str]  # what is wrong with newer ones

    @property
    def dtype(self) -> Any:
        """Of the computation."""
        return jnp.dtype(self.config.dtype)

    @property
    def batch_shape(self) -> tuple[int, int, int]:
        """[A, B, S]: accumulation steps, rows of a micro-batch, tokens."""
        c = self.config
        return c.accumulate, c.batch_size // c.accumulate, c.seq_len

    @property
    def bind(self) -> Any:
        """(params, frozen) -> the model with this run's settings."""
        return binding(self.config, self.source.architecture, self.dtype)

    @property
    def dropout_seed(self) -> int | None:
        """None where nothing is ever left out."""
        return dropout_seed(self.config, self.source.architecture)

    @property
    def flops_per_token(self) -> float:
        """See `maxlite.model.flops`."""
        arch = self.source.architecture
        return flops_per_token(arch, self.config.seq_len, self.claims.frozen)

    def unlock(self) -> None:
        """Lets other processes train in the run's folder."""
        if self.run:
            self.run.unlock()

    def dtypes(self) -> dict[str, Any]:
        """The dtype of every leaf on the devices: float32 for what trains, else as it is stored."""
        stored = self.source.stored_dtypes(self.claims.rules)
        return dtypes(self.claims, stored, self.config.frozen_dtype)


def prepare(config: Config) -> Job:
    """Opens and checks the model, the tokenizer, the text and the mesh of a config.

    Raises:
      InputError: anything that would stop the run later, where it can be known now.
    """
    if not config.out:
        raise InputError("config key 'out' is empty; name the folder of the run")
    if not (config.data.train or config.data.order):
        raise InputError("config key 'data.train' is empty; name text files, such as text/*.txt")
    if config.dtype == "auto":
        config.dtype = default_dtype()
    out = storage.place(config.out)
    check_store(out)
    run = RunFolder(out) if is_run(out) else None
    if run is None:
        check_free(out)
    try:
        return _prepared(config, run)
    except BaseException:  # a lock at an address does not end with its process
        if run:
            run.unlock()
        raise


def _prepared(config: Config, run: RunFolder | None) -> Job:
    """The rest of `prepare`; the run, if there is one to go on with, is locked."""
    speak = jax.process_index() == 0
    resumed, problems = _resumable(run, config) if run else (-1, {})
    mesh = mesh_lib.make_mesh(config.mesh)
    mesh_lib.check_batch(mesh, config.batch_size, config.accumulate, config.seq_len)
    source, tokenizer = _opened(config, run, resumed)
    arch = source.architecture
    for note in source.notes:
        say(f"{source.where}: {note}", speak)
    _check_rows_and_context(config, arch, tokenizer, speak)
    dtype = jnp.dtype(config.dtype)
    with jax.set_mesh(mesh):
        # Without weights: refuses settings that it does not know.
        llama.Llama(arch, dtype=dtype, attention=config.attention, remat=config.remat)
        say(attention.described(config.attention, config.seq_len, arch.head_dim, dtype), speak)
    mesh_lib.check_heads(mesh, arch)
    kept = None
    if config.keep_optimizer and resumed < 0:
        kept = moments(config.model, config.init)
    begun = kept.counts() if kept else run.description.get("begun", {}) if run else {}
    inserted = metadata.inserted(source.metadata, source.where)
    claims = claim(config.train, arch, inserted, begun)
    if claims.frozen and source.where == "random weights":
        raise InputError(
            f"config key 'train' freezes {claims.frozen[0]} of a model of random weights; name a"
            " model, or train everything"
        )
    if config.frozen_dtype == nf4.NAME:
        nf4.check()
    shardings = mesh_lib.shardings(mesh, claims.shapes)
    corpus = _read(config, run, tokenizer, speak)
    if corpus.template:
        source.files = dict(taught(source.files, corpus.template, tokenizer))
    return Job(
        config=config,
        source=source,
        tokenizer=tokenizer,
        corpus=corpus,
        mesh=mesh,
        claims=claims,
        shardings=shardings,
        moments=kept,
        run=run,
        resumed=resumed,
        problems=problems,
    )


def _opened(config: Config, run: RunFolder | None, resumed: int) -> tuple[ModelSource, Tokenizer]:
    """What the run grows from and its tokenizer: of the run itself, a model, or random weights."""
    if run and (resumed >= 0 or run.base):  # with a base it begins again from what it rests on
        return run_files(run), load_tokenizer(run.model)
    named = config.data.tokenizer
    if config.model:
        _check_finished(storage.place(config.model))
        source = open_model(str(located(config, run)), init=config.init)
        tokenizer = load_tokenizer(named or source.files)
        if named:
            source.files = {**without_tokenizer(source.files), **tokenizer.files}
        return source, tokenizer
    if config.init:
        raise InputError("config key 'init' changes a model, and 'model' is empty: name the model")
    if not named:
        raise InputError(
            "config keys 'model' and 'data.tokenizer' are both empty; a model of random weights "
            "needs a tokenizer: a folder, a tokenizer.model or a tokenizer.json"
        )
    tokenizer = load_tokenizer(named)
    source = random_model(config.architecture, tokenizer, config.seed)
    source.files = dict(tokenizer.files)
    return source, tokenizer


def _check_rows_and_context(
    config: Config, arch: Architecture, tokenizer: Tokenizer, speak: bool
) -> None:
    check_rows(tokenizer, arch.vocab_size)
    if tokenizer.rows < arch.vocab_size:
        say(
            f"{arch.vocab_size - tokenizer.rows} of the model's {arch.vocab_size} vocabulary rows "
            "are beyond the tokenizer: they are kept, and are never a target",
            speak,
        )
    if config.seq_len > arch.max_position_embeddings:
        raise InputError(
            f"seq_len {config.seq_len} is more than the model's max_position_embeddings of "
            f"{arch.max_position_embeddings}; lower seq_len"
        )


def _read(config: Config, run: RunFolder | None, tokenizer: Tokenizer, speak: bool) -> Corpus:
    """The text, which must be what a run that goes on has begun with."""
    corpus = load_corpus(
        config.data,
        tokenizer,
        seed=config.seed,
        seq_len=config.seq_len,
        batch_size=config.batch_size,
        progress=speak,
    )
    corpus.order.check_length(config.steps * config.batch_size)
    if run and run.description["order"] != corpus.order.fingerprint:
        read = config.data.order or ", ".join(listed.source.glob for listed in corpus.file.sources)
        raise InputError(
            f"the text of the run in {run.path} is not what it began with: {read} has another "
            "content, held-out share or tokenizer; restore the files, or choose another out"
        )
    return corpus


def _check_finished(model: Place) -> None:
    """Refuses to begin a stage with a run that has not come to its end."""
    if is_run(model):
        stands = RunFolder(model).status()
        if stands["status"] != "finished":
            raise InputError(
                f"config key 'model' names the run {model}, which is not finished but "
                f"{stands['status']} at step {stands['step']}: start it again until it is, or "
                "export the step that you mean and name the folder"
            )


def located(config: Config, run: RunFolder | None) -> Place:
    """Where `model` is. A run that goes on keeps the commit that it began with."""
    began = run.description.get("source", {}) if run else {}
    commit = began.get("commit", "") if began.get("model") == config.model else ""
    return resolve(config.model, commit or config.revision)


def _resumable(run: RunFolder, config: Config) -> tuple[int, Mapping[int, str]]:
    """The newest verified checkpoint of a run that may go on with this config."""
    if run.description.get("kind") == "import":
        raise InputError(f"{run.path} is an imported model, not a training run; choose another out")
    if jax.process_index() == 0:
        run.lock()  # or the one that holds it could remove a checkpoint while it is read here
    found, problems = checkpoint.find_verified(run.checkpoints)
    verified = run.status()["checkpoint"]
    for step, why in problems.items():
        if why == "incomplete" and step <= verified:  # it was complete once
            problems[step] = "its manifest is gone"
    if found < 0 and (verified >= 0 or set(problems.values()) - {"incomplete"}):
        listed = "; ".join(f"{step}: {why}" for step, why in problems.items()) or "none is left"
        raise InputError(
            f"no checkpoint in {run.checkpoints} can be used ({listed}); the run does not start "
            "from scratch over them: restore one from a copy, or choose another out"
        )
    check_same(run, config, max(found, 0))
    return found, problems


def summary(job: Job) -> str:
    """What the run will do, for the person who starts it."""
    c, shapes, kinds = job.config, job.claims.shapes, job.dtypes()
    count = sum(math.prod(s) for s in shapes.values())
    bytes_ = sum(nf4.nbytes(s, kinds[n]) for n, s in shapes.items())
    held = c.optimizer.bfloat16
    moments = sum(math.prod(shapes[n]) * moment_bytes(n, held) for n in job.claims.trained)
    axes = ", ".join(f"{axis}={size}" for axis, size in job.mesh.shape.items())
    rows = [
        f"model: {job.source.where}, {human(count)} parameters",
        table(job.claims, kinds, held),
        f"memory: weights {bytes_ / 2**30:.2f} GiB, optimizer {moments / 2**30:.2f} GiB, over all "
        f"devices, before activations",
        f"devices: {jax.device_count()} x {jax.devices()[0].device_kind} ({axes}), {c.dtype}",
        job.corpus.summary(c.steps),
        f"steps: {c.steps} of {c.batch_size} x {c.seq_len} tokens, "
        f"{human(job.flops_per_token)} FLOPs a token",
    ]
    return "\n".join(rows)
