"""The attention interface, and the dense backend against a plain loop."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.model import attention_dense
from maxlite.model.attention import BACKENDS, attention, check, choose

B, H, K, E = 2, 4, 2, 6


def arrays(queries, keys, seed=0):
    rng = np.random.default_rng(seed)
    sizes = ((B, queries, H, E), (B, keys, K, E), (B, keys, K, E))
    return [rng.normal(size=size).astype(np.float32) for size in sizes]


def by_hand(q, k, v, segments=None, offset=0, window=0):
    """float64, one query at a time."""
    out = np.zeros(q.shape)
    for b, s, h in np.ndindex(*q.shape[:3]):
        place, head = s + offset, h // (H // K)
        seen = [
            t
            for t in range(k.shape[1])
            if t <= place
            and (not window or place - t < window)
            and (segments is None or segments[0][b, s] == segments[1][b, t])
        ]
        scores = np.exp([q[b, s, h].astype(float) @ k[b, t, head] / E**0.5 for t in seen])
        out[b, s, h] = scores / scores.sum() @ v[b, seen, head]
    return out


def compiled(q, k, v, segments=None, offset=0, window=0):
    @jax.jit
    def run(q, k, v, segments, offset):
        return attention(q, k, v, segments=segments, offset=offset, window=window)

    return run(q, k, v, segments, offset)


DOCUMENTS = np.array([[1] * 6 + [2] * 5 + [0] * 3, [3] * 4 + [1] + [2] * 9], np.int32)


@pytest.mark.parametrize("window", [0, 1, 4, 100])
def test_dense_is_the_definition(window, monkeypatch):
    monkeypatch.setattr(attention_dense, "BLOCK", 5)  # several blocks, the last one short
    q, k, v = arrays(14, 14)
    segments = (DOCUMENTS, DOCUMENTS) if window != 1 else None
    expected = by_hand(q, k, v, segments, window=window)
    np.testing.assert_allclose(compiled(q, k, v, segments, window=window), expected, atol=1e-5)


@pytest.mark.parametrize("window", [0, 4])
def test_dense_with_a_cache(window):
    q, k, v = arrays(3, 12)
    ours = compiled(q, k, v, offset=6, window=window)
    np.testing.assert_allclose(ours, by_hand(q, k, v, offset=6, window=window), atol=1e-5)


def test_a_query_that_sees_nothing_is_finite():
    q, k, v = arrays(2, 4)
    segments = (np.full((B, 2), 9, np.int32), np.ones((B, 4), np.int32))
    assert np.isfinite(compiled(q, k, v, segments, offset=1)).all()


def test_long_rows_have_few_blocks(monkeypatch):
    sizes = []
    block = attention_dense._block

    def counted(q, *rest):
        sizes.append(q.shape[1])
        return block(q, *rest)

    monkeypatch.setattr(attention_dense, "_block", counted)
    monkeypatch.setattr(attention_dense, "BLOCK", 2)
    jax.eval_shape(attention, *arrays(70, 70))
    assert sum(sizes) == 70 and len(sizes) <= attention_dense.MOST_BLOCKS


def test_softmax_is_float32_and_the_result_the_values_dtype():
    q, k, v = (jnp.asarray(x, jnp.bfloat16) for x in arrays(9, 9))
    ours = compiled(q, k, v)
    assert ours.dtype == jnp.bfloat16
    expected = by_hand(*(np.asarray(x, np.float32) for x in (q, k, v)))
    np.testing.assert_allclose(ours.astype(np.float32), expected, atol=0.02)


def test_backends_by_name():
    assert check("auto") == "auto" and check("dense") == choose("dense", 9) == "dense"
    assert choose("auto", 9) in BACKENDS
    with pytest.raises(InputError, match=r"attention 'Dense' does not exist.*auto, dense"):
        attention(*arrays(2, 2), backend="Dense")
