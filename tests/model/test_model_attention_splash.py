"""The splash backend, run step by step on a CPU, against the dense one."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attending import arrays, both
from jax.sharding import AbstractDevice, AbstractMesh

from maxlite.errors import InputError
from maxlite.model import attention as attention_lib
from maxlite.model import attention_dense, attention_splash
from maxlite.model.attention import check, choose
from maxlite.model.llama import bind, initialize, shapes
from maxlite.model.loss import summed_loss
from maxlite.state.mesh import make_mesh

interpreted = partial(attention_splash.attention, interpret=True)


# Rows that are no whole block, a window that ends within a block, one shared key-value head.
@pytest.mark.parametrize(
    ("S", "H", "K", "window", "packed"), [(200, 4, 2, 0, True), (256, 2, 1, 100, False)]
)
def test_splash_is_dense_attention(S, H, K, window, packed):
    made, documents = arrays(2, S, H, K, 8)
    documents = documents if packed else None
    ours = both(interpreted, made, documents, window)
    expected = both(attention_dense.attention, made, documents, window)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_long_rows_have_larger_blocks(monkeypatch):
    sizes = {S: attention_splash._block(S) for S in (640, 4096, 8192, 16384, 16384 + 512)}
    assert sizes == {640: 128, 4096: 512, 8192: 512, 16384: 1024, 16384 + 512: 512}
    monkeypatch.setattr(attention_splash, "LARGEST", 128)
    monkeypatch.setattr(attention_splash, "LONG", 256)
    made, documents = arrays(1, 512, 2, 1, 8)
    assert attention_splash._block(512) == 256
    ours = both(interpreted, made, documents, 0)
    expected = both(attention_dense.attention, made, documents, 0)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_splash_in_bfloat16():
    """Within two roundings of the largest value: weights are rounded at other places."""
    made, documents = arrays(1, 128, 2, 1, 16, jnp.bfloat16)
    ours = both(interpreted, made, documents, 0)
    expected = both(attention_dense.attention, made, documents, 0)
    for found, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=2**-7 * np.abs(wanted).max())


def test_every_device_has_its_own_queries_and_heads():
    made, documents = arrays(2, 250, 4, 2, 8)
    expected = both(attention_dense.attention, made, documents, 70)
    with jax.set_mesh(make_mesh("fsdp=2,tensor=2,sequence=2")):
        ours = both(interpreted, made, documents, 70)
        spread = both(attention_dense.attention, made, documents, 70)
    for found, other, wanted in zip(ours, spread, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        np.testing.assert_allclose(other, wanted, atol=1e-5)


def test_a_step_on_a_mesh_is_lowered_for_a_tpu(tiny, tokens, packed, monkeypatch):
    """Without one: the kernels and the way into them are in the program that XLA would get."""
    monkeypatch.setattr(attention_lib, "platform", lambda: "tpu")
    arch = tiny(num_hidden_layers=1)
    params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes(arch).items()}
    batch = packed([90, 38], tokens(arch, 8, 129))

    def loss(params):
        return summed_loss(bind(arch, params, {}), batch)[0]

    with jax.set_mesh(make_mesh("fsdp=2,tensor=2,sequence=2")):
        traced = jax.jit(jax.grad(loss)).trace(params)
        program = traced.lower(lowering_platforms=("tpu",)).as_text()
    for kernel in ("splash_mqa_fwd", "splash_mqa_dkv", "splash_mqa_dq"):
        assert f"{kernel}_segmented" in program
    assert "tpu_custom_call" in program


def test_auto_goes_by_the_mesh_in_force():
    chip = AbstractDevice(device_kind="TPU v5e", num_cores=1, platform="tpu")
    assert choose("auto", 4096) == "chunked"
    with jax.sharding.use_abstract_mesh(AbstractMesh((4,), ("fsdp",), abstract_device=chip)):
        assert choose("auto", 4096) == "splash" == check("splash")
        assert choose("auto", 32) == "dense" == choose("dense", 4096)
    with pytest.raises(InputError, match=r"'splash' runs on TPUs .* cpu; choose auto"):
        check("splash")


def test_a_model_with_splash_attention_is_the_same_model(tiny, tokens, packed, monkeypatch):
    arch = tiny(num_hidden_layers=1, initializer_range=0.2, sliding_window=60)
    key = jax.random.key(0)
    params = {n: initialize(arch, n, s, key, jnp.float32) for n, s in shapes(arch).items()}
    batch = packed([90, 38], tokens(arch, 2, 129))

    def loss():
        return jax.jit(lambda params: summed_loss(bind(arch, params, {}), batch)[0])(params)

    expected = loss()
    monkeypatch.setattr(attention_lib, "platform", lambda: "tpu")
    monkeypatch.setitem(attention_lib.BACKENDS, "splash", interpreted)
    np.testing.assert_allclose(loss(), expected, rtol=1e-6)
