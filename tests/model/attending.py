"""What the tests of attention backends share: inputs, and results with their gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def arrays(B, S, H, K, E, dtype=np.float32):
    """Queries, keys, values, a cotangent, and the documents of each row."""
    rng = np.random.default_rng(0)
    made = [rng.normal(size=(B, S, heads, E)) for heads in (H, K, K, H)]
    documents = np.sort(rng.integers(0, 4, (B, S)), axis=1)[:, ::-1].astype(np.int32)
    return [jnp.asarray(x, dtype) for x in made], jnp.asarray(documents)


def pulled(function, documents, window):
    """(queries, keys, values, cotangent) -> the result, and the gradients of the first three."""
    segments = None if documents is None else (documents, documents)

    def run(q, k, v):
        return function(q, k, v, segments=segments, offset=0, window=window)

    def both(*made):
        *inputs, cotangent = made
        result, pull = jax.vjp(run, *inputs)
        return result, *pull(cotangent)

    return both


def both(function, made, documents, window):
    """The result, and the gradients of queries, keys and values, as float32."""
    quick = {"xla_backend_optimization_level": 0}  # compiles faster
    found = jax.jit(pulled(function, documents, window), compiler_options=quick)(*made)
    return [np.asarray(x, np.float32) for x in found]
