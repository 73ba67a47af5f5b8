"""The parts of a decoder, as Flax NNX modules whose attribute paths are Hugging Face's names.

A module takes its variables from a mapping of full names. In the layer stack every array has layers
on axis 0; `Llama` scans over them, so that the code here sees one layer at a time.

Shapes: V vocabulary rows, B batch, S sequence, D width, H heads, K key-value heads, E head size,
F FFN channels, I inputs and O outputs of a projection, R rank of an adapter.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from maxlite.config import Architecture
from maxlite.model.attention import attention
from maxlite.model.cache import Cache
from maxlite.model.head import Head
from maxlite.model.layout import constrain, shards
from maxlite.model.rope import rotate
from maxlite.model.variables import value
from maxlite.transforms import Lora

Variables = Mapping[str, nnx.Variable]


class Context(NamedTuple):
    """What every layer of a forward pass shares."""

    rotation: tuple[jax.Array, jax.Array]  # cosines and sines [B, S, 1, R], see `rope.angles`
    segments: tuple[jax.Array, jax.Array] | None  # of queries and keys, int32 [B, S] and [B, T]
    offset: jax.Array  # place of the first token in the row, int32 scalar
    key: jax.Array | None = None  # of what adapters leave out in a training step; None: nothing


class Linear(nnx.Module):
    """y = x Wᵀ + b; weight [O, I], bias [O] or none.

    With an adapter A [R, I], B [O, R]: x (W + s B A)ᵀ + b. With a magnitude m [O] beside them, the
    rows of W + s B A have the norms m.
    """

    def __init__(self, variables: Variables, name: str, lora: Lora):
        self.weight = variables[f"{name}.weight"]
        self.bias = variables.get(f"{name}.bias")
        adapter = [variables.get(f"{name}.lora_{part}.weight") for part in "AB"]
        self.adapter = nnx.List([part for part in adapter if part is not None])
        self.magnitude = variables.get(f"{name}.lora_magnitude_vector.weight")
        self.scale = lora.scale if lora.rank else 0.0
        self.dropout = Dropout(name, lora.dropout)

    def __call__(self, x_BSI: jax.Array, key: jax.Array | None = None) -> jax.Array:
        # Not x @ W.T: transposed weights would be kept for the backward pass, a copy of them all.
        y_BSO = jnp.einsum("bsi,oi->bso", x_BSI, value(self.weight).astype(x_BSI.dtype))
        if self.adapter:
            a_RI, b_OR = (value(part).astype(x_BSI.dtype) for part in self.adapter)
            z_BSR = self.scale * jnp.einsum("bsi,ri->bsr", self.dropout(x_BSI, key), a_RI)
            y_BSO = y_BSO + _wide(z_BSR, b_OR)
        if self.magnitude is not None:
            ratio_O = value(self.magnitude).astype(jnp.float32) / self._norms()
            y_BSO = y_BSO * ratio_O.astype(x_BSI.dtype)
        return y_BSO if self.bias is None else y_BSO + value(self.bias).astype(x_BSI.dtype)

    def _norms(self) -> jax.Array:
        """The norms of the rows of W + s B A, float32 [O], by the binomial formula.

        They are constant in the backward pass (DoRA, arXiv 2402.09353, section 4.3).
        """
        w_OI, a_RI, b_OR = (
            jax.lax.stop_gradient(value(v)).astype(jnp.float32)
            for v in (self.weight, *self.adapter)
        )
        mixed_OR = 2 * jnp.einsum("oi,ri->or", w_OI, a_RI)
        mixed_OR += self.scale * jnp.einsum("os,si,ri->or", b_OR, a_RI, a_RI)
        squares_O = jnp.sum(w_OI**2, -1) + self.scale * jnp.sum(mixed_OR * b_OR, -1)
        return jnp.sqrt(squares_O)


class Dropout(NamedTuple):
    """Leaves out a share of an adapter's inputs and scales the rest up (arXiv 2106.09685, 4.1)."""

    module: str
    share: float

    def __call__(self, x_BSI: jax.Array, key: jax.Array | None) -> jax.Array:
        """Without a key, nothing is left out. Each module draws its own from the layer's key."""
        if key is None or not self.share:
            return x_BSI
        own = jax.random.fold_in(key, np.uint32(zlib.crc32(self.module.encode())))
        stays = jax.random.bernoulli(own, 1 - self.share, x_BSI.shape)
        return jnp.where(stays, x_BSI / (1 - self.share), 0).astype(x_BSI.dtype)


