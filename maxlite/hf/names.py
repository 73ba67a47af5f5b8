"""The tensor names of a Llama-family model, stacked and not, and what a folder must hold.

Shapes: V vocabulary, D width, F feed-forward width, H heads, K key-value heads, E head_dim,
L layers. A stacked name has no layer number; its array has the layers on axis 0.
"""

import re
from collections.abc import Mapping
from itertools import zip_longest

import numpy as np

from maxlite.config import Architecture
from maxlite.errors import InputError
from maxlite.hf.lazy import FileTensor
from maxlite.hf.tensors import DTYPES, listed

EMBEDDING = "model.embed_tokens.weight"
NORM = "model.norm.weight"
HEAD = "lm_head.weight"
LAYERS = "model.layers."
WEIGHT_DTYPES = [DTYPES[name] for name in ("F32", "F16", "BF16")]


def layer_shapes(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The tensors of one decoder layer, by their name within it."""
    D, F, E = arch.hidden_size, arch.intermediate_size, arch.head_dim
    q, kv = arch.num_attention_heads * E, arch.num_key_value_heads * E
    matrices = {
        "self_attn.q_proj": (q, D, arch.attention_bias),
        "self_attn.k_proj": (kv, D, arch.attention_bias),
        "self_attn.v_proj": (kv, D, arch.attention_bias),
        "self_attn.o_proj": (D, q, arch.attention_bias),
        "mlp.gate_proj": (F, D, arch.mlp_bias),
        "mlp.up_proj": (F, D, arch.mlp_bias),
        "mlp.down_proj": (D, F, arch.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns, bias) in matrices.items():
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)
        adapters = arch.lora.shapes(name, rows, columns)
        shapes |= {f"{name}.{own}": shape for own, shape in adapters.items()}
    return shapes | {"input_layernorm.weight": (D,), "post_attention_layernorm.weight": (D,)}


def _around(arch: Architecture, layers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    V, D = arch.vocab_size, arch.hidden_size
    head = {} if arch.tie_word_embeddings else {HEAD: (V, D)}
    return {EMBEDDING: (V, D), **layers, NORM: (D,), **head}


def expected(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The name and shape of every tensor of a folder, in model order, layers apart."""
    layer, count = layer_shapes(arch), range(arch.num_hidden_layers)
    return _around(arch, {f"{LAYERS}{i}.{name}": layer[name] for i in count for name in layer})


def stacked(arch: Architecture) -> dict[str, tuple[int, ...]]:
    """The same with layers stacked: one name for all of them, [L, ...]."""
    L = arch.num_hidden_layers
    return _around(arch, {LAYERS + name: (L, *s) for name, s in layer_shapes(arch).items()})


def split(name: str) -> tuple[str, int | None]:
    """A folder's name as (stacked name, layer); the layer is None outside the layers."""
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    return (LAYERS + match[2], int(match[1])) if match else (name, None)


def unstacked(name: str, layer: int) -> str:
    """The folder's name of one layer of a stacked name; other names are as they were."""
    return f"{LAYERS}{layer}.{name.removeprefix(LAYERS)}" if name.startswith(LAYERS) else name


def check(
    tree: Mapping[str, FileTensor], arch: Architecture, where: str
) -> tuple[dict[str, FileTensor], list[str]]:
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


def same_bytes(one: FileTensor, other: FileTensor) -> bool:
    """Whether two stored tensors are the same in dtype, shape and every byte."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    pairs = zip_longest(one.blocks(), other.blocks())
    return all(np.array_equal(a, b) for a, b in pairs)
