"""Scores of a model's units by one of several criteria."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maxlite.errors import InputError
from maxlite.hf.signature import signature
from maxlite.importance import forward, learned
from maxlite.importance.learned import Learning
from maxlite.importance.taylor import taylor
from maxlite.importance.text import Text
from maxlite.state.ready import Ready
from maxlite.surgery.scores import Importance

# What each gives scores of is in its docstring; those of the weights alone need no running model
# and are surgery's own.
CRITERIA: dict[str, Callable[..., Any]] = {
    "block_influence": forward.block_influence,  # layers
    "leave_one_out": forward.leave_one_out,  # layers
    "activation": forward.activation,  # groups, channels, residual
    "taylor": taylor,  # all kinds
    "learned": learned.learned,  # those of its budget
}


def check(ready: Ready, criterion: str, seq_len: int, learning: Learning | None = None) -> None:
    """Refuses what cannot be measured, before any work.

    Raises:
      InputError: no such criterion; a model with adapters beside its weights; longer sequences than
        the model reads; a budget that cannot be met, or one for a criterion that has none.
    """
    if criterion not in CRITERIA:
        known = ", ".join(CRITERIA)
        raise InputError(f"there is no criterion {criterion!r}; choose one of {known}")
    arch = ready.architecture
    if arch.lora.rank:
        raise InputError(
            f"{ready.where} has adapters beside its weights, which have no units of their own:"
            " merge them first, with tools.merge_lora"
        )
    if not 1 <= seq_len <= arch.max_position_embeddings:
        raise InputError(
            f"sequences of {seq_len} tokens cannot be read: {ready.where} reads 1 to"
            f" {arch.max_position_embeddings}; change --seq_len"
        )
    if criterion == "learned":
        learned.check(learning or Learning({}), arch)
    elif learning:
        raise InputError(f"{criterion} scores all units alike: a budget is for --criterion=learned")


def measure(
    ready: Ready,
    criterion: str,
    text: Text,
    *,
    batch_size: int = 8,
    learning: Learning | None = None,
) -> Importance:
    """How much each unit of a model matters.

    Args:
      ready: the model, of a folder or a run; computed in its `dtype`.
      criterion: one of `CRITERIA`.
      text: from `maxlite.importance.text.read`.
      batch_size: sequences at a time, over all devices; for a learned mask those of a step.
      learning: how a mask is learned; None for other criteria.

    Returns:
      Scores of the kinds of units that the criterion tells of. They depend on the arguments alone,
      but for rounding where a criterion sums over other devices.

    Raises:
      InputError: see `check`.
    """
    check(ready, criterion, text.rows["tokens"].shape[1], learning)
    settings = [learning] if learning else []
    arrays = CRITERIA[criterion](ready, text, batch_size, *settings)
    return Importance(criterion, signature(ready.source.tensors), text.said, **arrays)
