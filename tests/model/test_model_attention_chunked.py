"""The chunked backend against the dense one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attending import arrays, both, pulled

from maxlite.model import attention_chunked, attention_dense, remat
from maxlite.model.attention import LONG, choose
from maxlite.state.mesh import make_mesh


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention_chunked, "BLOCK", 32)


# Rows that are no whole block, windows within one and over several, one shared key-value head.
@pytest.mark.parametrize(
    ("S", "H", "K", "window", "packed"),
    [(200, 4, 2, 0, True), (128, 2, 1, 70, True), (97, 4, 4, 5, False), (20, 2, 1, 0, False)],
)
def test_chunked_is_dense_attention(S, H, K, window, packed):
    made, documents = arrays(2, S, H, K, 8)
    documents = documents if packed else None
    ours = both(attention_chunked.attention, made, documents, window)
    expected = both(attention_dense.attention, made, documents, window)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_chunked_in_bfloat16():
    """Within two roundings of the largest value: weights are rounded at other places."""
    made, documents = arrays(1, 128, 2, 1, 16, jnp.bfloat16)
    ours = both(attention_chunked.attention, made, documents, 0)
    expected = both(attention_dense.attention, made, documents, 0)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2**-7 * np.abs(wanted).max())


def test_packed_is_unpacked():
    made, _ = arrays(1, 96, 4, 2, 8)
    documents = jnp.asarray(np.repeat([5, 2, 9], [40, 31, 25])[None], jnp.int32)
    together = both(attention_chunked.attention, made, documents, 0)
    for start, stop in ((0, 40), (40, 71), (71, 96)):
        alone = both(attention_chunked.attention, [x[:, start:stop] for x in made], None, 0)
        for found, wanted in zip(together, alone, strict=True):
            np.testing.assert_allclose(found[:, start:stop], wanted, atol=1e-5)


@pytest.mark.parametrize("window", [0, 45])
def test_every_device_has_its_own_queries_and_heads(window):
    made, documents = arrays(2, 136, 4, 2, 8)
    expected = both(attention_dense.attention, made, documents, window)
    with jax.set_mesh(make_mesh("fsdp=2,tensor=2,sequence=2")):
        ours = both(attention_chunked.attention, made, documents, window)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_scores_are_never_all_there(monkeypatch):
    """Memory grows with the row: four times the length is about four times of it, not sixteen."""
    monkeypatch.setattr(attention_chunked, "BLOCK", 128)

    def temporaries(S):
        made, documents = arrays(1, S, 4, 4, 16)

        def run(*made):
            return pulled(attention_chunked.attention, documents, 0)(*made)

        return jax.jit(run).lower(*made).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(2048) < 6 * temporaries(512)
    assert temporaries(2048) < 4 * 4 * 2048**2 / 2  # half of one copy of the scores


def test_the_backward_pass_does_not_run_the_forward_one_again():
    (q, k, v, _), documents = arrays(1, 64, 2, 1, 8)

    def layer(q, k, v):
        segments = documents, documents
        return attention_chunked.attention(q, k, v, segments=segments, offset=0, window=0).sum()

    def loops(policy):
        kept = jax.checkpoint(layer, policy=remat.policy(policy))
        return str(jax.make_jaxpr(jax.grad(kept, (0, 1, 2)))(q, k, v)).count("scan[")

    assert loops("none") == 2 and loops("full") == 3


def test_auto_takes_it_for_long_rows():
    assert choose("auto", LONG) == "dense" and choose("auto", LONG + 1) == "chunked"
