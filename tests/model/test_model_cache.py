"""Generation with a cache gives what the whole row gives."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.model.llama import bind, init_cache

# Here it is compiling that takes the time.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def models(tiny, random_params):
    """models(window): (architecture, a compiled call with a cache, a compiled call without)."""

    @functools.cache
    def make(window):
        arch = tiny(sliding_window=window, num_hidden_layers=2)
        params = random_params(arch)

        @quick
        def run(tokens, positions, segments, cache):
            return bind(arch, params, {})(tokens, positions, segments, cache)

        return arch, run, quick(lambda tokens: bind(arch, params, {})(tokens))

    return make


@pytest.mark.parametrize("window", [0, 5])
def test_prefill_then_one_by_one(window, models, tokens):
    arch, run, whole = models(window)
    ids = tokens(arch, length=20)
    cache = init_cache(arch, 2, 24, jnp.float32)
    hidden, cache = run(ids[:, :11], None, None, cache)
    parts = [hidden]
    for at in range(11, 20):
        hidden, cache = run(ids[:, at : at + 1], None, None, cache)
        parts.append(hidden)
    assert int(cache.length) == 20
    assert cache.keys.shape == (2, 2, 24, 2, 8)
    assert run._cache_size() == 2  # the place in the row is traced: one program for all tokens
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole(ids), atol=1e-5, rtol=0)


def test_a_cache_as_long_as_the_prompt(models, tokens):
    arch, run, whole = models(5)
    ids = tokens(arch, length=20)
    hidden, _ = run(ids, None, None, init_cache(arch, 2, 20, jnp.float32))
    np.testing.assert_allclose(hidden, whole(ids), atol=1e-5, rtol=0)


def test_rows_of_different_lengths_are_filled_up_on_the_left(models, tokens):
    arch, run, whole = models(5)
    ids, lengths = tokens(arch, length=20), np.array([20, 13])
    filled = np.stack([np.roll(row, 20 - n) for row, n in zip(ids, lengths, strict=True)])
    places = np.arange(20, dtype=np.int32) - (20 - lengths[:, None])
    segments = (places >= 0).astype(np.int32)
    positions = np.maximum(places, 0).astype(np.int32)
    cache = init_cache(arch, 2, 24, jnp.float32)
    first, cache = run(filled[:, :15], positions[:, :15], segments[:, :15], cache)
    second, _ = run(filled[:, 15:], positions[:, 15:], None, cache)
    hidden = np.concatenate([first, second], axis=1)
    assert np.isfinite(hidden).all()
    alone = whole(ids)  # causal: its first places are those of a shorter row
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(hidden[row, 20 - n :], alone[row, :n], atol=1e-5, rtol=0)


def test_keys_and_values_can_be_kept_in_another_dtype(models, tokens):
    arch, run, _ = models(0)
    ids = tokens(arch, length=20)
    cache = jax.eval_shape(lambda: init_cache(arch, 2, 24, jnp.bfloat16))
    hidden, after = jax.eval_shape(run, ids, None, None, cache)
    assert hidden.dtype == jnp.float32 and after.values.dtype == jnp.bfloat16
