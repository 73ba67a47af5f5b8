"""Weights in four bits: what they are rounded to, what they take, and that a model computes so."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.model import llama, nf4
from maxlite.state import mesh as mesh_lib

pytest.importorskip("qwix")

# QLoRA, appendix E.
LEVELS = np.array(
    [
        *(-1.0, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0),
    ],
    np.float32,
)


def placed(x, spec=None):
    mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
    return jax.device_put(x, jax.sharding.NamedSharding(mesh, spec or jax.sharding.PartitionSpec()))


def by_hand(w, size):
    """Each block over its largest magnitude, which is bfloat16, to the nearest level."""
    blocks = w.reshape(*w.shape[:-1], -1, size)
    scales = np.abs(blocks).max(-1, keepdims=True)
    nearest = np.abs(blocks[..., None] / scales[..., None] - LEVELS).argmin(-1)
    kept = scales.astype(jnp.bfloat16).astype(np.float32)
    return (LEVELS.astype(jnp.bfloat16).astype(np.float32)[nearest] * kept).reshape(w.shape)


@pytest.mark.parametrize(("inputs", "size"), [(128, 64), (96, 48), (34, 34)])
def test_weights_are_rounded_to_the_levels_of_their_block(inputs, size):
    assert nf4.block(inputs) == size
    w = np.random.default_rng(0).standard_normal((3, 8, inputs), np.float32)
    found = nf4.quantize(placed(w))
    assert found.shape == w.shape and found.codes_LOJ.dtype == np.uint8
    held = sum(x.nbytes for x in found)
    assert held == nf4.nbytes(w.shape, nf4.CODES) == 3 * 8 * (inputs / 2 + 2 * inputs / size)
    whole = jnp.stack([nf4.dequantize(jax.tree.map(lambda x, i=i: x[i], found)) for i in range(3)])
    assert whole.dtype == jnp.bfloat16
    np.testing.assert_allclose(whole.astype(np.float32), by_hand(w, size), rtol=2**-7)
    assert np.abs(whole - w).mean() < 0.1 * np.abs(w).mean()


def test_they_lie_as_the_weights_do():
    spec = mesh_lib.spec("model.layers.mlp.up_proj.weight")
    found = nf4.quantize(placed(np.ones((2, 16, 512), np.float32), spec))
    for part in found:
        assert part.sharding.spec == spec and not part.is_fully_replicated
    narrow = nf4.quantize(placed(np.ones((2, 16, 128), np.float32), spec))
    assert narrow.codes_LOJ.sharding.spec == spec
    assert narrow.scales_LOK.shape[-1] == 2 and narrow.scales_LOK.sharding.spec[-1] is None


def test_a_model_computes_with_what_they_stand_for(tiny, random_params, tokens):
    arch = tiny()
    params = random_params(arch)
    frozen = {n: x for n, x in params.items() if n.endswith("_proj.weight")}
    trained = {n: x for n, x in params.items() if n not in frozen}
    four = {n: nf4.quantize(placed(x)) for n, x in frozen.items()}
    whole = {
        n: jnp.stack([nf4.dequantize(nf4.Quantized(c, s)) for c, s in zip(*q, strict=True)])
        for n, q in four.items()
    }

    def loss(trained, frozen):
        model = llama.bind(arch, trained, frozen)
        return jnp.mean(model.logits(model(tokens(arch))) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    (one, gradient), (other, expected) = (step(trained, f) for f in (four, whole))
    # A compiler may leave out the rounding to bfloat16 in between.
    np.testing.assert_allclose(one, other, rtol=1e-3)
    for name, g in gradient.items():
        assert np.linalg.norm(g - expected[name]) < 5e-2 * np.linalg.norm(expected[name])
    rounding = abs(float(step(trained, frozen)[0]) - float(other))
    assert rounding > 5 * abs(float(one) - float(other))


def test_without_qwix_it_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs qwix: install it with pip"):
        nf4.check()
