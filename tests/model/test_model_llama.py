"""The whole model: parity with transformers, and everything that must not change its numbers."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from maxlite.errors import InputError
from maxlite.model.llama import Frozen, Llama, bind, shapes
from maxlite.model.loss import summed_loss

# Here it is compiling that takes the time.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

SHAPES = {
    "mha": {"num_key_value_heads": 4},
    "gqa": {},
    "tied": {"tie_word_embeddings": True},
    "attention_bias": {"attention_bias": True},
    "mlp_bias": {"mlp_bias": True},
    "head_dim": {"head_dim": 12},
    "rope_linear": {"rope_type": "linear", "rope_factor": 3.0},
    "rope_llama3": {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "rope_factor": 8.0,
        "rope_low_freq_factor": 1.0,
        "rope_high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "mistral_window": {"model_type": "mistral", "sliding_window": 7},
}


def logits(arch, params, tokens, *rest, **settings):
    @quick
    def run(params):
        model = bind(arch, params, {}, **settings)
        return model.logits(model(tokens, *rest))

    return np.asarray(run(params))


def peer_logits(model, tokens):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(tokens, dtype=torch.long)).logits.float().numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_transformers(shape, tiny, peer, tokens):
    arch = tiny(**SHAPES[shape])
    model, params = peer(arch)
    batch = tokens(arch)
    expected = peer_logits(model, batch)
    assert expected.std() > 0.5  # logits that say something
    assert {name: x.shape for name, x in params.items()} == shapes(arch)
    np.testing.assert_allclose(logits(arch, params, batch), expected, atol=1e-4, rtol=0)


def test_bfloat16_is_as_close_to_float32_as_transformers(tiny, peer, tokens):
    torch = pytest.importorskip("torch")
    arch = tiny(initializer_range=0.1)
    model, params = peer(arch)
    batch = tokens(arch)
    exact = peer_logits(model, batch)
    theirs = peer_logits(model.to(torch.bfloat16), batch)
    ours = logits(arch, params, batch, dtype=jnp.bfloat16)
    assert ours.dtype == np.float32

    def error(x):
        return np.sqrt(np.mean((x - exact) ** 2)) / exact.std()

    assert error(ours) < 0.02
    assert error(ours) < 1.5 * error(theirs)


@pytest.mark.parametrize("stored", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dtypes(stored, dtype, tiny, tokens):
    arch = tiny(attention_bias=True, mlp_bias=True)
    params = {name: jax.ShapeDtypeStruct(shape, stored) for name, shape in shapes(arch).items()}

    def run(params):
        model = bind(arch, params, {}, dtype=dtype)
        hidden = model(tokens(arch))
        return hidden, model.logits(hidden)

    hidden, scores = jax.eval_shape(run, params)
    assert hidden.dtype == dtype and scores.dtype == jnp.float32
    gradient = jax.eval_shape(jax.grad(lambda p: run(p)[1].sum()), params)
    assert {g.dtype for g in gradient.values()} == {jnp.dtype(stored)}


def test_gradient_is_that_of_transformers(tiny, peer, stacked, tokens, packed):
    torch = pytest.importorskip("torch")
    arch = tiny(tie_word_embeddings=True, attention_bias=True, num_hidden_layers=2)
    model, params = peer(arch)
    ids = tokens(arch, length=25)
    batch = packed([ids.shape[1] - 1], ids)
    rows = torch.tensor(ids, dtype=torch.long)
    scores = model(rows[:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(
        scores.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"
    )
    loss.backward()
    expected = stacked({name: p.grad.numpy() for name, p in model.named_parameters()})

    @quick
    @jax.value_and_grad
    def ours(params):
        return summed_loss(bind(arch, params, {}), batch)[0]

    value, gradient = ours(params)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert gradient.keys() == expected.keys()
    for name, g in gradient.items():
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(g, expected[name], atol=1e-4 * scale, rtol=0, err_msg=name)


def test_packed_documents_are_alone(tiny, random_params, tokens):
    arch = tiny()
    params, ids = random_params(arch), tokens(arch, rows=1)
    segments = np.repeat(np.int32([[1, 2, 0]]), 9, axis=1)[:, :24]
    positions = np.concatenate([np.arange(9), np.arange(9), np.arange(6)])[None].astype(np.int32)

    @quick
    def run(ids, positions, segments):
        model = bind(arch, params, {})
        return model.logits(model(ids, positions, segments))

    together = run(ids, positions, segments)
    assert np.isfinite(together).all()
    # Positions are relative: counting on through the row gives the same.
    straight = run(ids, np.arange(24, dtype=np.int32)[None], segments)
    np.testing.assert_allclose(straight[:, :18], together[:, :18], atol=1e-5)
    for document in (slice(0, 9), slice(9, 18)):
        alone = logits(arch, params, ids[:, document])
        np.testing.assert_allclose(together[:, document], alone, atol=1e-5)


@pytest.fixture(scope="module")
def loss_and_gradient(tiny, random_params, tokens, packed):
    arch = tiny(tie_word_embeddings=True)
    params = random_params(arch)
    batch = packed([10, 6, 6], tokens(arch, length=25))

    def run(frozen=(), **settings):
        trains = {name: x for name, x in params.items() if name not in frozen}
        rest = {name: params[name] for name in frozen}

        def loss(trains, rest):
            return summed_loss(bind(arch, trains, rest, **settings), batch)[0]

        return quick(jax.value_and_grad(loss)).lower(trains, rest).compile(), (trains, rest)

    return run


@pytest.fixture(scope="module")
def everything(loss_and_gradient):
    return loss_and_gradient()


@pytest.fixture(scope="module")
def plain(everything):
    compiled, arguments = everything
    return compiled(*arguments)


@pytest.mark.parametrize(
    "settings", [{"scan_unroll": 2, "remat": "full"}, {"scan_unroll": 8}], ids=str
)
def test_settings_change_no_number(settings, loss_and_gradient, plain):
    compiled, arguments = loss_and_gradient(**settings)
    loss, gradient = compiled(*arguments)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
    for name, expected in plain[1].items():
        scale = np.abs(expected).max()
        np.testing.assert_allclose(gradient[name], expected, atol=1e-5 * scale, err_msg=name)


def test_frozen_parameters_cost_no_gradient(loss_and_gradient, everything, plain):
    frozen = ("model.layers.mlp.up_proj.weight", "model.layers.input_layernorm.weight")
    compiled, arguments = loss_and_gradient(frozen)
    loss, gradient = compiled(*arguments)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
    assert gradient.keys() == plain[1].keys() - set(frozen)
    for name, g in gradient.items():
        scale = np.abs(plain[1][name]).max()
        np.testing.assert_allclose(g, plain[1][name], atol=1e-5 * scale, err_msg=name)
    spared = everything[0].cost_analysis()["flops"] - compiled.cost_analysis()["flops"]
    tokens, width, ffn = 2 * 24, 32, 48  # XLA counts the body of the loop over layers once
    assert spared > 0.9 * (2 * tokens * width * ffn)


def test_frozen_blocks_the_gradient_of_whoever_asks(tiny, random_params, tokens):
    arch = tiny(num_hidden_layers=1)
    params, batch = random_params(arch), tokens(arch)

    def total(params, frozen):
        return bind(arch, params, frozen)(batch).sum()

    frozen = {name: params.pop(name) for name in list(params) if "mlp" in name}
    gradient = quick(jax.grad(total, argnums=1))(params, frozen)
    assert gradient and not any(np.any(g) for g in gradient.values())


@pytest.mark.parametrize(
    ("remat", "count"), [("none", 8), ("matmuls", 7), ("attention", 2), ("full", 1)]
)
def test_backward_pass_copies_no_weights(remat, count, tiny, tokens, packed):
    arch = tiny()
    batch = packed([24], tokens(arch, length=25))
    params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes(arch).items()}

    def loss(params):
        return summed_loss(bind(arch, params, {}, dtype=jnp.bfloat16, remat=remat), batch)[0]

    jaxpr = jax.make_jaxpr(jax.grad(loss))(params).jaxpr
    forward = next(eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan")
    kept = [var.aval.shape for var in forward.outvars]
    rows, length = batch["tokens"].shape
    assert all(shape[-3:-1] != (length, length) for shape in kept)  # nor scores
    assert all((rows, length) in (shape[:2], shape[1:3]) for shape in kept), kept
    assert len(kept) - 1 == count  # of each layer; the last is the way out


def test_bind_copies_nothing_and_keeps_the_kinds(tiny, random_params):
    arch = tiny()
    params = random_params(arch)
    frozen = {name: params.pop(name) for name in list(params) if name.startswith("model.layers.")}
    model = bind(arch, params, frozen)
    assert model.lm_head.weight[0].get_value() is params["lm_head.weight"]
    for name, x in frozen.items():
        variable = model.model.layers[name]
        assert isinstance(variable, Frozen) and variable.get_value() is x


def test_bind_wants_every_parameter_once(tiny, random_params):
    arch = tiny()
    params = random_params(arch)
    norm = {"model.norm.weight": params["model.norm.weight"]}
    with pytest.raises(ValueError, match=r"both.*model\.norm\.weight"):
        bind(arch, params, norm)
    for wrong in (
        {n: x for n, x in params.items() if n not in norm},
        params | {"model.rotary": params["model.norm.weight"]},
        params | {"model.norm.weight": params["model.norm.weight"][:-1]},
    ):
        with pytest.raises(ValueError, match=r"model\.(norm|rotary)"):
            bind(arch, wrong, {})


def test_a_model_without_values_has_the_shapes(tiny):
    arch = tiny()
    model = Llama(arch)
    found = sorted(x.shape for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert found == sorted(shapes(arch).values()) and not jax.tree.leaves(nnx.state(model, Frozen))


@pytest.mark.parametrize(
    ("changes", "settings", "words"),
    [
        ({}, {"attention": "flash"}, "attention 'flash'.*auto, dense"),
        ({}, {"remat": "some"}, "remat 'some'.*none, matmuls, attention, full"),
        ({}, {"scan_unroll": 0}, "scan_unroll must be at least 1, not 0"),
        ({"rope_type": "yarn"}, {}, "rope_type 'yarn'.*llama3"),
        ({"num_key_value_heads": 3}, {}, "num_attention_heads 4 .* num_key_value_heads 3"),
        ({"head_dim": 7}, {}, "head_dim 7 is odd"),
    ],
)
def test_refuses_what_cannot_be(changes, settings, words, tiny):
    with pytest.raises(InputError, match=words):
        Llama(tiny(**changes), **settings)
