"""Adapters beside projections compute what PEFT computes, and nothing before they have trained."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.model import llama
from maxlite.model.flops import flops_per_token
from maxlite.model.layers import Dropout
from maxlite.parameters import EMBEDDING, HEAD
from maxlite.state.mesh import spec
from maxlite.transforms import Lora

ALL = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
KINDS = {
    "lora": {},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "tables": {"targets": "up_proj,embed_tokens,lm_head"},
}


def logits(arch, params, ids, **settings):
    model = llama.bind(arch, params, {}, **settings)
    return np.asarray(jax.jit(lambda ids: model.logits(model(ids)))(ids))


@pytest.fixture
def adapted(tiny, random_params):
    """adapted(**lora): an architecture with adapters, and parameters in which all are random."""

    def make(**lora):
        settings = Lora(**{"rank": 4, "alpha": 6.0, "targets": ALL} | lora)
        arch = tiny(lora=settings, initializer_range=0.1)  # sums of large terms would round more
        return arch, random_params(arch)

    return make


def test_every_adapter_is_a_parameter_with_a_place(tiny):
    plain = llama.shapes(tiny())
    shapes = llama.shapes(tiny(lora=Lora(4, 8.0, "q_proj,down_proj", dora=True)))
    at = "model.layers.{}_proj.lora_{}.weight".format
    assert {name: shapes[name] for name in shapes.keys() - plain.keys()} == {
        at("self_attn.q", "A"): (3, 4, 32),
        at("self_attn.q", "B"): (3, 32, 4),
        at("self_attn.q", "magnitude_vector"): (3, 32),
        at("mlp.down", "A"): (3, 4, 48),
        at("mlp.down", "B"): (3, 32, 4),
        at("mlp.down", "magnitude_vector"): (3, 32),
    }
    for name, shape in shapes.items():
        assert len(spec(name)) <= len(shape)


def test_a_zero_b_changes_no_bit(tiny, adapted, tokens):
    arch, params = adapted()
    params = {n: x * ("lora_B" not in n) for n, x in params.items()}
    plain = {n: x for n, x in params.items() if "lora" not in n}
    ours, theirs = logits(arch, params, tokens(arch)), logits(tiny(), plain, tokens(arch))
    np.testing.assert_array_equal(ours, theirs)


def test_the_magnitudes_alone_scale_the_rows(tiny, adapted, tokens):
    arch, params = adapted(targets="up_proj", dora=True)
    name = "model.layers.mlp.up_proj"
    params[f"{name}.lora_B.weight"] *= 0
    plain = {n: x for n, x in params.items() if "lora" not in n}
    params[f"{name}.lora_magnitude_vector.weight"] = 2 * jnp.linalg.norm(
        plain[f"{name}.weight"], axis=-1
    )
    doubled = plain | {f"{name}.weight": 2 * plain[f"{name}.weight"]}
    ours, theirs = logits(arch, params, tokens(arch)), logits(tiny(), doubled, tokens(arch))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_norms_are_constant_in_the_backward_pass(adapted, tokens):
    """With m equal to the norms and no gradient through them, DoRA's B has LoRA's gradient."""
    arch, params = adapted(targets="up_proj", dora=True)
    name = "model.layers.mlp.up_proj"
    w, a, b = (params[f"{name}.{n}weight"] for n in ("", "lora_A.", "lora_B."))
    whole = w + arch.lora.scale * jnp.einsum("lor,lri->loi", b, a)
    params[f"{name}.lora_magnitude_vector.weight"] = jnp.linalg.norm(whole, axis=-1)
    simple, _ = adapted(targets="up_proj")

    def gradient(arch, params):
        def loss(b):
            model = llama.bind(arch, params | {f"{name}.lora_B.weight": b}, {})
            return jnp.mean(model.logits(model(tokens(arch))) ** 2)

        return np.asarray(jax.jit(jax.grad(loss))(b))

    plain = {n: x for n, x in params.items() if "magnitude" not in n}
    np.testing.assert_allclose(
        gradient(arch, params), gradient(simple, plain), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("kind", KINDS)
def test_as_peft(adapted, peer, tokens, kind):
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    arch, params = adapted(**KINDS[kind])
    theirs, weights = peer(arch)
    params |= {n: jnp.asarray(x) for n, x in weights.items()}
    for name in [n for n in params if "magnitude" in n]:
        params[name] = 1 + jnp.abs(params[name])
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=arch.lora.targets.split(","),
        use_rslora=arch.lora.rslora,
        use_dora=arch.lora.dora,
    )
    wrapped = peft.get_peft_model(theirs, config).eval()
    state = {}
    for name, x in params.items():
        if "lora" in name and not name.startswith("model.layers."):
            own = name.removesuffix(".weight") if "embedding" in name else name
            state[f"base_model.model.{own}"] = torch.from_numpy(np.array(x))
        elif "lora" in name:
            for layer, values in enumerate(np.asarray(x)):
                own = name.replace("layers.", f"layers.{layer}.").removesuffix(".weight")
                own += "" if "magnitude" in own else ".weight"
                state[f"base_model.model.{own}"] = torch.from_numpy(values.copy())
    found = peft.set_peft_model_state_dict(wrapped, state)
    assert not found.unexpected_keys
    ids = tokens(arch)
    with torch.no_grad():
        expected = wrapped(torch.from_numpy(ids).long()).logits.numpy()
        base = wrapped.base_model.model
        with wrapped.disable_adapter():
            without = base(torch.from_numpy(ids).long()).logits.numpy()
    assert np.abs(expected - without).max() > 0.01  # the adapters matter
    np.testing.assert_allclose(logits(arch, params, ids), expected, rtol=1e-5, atol=1e-5)
    if kind == "tables":  # and beside tables in parts
        for name in (EMBEDDING, HEAD):
            whole = params.pop(name)
            params |= {f"{name}[0:80]": whole[:80], f"{name}[80:96]": whole[80:]}
        np.testing.assert_allclose(logits(arch, params, ids), expected, rtol=1e-5, atol=1e-5)


def test_dropout_leaves_out_a_share_and_keeps_the_mean(adapted, tokens):
    """Of a linear function the mean over many draws is what it is without."""
    arch, params = adapted(targets="lm_head", dropout=0.3)
    model, ids = llama.bind(arch, params, {}), tokens(arch)
    hidden = model(ids)

    @jax.jit
    def scores(key):
        return model.head(hidden, key).scores(None, None)[0]

    plain, keys = (
        model.head(hidden).scores(None, None)[0],
        jax.random.split(jax.random.key(0), 4000),
    )
    drawn = jax.lax.map(scores, keys)
    assert float(jnp.abs(drawn[0] - drawn[1]).max()) > 1e-3
    np.testing.assert_array_equal(scores(keys[0]), scores(keys[0]))
    error = jnp.abs(drawn.mean(0) - plain) / (drawn.std(0) / 4000**0.5 + 1e-7)
    assert float(jnp.mean(error < 3)) > 0.99


def test_every_layer_draws_its_own(adapted, tokens, monkeypatch):
    arch, params = adapted(targets="up_proj", dropout=0.5)
    seen = set()

    def told(self, x, key):
        if self.module.endswith("up_proj"):
            jax.debug.callback(lambda u: seen.add(float(u)), jax.random.uniform(key))
        return x

    monkeypatch.setattr(Dropout, "__call__", told)
    hidden = llama.bind(arch, params, {})(tokens(arch), key=jax.random.key(0))
    jax.block_until_ready(hidden)
    jax.effects_barrier()
    assert len(seen) == arch.num_hidden_layers == 3


def test_dropout_differs_by_layer_and_module_and_is_off_without_a_key(adapted, tokens, tiny):
    arch, params = adapted(dropout=0.5)
    model, ids = llama.bind(arch, params, {}), tokens(arch)
    plain = tiny(lora=dataclasses.replace(arch.lora, dropout=0.0), initializer_range=0.1)
    np.testing.assert_array_equal(model(ids), llama.bind(plain, params, {})(ids))
    one, other = (model(ids, key=jax.random.key(i)) for i in (1, 2))
    assert float(jnp.abs(one - other).max()) > 1e-2
    x = jnp.ones((1, 2, 400))
    masks = {
        tuple(np.asarray(Dropout(module, 0.5)(x, jax.random.key(key)) > 0).ravel())
        for module in ("a", "b")
        for key in (1, 2)
    }
    assert len(masks) == 4 and all(0.4 < np.mean(mask) < 0.6 for mask in masks)


def test_its_work_is_counted(tiny):
    lora = Lora(4, 8.0, "q_proj,v_proj")
    plain, arch = tiny(), tiny(lora=lora)
    frozen = [name for name in llama.shapes(arch) if "lora" not in name]
    everything = flops_per_token(arch, 16)
    size = 3 * (4 * 32 + 32 * 4 + 4 * 32 + 16 * 4)
    assert everything == flops_per_token(plain, 16) + 6 * size
    assert flops_per_token(arch, 16, frozen) < everything
    tables = tiny(lora=Lora(4, 8.0, "embed_tokens,lm_head"))
    size = 4 * 32 + (4 * 32 + 96 * 4)  # of the input table's, A is looked up
    assert flops_per_token(tables, 16) == flops_per_token(plain, 16) + 6 * size
    frozen = [name for name in llama.shapes(tables) if "lora_embedding" not in name]
    above = [name for name in llama.shapes(tables) if "lm_head.lora" not in name]
    # A gradient passes through everything, or through nothing but the head's.
    plain_head = [name for name in llama.shapes(plain) if name != HEAD]
    embedding = [name for name in llama.shapes(plain) if name != EMBEDDING]
    assert flops_per_token(tables, 16, frozen) == (
        flops_per_token(plain, 16, embedding) + 6 * 4 * 32 + 4 * (4 * 32 + 96 * 4)
    )
    assert flops_per_token(tables, 16, above) == (
        flops_per_token(plain, 16, plain_head) - 4 * 96 * 32 + 2 * 4 * 32 + 6 * (4 * 32 + 96 * 4)
    )


def test_no_wide_product_is_kept_for_the_backward_pass(tiny, adapted, tokens, capsys):
    """What the layers keep is as large as the projections' own results, adapters or not."""

    def kept(arch, params):
        frozen = {n: x for n, x in params.items() if "q_proj" not in n}
        trained = {n: x for n, x in params.items() if n not in frozen}

        def loss(trained):
            return jnp.sum(llama.bind(arch, trained, frozen)(tokens(arch)))

        jax.ad_checkpoint.print_saved_residuals(loss, trained)
        return sorted(capsys.readouterr().out.count(f"f32[3,2,24,{n}]") for n in (32, 48, 16))

    arch, params = adapted()
    plain = {n: x for n, x in params.items() if "lora" not in n}
    assert kept(arch, params) == kept(tiny(), plain) != [0, 0, 0]
