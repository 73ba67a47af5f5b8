"""Attention on NVIDIA GPUs by cuDNN's flash kernels, of which jax has a private way of calling.

Packed documents are told apart by where they begin and how long they are (see
`maxlite.model.documents`), which kernels for Hopper and later take; nothing between documents is
computed, and keys and values are not repeated for queries that share them. Documents of a level are
one call, into which rows go cut to the level's length: only offsets say where a document is, so it
may go from one piece to the next. A batch of more short documents than the last level has room for
is computed by `attention_chunked` instead, within the same program.

XLA knows the kernels as custom calls. They are written here, because jax's own function counts the
offsets of shared keys wrongly before 0.11.2 and gives no names to what its backward pass needs, so
that it would run the forward pass again; jax's description of the call, `_configuration`, is used.

Shapes as in `attention`; P and C as in `documents`.
"""

from __future__ import annotations

import inspect
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.mlir import ir

from maxlite import xla
from maxlite.errors import InputError
from maxlite.model import attention_chunked, documents
from maxlite.model.documents import SHARE, Level
from maxlite.model.layout import partition, platform, shards
from maxlite.model.remat import kept

CAPABILITY = (9, 0)
VERSION = 90600  # of cuDNN, from which on packed rows are known
HEAD = 256  # the largest size
# What jax's description of the call must ask for, in this order.
TOLD = (
    "batch num_heads seq_q seq_kv dtype fmha_scale seed dropout_rate mask_type layout "
    "sliding_window_length max_seg_per_batch is_paged_attention is_bwd"
).split()
_ROWS = (0, 2, 1, 3)  # cuDNN's [B, H, S, E], laid in memory as [B, S, H, E]


def obstacle(head: int, dtype: Any) -> str:
    """Why this backend cannot be used here, as the end of a sentence; empty if it can.

    Args:
      head: size of a head.
      dtype: of the computation.
    """
    if platform() != "gpu" or "cuda" not in jax.devices()[0].client.platform_version:
        return f"it runs on NVIDIA GPUs alone, and this is a {platform()}"
    capability = jax.devices()[0].compute_capability
    if tuple(map(int, capability.split("."))) < CAPABILITY:
        return f"it needs compute capability 9.0 (Hopper), and this GPU's is {capability}"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
        return f"it computes in bfloat16 or float16, and dtype is {jnp.dtype(dtype).name}"
    if head > HEAD or head % 8:
        return f"it takes heads of a multiple of 8 up to {HEAD}, and the model's have {head}"
    if shards("sequence") > 1:
        return "it wants whole rows, and the mesh splits them over 'sequence'"
    if xla.deterministic():
        return "its deterministic backward pass would need the square of a row in memory"
    return _unknown()


@cache
def _unknown() -> str:
    """What is wrong with the private part of jax, if anything."""
    version = f"jax {jax.__version__}"
    try:
        found = _cudnn()
        told = list(inspect.signature(found.create_dot_product_attention_backend_config).parameters)
        known = told == TOLD and found.MaskType.CAUSAL and found.AttentionLayout.BTNH
        installed = found.check_cudnn_version()
    except (ImportError, AttributeError):
        known = False
    except RuntimeError:
        return "cuDNN is not installed"
    if not known:
        return f"{version} calls cuDNN in a way that is not known here"
    if installed < VERSION:
        return f"it needs cuDNN {VERSION // 10000}.{VERSION // 100 % 100} or later"
    return ""


def _cudnn() -> Any:
    from jax._src.cudnn import fused_attention_stablehlo

    return fused_attention_stablehlo