@jax.custom_vjp
def _wide(z_BSR: jax.Array, b_OR: jax.Array) -> jax.Array:
    """z Bᵀ, computed again for the backward pass: cheap, and as large as what the projection gives.

    Products with a batch dimension are not kept, so it gets one, of size 1.
    """
    return jnp.einsum("gbsr,gor->gbso", z_BSR[None], b_OR[None])[0]


def _wide_forward(z_BSR: jax.Array, b_OR: jax.Array) -> tuple[jax.Array, Any]:
    return _wide(z_BSR, b_OR), (z_BSR, b_OR)


def _wide_backward(held: Any, dy_BSO: jax.Array) -> tuple[jax.Array, jax.Array]:
    z_BSR, b_OR = held
    # By way of dBᵀ = zᵀ dy: for dB itself a CPU would transpose dy, which is far larger than z.
    db_RO = jnp.einsum("bsr,bso->ro", z_BSR, dy_BSO)
    return jnp.einsum("bso,or->bsr", dy_BSO, b_OR), db_RO.T


_wide.defvjp(_wide_forward, _wide_backward)


class Table(nnx.Module):
    """A vocabulary table [V, D] in one part or several [Vi, D], which are never concatenated.

    Args:
      parts: their variables, in the order of their rows.
      adapter: A [R, V] and B [D, R] of an input table, A [R, D] and B [V, R] of an output table;
        empty if there is none.
      name: of its module.
      lora: the adapter's settings.
    """

    def __init__(
        self, parts: Sequence[nnx.Variable], adapter: Sequence[nnx.Variable], name: str, lora: Lora
    ):
        self.weight = nnx.List(parts)
        sizes = [part.shape[0] for part in parts]
        self.starts = tuple(itertools.accumulate(sizes[:-1], initial=0))
        self.adapter = nnx.List(adapter)
        self.scale = lora.scale if lora.rank else 0.0
        self.dropout = Dropout(name, lora.dropout)

    def rows(self, tokens_BS: jax.Array, dtype: Any) -> jax.Array:
        """The rows of token ids, [B, S, D] in `dtype`; an id that is none gives NaN."""
        x_BSD = jnp.take(value(self.weight[0]), tokens_BS, axis=0).astype(dtype)
        if shards("vocab") > 1:
            # The partitioner does not find this way by itself and would gather what all devices
            # have looked up.
            x_BSD = constrain(x_BSD, "replicas", "sequence", "width")
        for part, start in zip(self.weight[1:], self.starts[1:], strict=True):
            here_BS = tokens_BS >= start
            local_BS = jnp.where(here_BS, tokens_BS - start, 0)
            new_BSD = jnp.take(value(part), local_BS, axis=0).astype(dtype)
            x_BSD = jnp.where(here_BS[..., None], new_BSD, x_BSD)
        if self.adapter:
            a_RV, b_DR = (value(part) for part in self.adapter)
            z_RBS = jnp.take(a_RV, tokens_BS, axis=1).astype(dtype)
            x_BSD = x_BSD + self.scale * jnp.einsum("rbs,dr->bsd", z_RBS, b_DR.astype(dtype))
        return x_BSD

    def head(self, hidden_BSD: jax.Array, key: jax.Array | None = None) -> Head:
        """The products of hidden states [B, S, D] with every row, to be computed in parts."""
        tables = [value(part) for part in self.weight]
        if not self.adapter:
            return Head((hidden_BSD,), tuple((table_VD,) for table_VD in tables))
        a_RD, b_VR = (value(part) for part in self.adapter)
        a_RD = a_RD.astype(hidden_BSD.dtype)
        z_BSR = self.scale * jnp.einsum("bsd,rd->bsr", self.dropout(hidden_BSD, key), a_RD)
        parts = zip(tables, self.starts, strict=True)
        return Head(
            (hidden_BSD, z_BSR),
            tuple((w_VD, b_VR[start : start + w_VD.shape[0]]) for w_VD, start in parts),
        )


