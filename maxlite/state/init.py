"""A config's `init`: what each transform does to a model on the host; without jax."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from functools import singledispatch
from typing import Any

from maxlite.hf import metadata
from maxlite.hf.folder import LazyModel
from maxlite.transforms import Transform


def apply(model: LazyModel, transforms: Iterable[Transform]) -> LazyModel:
    """Applies transforms in order; reads and computes no weights.

    The notes of the result say what was done, its metadata gain an entry each.

    Raises:
      InputError: a transform does not fit the model; the text says why.
    """
    for transform in transforms:
        after = changed(transform, model)
        history = metadata.noted(after.metadata, tool(transform), arguments(transform))
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
