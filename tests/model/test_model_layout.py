"""Where activations are pinned, and that it changes no number."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from maxlite.model.layout import constrain
from maxlite.model.llama import bind, init_cache, initialize, shapes
from maxlite.model.loss import summed_loss

AXES = ("data", "fsdp", "sequence", "tensor")


def pinned(mesh, shape, *axes):
    """The partition that `constrain` asks for, or None."""
    with jax.sharding.use_abstract_mesh(mesh):
        jaxpr = jax.make_jaxpr(lambda x: constrain(x, *axes))(jnp.zeros(shape)).jaxpr
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "sharding_constraint":
            return tuple(eqn.params["sharding"].spec)
    return None


def test_axes_go_where_the_table_says():
    mesh = AbstractMesh((1, 4, 2, 2), AXES, axis_types=(AxisType.Auto,) * 4)
    both = ("data", "fsdp")
    assert pinned(mesh, (8, 5, 6), "batch", None, None) == (both, None, None)
    assert pinned(mesh, (8, 5, 6, 3), "batch", None, "heads", None) == (both, None, "tensor", None)
    assert pinned(mesh, (8, 5, 6), "batch", None, "ffn") == (both, None, "tensor")
    assert pinned(mesh, (8, 6, 6), "batch", "sequence", None) == (both, "sequence", None)
    # what does not divide is held whole, but for the vocabulary
    assert pinned(mesh, (3, 5, 7), "batch", "sequence", "ffn") == (None, None, None)
    assert pinned(mesh, (8, 5, 7), "batch", None, "vocab") == (both, None, "tensor")


def test_nothing_happens_without_a_mesh():
    x = np.ones((3, 2))
    assert constrain(x, "batch", None) is x


def test_every_dimension_is_named():
    mesh = AbstractMesh((2,), ("data",), axis_types=(AxisType.Auto,))
    with pytest.raises(ValueError, match=r"zip\(\)"):
        pinned(mesh, (4, 2), "batch")


def test_a_model_with_a_cache_traces_under_a_mesh(tiny, tokens):
    arch = tiny()
    params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes(arch).items()}

    def decode(params):
        cache = init_cache(arch, 8, 12, jnp.float32)
        hidden, cache = bind(arch, params, {})(tokens(arch, 8, 9), cache=cache)
        return bind(arch, params, {}).logits(hidden), cache

    mesh = AbstractMesh((2, 2, 1, 2), AXES, axis_types=(AxisType.Auto,) * 4)
    with jax.sharding.use_abstract_mesh(mesh):
        logits, cache = jax.eval_shape(decode, params)
    assert logits.shape == (8, 9, arch.vocab_size) and cache.keys.shape == (3, 8, 12, 2, 8)


def test_four_devices_give_the_numbers_of_one(tiny, tokens, packed):
    if jax.device_count() < 4:
        pytest.skip("needs 4 devices")
    arch = tiny(num_hidden_layers=2, initializer_range=0.2)
    table = shapes(arch)
    axes = ("data", "fsdp", "tensor")
    mesh = jax.make_mesh(
        (1, 2, 2), axes, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:4]
    )

    # Partitioned programs compile slowly; how fast they run does not matter here.
    quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

    def draw(key):
        return {n: initialize(arch, n, shape, key, jnp.float32) for n, shape in table.items()}

    one = quick(draw)(jax.random.key(0))
    last = {
        n: NamedSharding(mesh, P(*[None] * (len(shape) - 1), "fsdp")) for n, shape in table.items()
    }
    spread = quick(draw, out_shardings=last)(jax.random.key(0))
    for name in table:
        np.testing.assert_array_equal(spread[name], one[name])

    batch = packed([9, 5], tokens(arch, 4, 17))

    def loss(params):
        return summed_loss(bind(arch, params, {}), batch)[0]

    expected, gradient = quick(jax.value_and_grad(loss))(one)
    with jax.set_mesh(mesh):
        ours, ours_gradient = quick(jax.value_and_grad(loss))(spread)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)
    for name, g in gradient.items():
        np.testing.assert_allclose(
            ours_gradient[name], g, atol=1e-5 * np.abs(g).max(), rtol=1e-4, err_msg=name
        )
