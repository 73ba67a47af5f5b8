"""The tensors of a model folder: the names of stacked parameters, layer by layer, and a check."""

import re
from collections.abc import Mapping
from itertools import zip_longest

import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.lazy import StoredTensor
from maxlite.hf.tensors import DTYPES, listed
from maxlite.parameters import EMBEDDING, HEAD, LAYERS, shapes

WEIGHT_DTYPES = [DTYPES[name] for name in ("F32", "F16", "BF16")]


def expected(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a folder, in model order, layers apart."""
    table, tensors = shapes(arch), dict[str, tuple[int, ...]]()
    layered = [name for name in table if name.startswith(LAYERS)]
    for name, shape in table.items():
        if name not in layered:
            tensors[name] = shape
        elif name == layered[0]:
            for layer in range(arch.num_hidden_layers):
                tensors |= {unstacked(own, layer): table[own][1:] for own in layered}
    return tensors


def split(name: str) -> tuple[str, int | None]:
    """A folder's name as (stacked name, layer); the layer is None outside the layers."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    return (LAYERS + match[2], int(match[1])) if match else (name, None)


def unstacked(name: str, layer: int) -> str:
    """The folder's name of one layer of a stacked name; other names are as they were."""
    return f"{LAYERS}{layer}.{name.removeprefix(LAYERS)}" if name.startswith(LAYERS) else name


def check(
    tree: Mapping[str, StoredTensor], arch: Architecture, where: str
) -> tuple[dict[str, StoredTensor], list[str]]:
    """The tensors that belong to the model, in model order, and a line on each thing dropped.

    Args:
        tree: What the files hold.
        arch: What the config says.
        where: The folder, for messages.

    Raises:
        InputError: tensors are missing, not known, of another shape or not stored as floats (all
            are listed), or a tied model stores an output table that differs from its embedding.
    """
    tensors, notes, shapes = dict(tree), [], expected(arch)
    buffers = [name for name in tensors if name.endswith(".rotary_emb.inv_freq")]
    for name in buffers:
        del tensors[name]
    if buffers:
        notes.append(f"{len(buffers)} rotary_emb.inv_freq buffers left out: config.json says them")
    if arch.tie_word_embeddings and HEAD in tensors:
        head = tensors.pop(HEAD)
        if EMBEDDING not in tensors:
            tensors[EMBEDDING] = head
            notes.append(f"{HEAD} read as {EMBEDDING}: the model is tied and stores it so")
        elif same_bytes(head, tensors[EMBEDDING]):
            notes.append(f"{HEAD} left out: the model is tied and it is a copy of {EMBEDDING}")
        else:
            raise InputError(
                f"{where} says tie_word_embeddings but stores a {HEAD} that differs from"
                f" {EMBEDDING}: set tie_word_embeddings to false in config.json, or remove"
                f" {HEAD} if it is not meant"
            )
    missing = [name for name in shapes if name not in tensors]
    extra = [name for name in tensors if name not in shapes]
    both = {name: tensors[name] for name in shapes if name in tensors}
    wrong = [
        f"{name} is {list(tensor.shape)} instead of {list(shapes[name])}"
        for name, tensor in both.items()
        if tensor.shape != shapes[name]
    ]
    stored = [
        f"{name} as {tensor.dtype}"
        for name, tensor in both.items()
        if tensor.dtype not in WEIGHT_DTYPES
    ]
    faults = {
        "missing": missing,
        "not known": extra,
        "of the wrong shape": wrong,
        "not stored as float32, float16 or bfloat16": stored,
    }
    if any(faults.values()):
        told = [f"{len(f)} {what} ({listed(f)})" for what, f in faults.items() if f]
        raise InputError(
            f"the tensors in {where} do not fit its config.json: {'; '.join(told)};"
            " fetch the folder again or correct config.json"
        )
    return both, notes


def same_bytes(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors are the same in dtype, shape and every byte."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip_longest(one.blocks(), other.blocks())
    return all(np.array_equal(a, b) for a, b in pairs)