class RMSNorm(nnx.Module):
    """x / rms(x) in float32, then times the weight [D] in x's dtype (arXiv 1910.07467)."""

    def __init__(self, variables: Variables, name: str, eps: float):
        self.weight = variables[f"{name}.weight"]
        self.eps = eps

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        x32_BSD = x_BSD.astype(jnp.float32)
        scale_BS1 = jax.lax.rsqrt(jnp.mean(x32_BSD**2, axis=-1, keepdims=True) + self.eps)
        return value(self.weight).astype(x_BSD.dtype) * (x32_BSD * scale_BS1).astype(x_BSD.dtype)


class SelfAttention(nnx.Module):
    """Grouped-query attention (arXiv 2305.13245): rotary, causal, packed, optionally windowed."""

    def __init__(self, variables: Variables, name: str, arch: Architecture, backend: str):
        self.q_proj = Linear(variables, f"{name}.q_proj", arch.lora)
        self.k_proj = Linear(variables, f"{name}.k_proj", arch.lora)
        self.v_proj = Linear(variables, f"{name}.v_proj", arch.lora)
        self.o_proj = Linear(variables, f"{name}.o_proj", arch.lora)
        self.head_dim = arch.head_dim
        self.window = arch.sliding_window
        self.backend = backend

    def _heads(self, x_BSO: jax.Array) -> jax.Array:
        x_BSHE = x_BSO.reshape(*x_BSO.shape[:2], -1, self.head_dim)
        return constrain(x_BSHE, "batch", "sequence", "heads", None)

    def __call__(
        self, x_BSD: jax.Array, context: Context, cache: Cache | None, layer: jax.Array
    ) -> tuple[jax.Array, Cache | None]:
        key = context.key
        q_BSHE = rotate(self._heads(self.q_proj(x_BSD, key)), context.rotation)
        k_BSKE = rotate(self._heads(self.k_proj(x_BSD, key)), context.rotation)
        v_BSKE = self._heads(self.v_proj(x_BSD, key))
        if cache is not None:
            cache = cache.append(layer, k_BSKE, v_BSKE)
            k_BSKE, v_BSKE = cache.layer(layer)
        o_BSHE = attention(
            q_BSHE,
            k_BSKE.astype(q_BSHE.dtype),
            v_BSKE.astype(q_BSHE.dtype),
            segments=context.segments,
            offset=context.offset,
            window=self.window,
            backend="dense" if cache else self.backend,
        )
        o_BSHE = constrain(o_BSHE, "batch", "sequence", "heads", None)
        return self.o_proj(o_BSHE.reshape(*x_BSD.shape[:2], -1), key), cache


class MLP(nnx.Module):
    """down(silu(gate(x)) * up(x)): SwiGLU (arXiv 2002.05202)."""

    def __init__(self, variables: Variables, name: str, lora: Lora):
        self.gate_proj = Linear(variables, f"{name}.gate_proj", lora)
        self.up_proj = Linear(variables, f"{name}.up_proj", lora)
        self.down_proj = Linear(variables, f"{name}.down_proj", lora)

    def __call__(self, x_BSD: jax.Array, key: jax.Array | None = None) -> jax.Array:
        h_BSF = jax.nn.silu(self.gate_proj(x_BSD, key)) * self.up_proj(x_BSD, key)
        return self.down_proj(constrain(h_BSF, "batch", "sequence", "ffn"), key)


class DecoderLayer(nnx.Module):
    """Attention and MLP, each on a normed input and added to the residual."""

    def __init__(self, variables: Variables, name: str, arch: Architecture, backend: str):
        eps = arch.rms_norm_eps
        self.input_layernorm = RMSNorm(variables, f"{name}.input_layernorm", eps)
        self.self_attn = SelfAttention(variables, f"{name}.self_attn", arch, backend)
        self.post_attention_layernorm = RMSNorm(variables, f"{name}.post_attention_layernorm", eps)
        self.mlp = MLP(variables, f"{name}.mlp", arch.lora)

    def __call__(
        self, x_BSD: jax.Array, context: Context, cache: Cache | None, layer: jax.Array
    ) -> tuple[jax.Array, Cache | None]:
        o_BSD, cache = self.self_attn(self.input_layernorm(x_BSD), context, cache, layer)
        x_BSD = x_BSD + o_BSD
        x_BSD = x_BSD + self.mlp(self.post_attention_layernorm(x_BSD), context.key)
        return constrain(x_BSD, "batch", "sequence", None), cache