def attention(
    q_BSHE: jax.Array,
    k_BTKE: jax.Array,
    v_BTKE: jax.Array,
    *,
    segments: tuple[jax.Array, jax.Array] | None,
    offset: int | jax.Array,
    window: int,
) -> jax.Array:
    """See `maxlite.model.attention.attention`; without a cache, so with S = T and no offset.

    Products are in the dtype of the inputs and sums, scores and softmax float32. A document is the
    tokens side by side that have one number: the numbers of keys are those of queries.

    Raises:
      InputError: it cannot be used here.
    """
    why = obstacle(q_BSHE.shape[-1], q_BSHE.dtype)
    if why:
        raise InputError(f"attention 'cudnn' cannot be used: {why}; choose auto")
    segments_BS = None if segments is None else segments[0]
    run = partial(_attention, window)
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return run(q_BSHE, k_BTKE, v_BTKE, segments_BS)
    heads = "heads" if k_BTKE.shape[2] % shards("heads") == 0 else None  # with their keys
    queries, keys = (partition(x.shape, "batch", None, heads, None) for x in (q_BSHE, k_BTKE))
    rows = None if segments_BS is None else partition(segments_BS.shape, "batch", None)
    return jax.shard_map(
        run, in_specs=(queries, keys, keys, rows), out_specs=queries, check_vma=False
    )(q_BSHE, k_BTKE, v_BTKE, segments_BS)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(window: int, q: jax.Array, k: jax.Array, v: jax.Array, segments: Any) -> jax.Array:
    return _forward(window, q, k, v, segments)[0]


def _kept_forward(
    window: int, q: jax.Array, k: jax.Array, v: jax.Array, segments: Any
) -> tuple[jax.Array, Any]:
    # Both are marked: with one alone, the backward pass would run the forward one again.
    o, lse = map(kept, _forward(window, q, k, v, segments))
    return o, (q, k, v, segments, o, lse)


def _pull(window: int, held: Any, do_BSHE: jax.Array) -> tuple[Any, ...]:
    q, k, v, segments, o, lse = held
    return *_backward(window, q, k, v, segments, o, lse, do_BSHE), None


_attention.defvjp(_kept_forward, _pull)


