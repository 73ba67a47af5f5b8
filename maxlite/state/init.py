"""A config's `init`: what each transform does to a model on the host; without jax."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from maxlite.errors import InputError
from maxlite.hf import metadata
from maxlite.hf.folder import LazyModel, without_tokenizer
from maxlite.hf.peft import open_adapter
from maxlite.surgery import adapters, depth, inheritance, vocabulary
from maxlite.surgery.rows import Spans
from maxlite.surgery.tokenizer_files import exchanged
from maxlite.surgery.vocabulary import Vocabulary
from maxlite.tokenizer import Tokenizer, load_tokenizer
from maxlite.tokenizer.extension import check_extends, check_keeps, old_pieces
from maxlite.transforms import (
    AddLora,
    CompactVocab,
    ExtendVocab,
    Inherit,
    Lora,
    MergeLora,
    Transform,
    Untie,
    UpscaleDepth,
)


def apply(model: LazyModel, transforms: Iterable[Transform]) -> LazyModel:
    """Applies transforms in order; reads and computes no weights.

    The notes of the result say what was done, its metadata gain an entry each.

    Raises:
      InputError: a transform does not fit the model; the text says why.
    """
    for transform in transforms:
        adapters.refuse(model, type(transform).__name__)
        after = changed(transform, model)
        known = metadata.based(after.metadata, after.source)
        history = metadata.noted(known, tool(transform), arguments(transform))
        model = dataclasses.replace(after, metadata=history)
    return model


def tool(transform: Transform) -> str:
    """The name of the tool that does the same."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(transform).__name__).lower()


def arguments(transform: Any) -> dict[str, Any]:
    """The settings of a transform that differ from its defaults."""
    default = type(transform)()
    return {k: v for k, v in dataclasses.asdict(transform).items() if v != getattr(default, k)}


@singledispatch
def changed(transform: Transform, model: LazyModel) -> LazyModel:
    """The model after one transform."""
    raise TypeError(f"{type(transform).__name__} has no meaning here")


@changed.register
def _upscaled(transform: UpscaleDepth, model: LazyModel) -> LazyModel:
    settings = dataclasses.asdict(transform)
    return depth.upscale(model, **settings, rows=lambda m: load_tokenizer(m.files).rows)


@changed.register
def _inherited(transform: Inherit, model: LazyModel) -> LazyModel:
    return inheritance.planned(model, **dataclasses.asdict(transform)).result()


@changed.register
def _untied(transform: Untie, model: LazyModel) -> LazyModel:
    return vocabulary.untie(model)


@changed.register
def _extended(transform: ExtendVocab, model: LazyModel) -> LazyModel:
    if not transform.tokenizer:
        raise InputError("ExtendVocab has no tokenizer; name the one that the model shall get")
    model = vocabulary.untie(model) if transform.untie else model
    base, given = load_tokenizer(model.files), load_tokenizer(transform.tokenizer)
    check_extends(base, given)
    files = exchanged(model.files, given.files, same_ids=True)
    del given  # a large one takes room, and comes again with the settings that it inherits
    new = load_tokenizer(files)
    pieces = old_pieces(base, new)
    return vocabulary.extend(
        model,
        _vocabulary(base, model.files),
        _vocabulary(new, files),
        Spans(pieces.ids, pieces.starts, pieces.stops),
        Spans(pieces.ids, pieces.lead_starts, pieces.lead_stops),
        input_init=transform.input_init,
        output_init=transform.output_init,
        match_norms=transform.match_norms,
        reuse_padding=transform.reuse_padding,
        seed=transform.seed,
    )


@changed.register
def _compacted(transform: CompactVocab, model: LazyModel) -> LazyModel:
    if not transform.kept_ids:
        raise InputError("CompactVocab has no kept_ids; name a file with one id a line")
    path = Path(transform.kept_ids).expanduser()
    kept = vocabulary.read_ids(path, model.architecture.vocab_size)
    has_tokenizer = len(without_tokenizer(model.files)) < len(model.files)
    base = load_tokenizer(model.files) if has_tokenizer else None
    old = _vocabulary(base, model.files) if base else None
    if not transform.tokenizer:
        return vocabulary.compact(model, kept, old, None)
    new = load_tokenizer(transform.tokenizer)
    files = exchanged(model.files, new.files, same_ids=False)
    after = vocabulary.compact(model, kept, old, _vocabulary(new, files))
    if base:
        check_keeps(base, new, kept)
    load_tokenizer(files)  # what is carried over must fit it
    return after


def settings_of(transform: AddLora) -> Lora:
    """The settings of the adapters that a transform adds, checked; an adapter's are its own.

    Raises:
      InputError: one that cannot be, or one beside an adapter, which has its own.
    """
    t = transform
    if not t.adapter:
        return adapters.settings(t.rank, t.alpha, t.targets, t.dropout, t.rslora, t.dora)
    given = arguments(t).keys() - {"adapter", "seed"}
    if given:
        told = " and ".join(sorted(given))
        raise InputError(f"AddLora(adapter={t.adapter!r}) says {told} itself: leave it out")
    return open_adapter(t.adapter).lora


@changed.register
def _adapted(transform: AddLora, model: LazyModel) -> LazyModel:
    lora = settings_of(transform)
    if transform.adapter:
        return adapters.load(model, open_adapter(transform.adapter), transform.seed)
    return adapters.add(model, lora, transform.seed)


@changed.register
def _merged(transform: MergeLora, model: LazyModel) -> LazyModel:
    folders = [part.strip() for part in transform.adapter.split(",") if part.strip()]
    if not folders:
        raise InputError("MergeLora has no adapter; name folders that PEFT or maxlite has written")
    return adapters.merge_all(model, [open_adapter(folder) for folder in folders])


def _vocabulary(tokenizer: Tokenizer, files: Mapping[str, Path | bytes]) -> Vocabulary:
    sha256 = hashlib.sha256(tokenizer.path.read_bytes()).hexdigest()
    return Vocabulary(tokenizer.path, tokenizer.rows, sha256, files)
