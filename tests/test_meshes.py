"""The same steps on every kind of mesh, with vocabularies that no mesh divides."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.config import Architecture, Config, Optimizer
from maxlite.model import llama
from maxlite.model import loss as loss_lib
from maxlite.model.loss import summed_loss
from maxlite.rules import Rule
from maxlite.state import mesh as mesh_lib
from maxlite.state.claims import claim
from maxlite.training import optim
from maxlite.training import step as step_lib
from maxlite.transforms import Lora

ROWS, SEQ = 8, 16
MESHES = [
    *("data=8", "fsdp=8", "tensor=8", "sequence=8"),
    *("data=2,fsdp=2,tensor=2", "fsdp=2,tensor=2,sequence=2"),
]
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def architecture(vocab_size, **changes) -> Architecture:
    """Grouped queries, and heads enough for eight devices."""
    return Architecture(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=changes.pop("num_hidden_layers", 1),
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=2,
        max_position_embeddings=SEQ,
        vocab_size=vocab_size,
        **changes,
    )


MODELS = {  # what trains of it; how many steps
    "whole": (architecture(1001, num_hidden_layers=2), "everything", 20),
    "49,953 rows": (architecture(49953), "everything", 2),
    "40,961 rows, tied, one new": (
        architecture(40961, tie_word_embeddings=True, base_rows=40960),
        (Rule("input,output", rows="new"), Rule("attention")),
        2,
    ),
    "adapters": (architecture(1001, lora=Lora(2, 4.0, "q_proj,embed_tokens,lm_head")), "lora", 2),
}


def batch(vocab_size: int, step: int) -> dict[str, np.ndarray]:
    """Two documents a row, of other lengths in each, so that they end on any device; padding."""
    rng = np.random.default_rng(step)
    ends = np.sort(rng.integers(2, SEQ + 1, (ROWS, 2)), axis=1)
    at = np.arange(SEQ)
    segments = 1 + (at >= ends[:, :1]) - 2 * (at >= ends[:, 1:])
    starts = np.where(segments == 1, 0, np.where(segments == 2, ends[:, :1], ends[:, 1:]))
    ids = rng.integers(0, vocab_size, (ROWS, SEQ + 1))
    ids[:, ::5] = vocab_size - 1  # the row at the edge of what the devices hold
    made = {"tokens": ids[:, :-1], "targets": ids[:, 1:], "segments": segments}
    made = {key: x.astype(np.int32)[None] for key, x in made.items()}
    made["positions"] = (at - starts).astype(np.int32)[None]
    return made | {"weights": (segments > 0).astype(np.float32)[None]}


def learned(name: str, mesh_text: str, devices: int) -> tuple[list[float], dict[str, np.ndarray]]:
    """The losses of some steps, and what trained."""
    arch, train, steps = MODELS[name]
    claims = claim(train, arch)
    mesh = mesh_lib.make_mesh(mesh_text, jax.devices()[:devices])
    mesh_lib.check_heads(mesh, arch)
    mesh_lib.check_batch(mesh, ROWS, 1, SEQ)
    shardings, replicated = mesh_lib.shardings(mesh, claims.shapes), mesh_lib.replicated(mesh)
    rng, leaves = np.random.default_rng(0), {}
    for leaf, shape in claims.shapes.items():
        values = 0.2 * rng.standard_normal(shape, np.float32) + ("norm" in leaf)
        leaves[leaf] = jax.device_put(values, shardings[leaf])
    params = {leaf: leaves.pop(leaf) for leaf in claims.trained}
    settings = Config(steps=20, optimizer=Optimizer(learning_rate=1e-2, warmup=0.0))
    optimizer = optim.make_optimizer(settings)
    places = optim.state_shardings(jax.eval_shape(optimizer.init, params), shardings, replicated)
    bind = partial(llama.bind, arch, dtype=jnp.float32)
    with jax.set_mesh(mesh):
        state = step_lib.init_state(params, optimizer, places, replicated)
        where = jax.tree.map(lambda x: x.sharding, state)
        step = jit(step_lib.make_step(bind, optimizer), out_shardings=(where, replicated))
        losses = []
        for number in range(steps):
            given = jax.device_put(batch(arch.vocab_size, number), mesh_lib.batch_sharding(mesh))
            state, figures = step(state, leaves, given, mesh_lib.flags(mesh)[False])
            losses.append(float(figures["loss"]))
    return losses, jax.device_get(state.params)


@pytest.fixture(scope="module")
def one():
    """one(name): what one device learns; kept."""
    kept = {}

    def get(name):
        if name not in kept:
            kept[name] = learned(name, "", 1)
        return kept[name]

    return get


@pytest.mark.parametrize("mesh", MESHES)
@pytest.mark.parametrize("name", MODELS)
def test_every_mesh_learns_what_one_device_learns(name, mesh, one):
    losses, params = learned(name, mesh, 8)
    expected, wanted = one(name)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    assert len(set(expected)) == len(expected)  # something was learned
    for leaf, values in wanted.items():
        # AdamW makes much of the sign of a gradient that is next to nothing.
        np.testing.assert_allclose(params[leaf], values, atol=1e-3, err_msg=leaf)


@pytest.mark.parametrize("name", MODELS)
def test_and_so_it_does_in_chunks(name, one, monkeypatch):
    expected, wanted = one(name)
    monkeypatch.setattr(loss_lib, "TILE", 1)
    monkeypatch.setattr(loss_lib, "chunk_tokens", lambda *_: 5)  # of 16 that a device has
    losses, params = learned(name, "fsdp=2,tensor=2,sequence=2", 8)
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-5)
    for leaf, values in wanted.items():
        np.testing.assert_allclose(params[leaf], values, atol=1e-3, err_msg=leaf)


def program(mesh_text: str, vocab_size: int = 1001) -> str:
    """The compiled loss and gradients of a model on eight devices."""
    arch = architecture(vocab_size)
    mesh = mesh_lib.make_mesh(mesh_text)
    shardings = mesh_lib.shardings(mesh, llama.shapes(arch))
    params = {
        leaf: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=shardings[leaf])
        for leaf, shape in llama.shapes(arch).items()
    }
    given = jax.device_put(batch(vocab_size, 0), mesh_lib.batch_sharding(mesh))

    def loss(params, given):
        return summed_loss(llama.bind(arch, params, {}), jax.tree.map(lambda x: x[0], given))[0]

    with jax.set_mesh(mesh):
        gradients = jit(jax.grad(loss), out_shardings=shardings)
        return gradients.lower(params, given).compile().as_text()


def test_of_long_rows_only_keys_values_and_segments_are_gathered():
    gathered = set(re.findall(r"= \(?(\w+\[[\d,]*\]).* all-gather", program("sequence=8")))
    assert gathered == {f"f32[{ROWS},{SEQ},8,2]", f"s32[1,{ROWS},{SEQ}]"}


def test_no_device_has_scores_of_the_whole_vocabulary():
    text = program("fsdp=2,tensor=4")
    assert re.search(rf"f32\[1,1,{ROWS // 2 * SEQ},251\]", text)  # 1,001 rows over four, filled up
    assert not re.search(r"f32\[[\d,]+,(1001|1004)\]", text)
    assert re.search(r"f32\[1001,2\]\S* parameter", text)  # stored without filling, in columns