def _forward(
    window: int, q: jax.Array, k: jax.Array, v: jax.Array, segments_BS: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """o_BSHE, and of each query the logarithm of its softmax's denominator, lse_BSH."""
    if segments_BS is None:
        o_BSHE, lse_BHS = flash(q, k, v, None, window)
        return o_BSHE, lse_BHS.swapaxes(1, 2)
    dealt = documents.levels(segments_BS)

    def by_level() -> tuple[jax.Array, jax.Array]:
        o, lse = jnp.zeros_like(q), jnp.zeros((*q.shape[:2], q.shape[2]), jnp.float32)
        for level in dealt.levels:
            here_o, sums_CHS = flash(q, k, v, level, window)
            here_lse = sums_CHS[level.row_P, :, level.inner_P].reshape(lse.shape)
            o, lse = _where(level, here_o, o), _where(level, here_lse, lse)
        return o, lse

    def otherwise() -> tuple[jax.Array, jax.Array]:
        return attention_chunked.forward(q, k, v, (segments_BS, segments_BS), window)

    return jax.lax.cond(dealt.fit, by_level, otherwise)


def _backward(
    window: int,
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    segments_BS: jax.Array | None,
    o: jax.Array,
    lse_BSH: jax.Array,
    do: jax.Array,
) -> tuple[jax.Array, ...]:
    """The gradients of queries, keys and values."""
    if segments_BS is None:
        return flash_backward(q, k, v, o, lse_BSH.swapaxes(1, 2), do, None, window)
    dealt = documents.levels(segments_BS)
    lse_PH = lse_BSH.reshape(-1, lse_BSH.shape[-1])

    def by_level() -> tuple[jax.Array, ...]:
        gradients = tuple(map(jnp.zeros_like, (q, k, v)))
        for level in dealt.levels:
            places_CS = level.begins_C[:, None] + jnp.arange(level.length)
            sums_CHS = lse_PH.at[places_CS].get(mode="clip").swapaxes(1, 2)
            here = flash_backward(q, k, v, o, sums_CHS, do, level, window)
            gradients = tuple(_where(level, x, y) for x, y in zip(here, gradients, strict=True))
        return gradients

    def otherwise() -> tuple[jax.Array, ...]:
        segments = segments_BS, segments_BS
        return attention_chunked.backward(q, k, v, o, lse_BSH, do, segments, window)

    return jax.lax.cond(dealt.fit, by_level, otherwise)


def _where(level: Level, x_BSHE: jax.Array, y_BSHE: jax.Array) -> jax.Array:
    """x for the documents of a level, y for others: there, x is memory that nobody has written."""
    holds_BS = level.holds_P.reshape(x_BSHE.shape[:2])
    return jnp.where(holds_BS.reshape(*holds_BS.shape, *[1] * (x_BSHE.ndim - 2)), x_BSHE, y_BSHE)


def flash(
    q: jax.Array, k: jax.Array, v: jax.Array, level: Level | None, window: int
) -> tuple[jax.Array, jax.Array]:
    """One call of the kernel, for the documents of a level; None: each row is one document.

    Returns:
      o_BSHE, where the documents are; float32 [C or B, H, S] with S of the level's length: of each
      document's queries, the logarithm of the softmax's denominator.
    """
    call = _Call(q, k, level, window, backward=False)
    o, sums = call(list(map(call.cut, (q, k, v))), [(call.shape(q), q.dtype), call.sums])
    return call.joined(o, q), sums


def flash_backward(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    o: jax.Array,
    sums: jax.Array,
    do: jax.Array,
    level: Level | None,
    window: int,
) -> tuple[jax.Array, ...]:
    """The gradients of one call of `flash`, given its results and the gradient of o; each in
    the shape and dtype of q, k and v."""
    call = _Call(q, k, level, window, backward=True)
    operands = [*map(call.cut, (q, k, v)), sums, call.cut(do), call.cut(o)]
    results = call(operands, [(call.shape(x), x.dtype) for x in (q, k, v)])
    return tuple(call.joined(x, like) for x, like in zip(results, (q, k, v), strict=True))


class _Call:
    """A custom call of XLA's for cuDNN, on rows that are cut to pieces of a level's length."""

    def __init__(
        self, q: jax.Array, k: jax.Array, level: Level | None, window: int, backward: bool
    ):
        self.length = level.length if level else q.shape[1]
        self.rows = q.shape[0] * q.shape[1] // self.length
        self.most = SHARE if level else 1
        heads, self.head = q.shape[2:]
        self.sums = ((self.rows * self.most, heads, self.length), jnp.float32)
        self.documents = []
        if level:
            ends = jnp.full(self.rows, q.shape[0] * q.shape[1], jnp.int32)
            offsets = jnp.append(level.begins_C, ends).reshape(self.rows, -1)
            lengths = level.lengths_C.reshape(self.rows, -1)
            strides = (heads * self.head, k.shape[2] * self.head)
            self.documents = [lengths, lengths, *(offsets * stride for stride in strides)]
        self.name = _cudnn().get_custom_call_name(False, False, backward)
        self.configuration = _configuration(
            (self.rows, heads, self.length, self.head), q.dtype, window, self.most, backward
        )

    def shape(self, x_BSHE: jax.Array) -> tuple[int, ...]:
        """Of a result like x, as cuDNN orders it."""
        return self.rows, x_BSHE.shape[2], self.length, x_BSHE.shape[3]

    def cut(self, x_BSHE: jax.Array) -> jax.Array:
        return x_BSHE.reshape(self.rows, self.length, *x_BSHE.shape[2:])

    def joined(self, x_RHSE: jax.Array, like_BSHE: jax.Array) -> jax.Array:
        """A result, as rows like these."""
        return x_RHSE.transpose(_ROWS).reshape(like_BSHE.shape)

    def __call__(self, operands: list[jax.Array], results: list[Any]) -> list[jax.Array]:
        workspace = ((0,), jnp.uint8)  # XLA finds its size
        wanted = [jax.ShapeDtypeStruct(*result) for result in (*results, workspace)]
        layouts = [_ROWS if len(x.shape) == 4 else tuple(range(len(x.shape))) for x in wanted]
        *found, _ = jax.ffi.ffi_call(
            self.name,
            wanted,
            output_layouts=layouts,
            vmap_method=None,
            custom_call_api_version=2,
            legacy_backend_config=self.configuration,
        )(*operands, *self.documents)
        return found


def _configuration(
    shape: tuple[int, int, int, int], dtype: Any, window: int, documents: int, backward: bool
) -> str:
    """jax's description of the call, JSON: what XLA makes a graph of cuDNN's from."""
    found = _cudnn()
    rows, heads, length, head = shape
    with ir.Context():
        element = ir.F16Type.get() if dtype == jnp.float16 else ir.BF16Type.get()
        return found.create_dot_product_attention_backend_config(
            *(rows, heads, length, length, element, head**-0.5, 42, 0.0, found.MaskType.CAUSAL),
            *(found.AttentionLayout.BTNH.value, window or None, documents, False, backward),
        )
