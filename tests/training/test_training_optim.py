"""AdamW and its schedules, against numbers and against PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxlite.config import Architecture, Config, Optimizer
from maxlite.model import llama
from maxlite.rules import Rule
from maxlite.state import mesh as mesh_lib
from maxlite.training import optim


def rates(steps, **settings):
    schedule = optim.schedule(Config(steps=steps, optimizer=Optimizer(**settings)))
    return [float(schedule(i)) for i in range(steps + 1)]


# Each number is the rate of the update after so many updates.
@pytest.mark.parametrize(
    ("name", "end", "expected"),
    [
        ("constant", 0.1, {0: 0.25, 1: 0.5, 3: 1.0, 4: 1.0, 10: 1.0, 20: 1.0}),
        ("linear", 0.0, {0: 0.25, 3: 1.0, 4: 1.0, 8: 0.75, 12: 0.5, 19: 0.0625, 20: 0.0}),
        ("linear", 0.5, {0: 0.25, 4: 1.0, 12: 0.75, 20: 0.5}),
        ("cosine", 0.1, {0: 0.25, 2: 0.75, 3: 1.0, 4: 1.0, 8: 0.868198, 12: 0.55, 20: 0.1}),
        ("cosine", 0.0, {4: 1.0, 12: 0.5, 16: 0.146447, 19: 0.009607, 20: 0.0}),
        ("cosine", 1.0, {0: 0.25, 4: 1.0, 12: 1.0, 20: 1.0}),
    ],
)
def test_schedules_in_numbers(name, end, expected):
    for warmup in (4, 0.2):
        found = rates(20, learning_rate=1.0, schedule=name, warmup=warmup, end=end)
        for step, rate in expected.items():
            assert found[step] == pytest.approx(rate, abs=1e-6), (step, warmup)
        doubled = rates(20, learning_rate=2.0, schedule=name, warmup=warmup, end=end)
        np.testing.assert_allclose(doubled, 2 * np.array(found), rtol=1e-6)


@pytest.mark.parametrize(("warmup", "first"), [(0, 1.0), (1, 1.0), (2, 0.5), (20, 0.05)])
def test_the_first_update_moves_and_the_last_of_the_warm_up_takes_all(warmup, first):
    found = rates(20, learning_rate=1.0, schedule="constant", warmup=warmup)
    assert found[0] == pytest.approx(first)
    assert found[max(warmup - 1, 0)] == 1.0


@pytest.mark.parametrize("name", ["constant", "linear", "cosine"])
def test_a_single_step(name):
    assert rates(1, learning_rate=1.0, schedule=name, warmup=0)[0] == 1.0
    assert rates(1, learning_rate=1.0, schedule=name, warmup=1)[0] == 1.0


def test_norms_and_biases_do_not_decay():
    arch = Architecture(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_bias=True,
        mlp_bias=True,
    )
    shapes = llama.shapes(arch)
    decaying = {name for name in shapes if optim.decays(name)}
    matrices = {n for n, s in shapes.items() if len(s) - n.startswith("model.layers.") == 2}
    assert decaying == matrices
    config = Config(steps=10, optimizer=Optimizer(learning_rate=0.5, weight_decay=0.2, warmup=0))
    optimizer = optim.make_optimizer(config)
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(lambda p: optimizer.update(still, optimizer.init(p), p))(params)
    for name, update in updates.items():
        expected = -0.5 * 0.2 if name in matrices else 0.0
        np.testing.assert_allclose(update, np.full(shapes[name], expected), rtol=1e-6)


def adam_input(clip, gradient):
    """What the moments are made from: the first moment after one step, without its decay."""
    config = Config(steps=10, optimizer=Optimizer(clip=clip, beta1=0.5, weight_decay=0.0))
    optimizer = optim.make_optimizer(config)
    state = optimizer.init(gradient)
    _, state = optimizer.update(gradient, state, gradient)
    (adam,) = (s for s in state if isinstance(s, optax.ScaleByAdamState))
    return {name: 2 * np.asarray(m) for name, m in adam.mu.items()}


@pytest.mark.parametrize("own", [{"weight_decay": 0.5}, {"beta1": 0.5}, {"beta2": 0.5}], ids=str)
def test_a_rule_has_decay_and_betas_of_its_own(own):
    """What a rule says, an optimizer does whose config says it."""
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal((4, 3), np.float32) for name in ("a.weight", "b.weight")}
    gradients = [
        {name: rng.standard_normal((4, 3), np.float32) for name in params} for _ in range(3)
    ]

    def trained(optimizer):
        state, after = optimizer.init(params), params
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, after)
            after = optax.apply_updates(after, updates)
        return after

    def whole(**settings):
        chosen = {"learning_rate": 0.1, "warmup": 0, "clip": 0.0, **settings}
        return Config(steps=9, optimizer=Optimizer(**chosen))

    rules = {"a.weight": Rule("a"), "b.weight": Rule("b", **own)}
    found = trained(optim.make_optimizer(whole(), rules))
    plain, other = (trained(optim.make_optimizer(c)) for c in (whole(), whole(**own)))
    np.testing.assert_allclose(found["a.weight"], plain["a.weight"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["b.weight"], other["b.weight"], rtol=1e-5, atol=1e-6)
    assert not np.allclose(plain["b.weight"], other["b.weight"], atol=1e-3)


def test_clipping_is_by_the_norm_of_everything():
    gradient = {"a.weight": jnp.array([3.0, 0.0]), "norm.weight": jnp.array([0.0, 4.0])}
    for clip, factor in ((2.5, 0.5), (5.0, 1.0), (7.0, 1.0), (0.0, 1.0)):
        for name, x in adam_input(clip, gradient).items():
            np.testing.assert_allclose(x, factor * gradient[name], rtol=1e-6)


def test_parity_with_pytorch():
    """Twelve steps with warm-up, decay, clipping and decayed and undecayed parameters."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    begin = {
        "model.layers.mlp.up_proj.weight": rng.standard_normal((2, 3, 4)).astype(np.float32),
        "model.norm.weight": rng.standard_normal(4).astype(np.float32),
    }
    scales = [0.01, 1, 30, 0.5, 0.1, 2, 1, 1, 0.3, 7, 1, 0.2]  # some are clipped, some are not
    gradients = [
        {n: (s * rng.standard_normal(x.shape)).astype(np.float32) for n, x in begin.items()}
        for s in scales
    ]
    settings = Optimizer(
        learning_rate=0.02, weight_decay=0.3, warmup=3, beta1=0.8, beta2=0.97, eps=1e-7, clip=2.0
    )
    config = Config(steps=len(scales), optimizer=settings)

    optimizer = optim.make_optimizer(config)
    params = {name: jnp.asarray(x) for name, x in begin.items()}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)

    theirs = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in begin.items()}
    groups = [
        {"params": [x], "weight_decay": 0.3 if optim.decays(name) else 0.0}
        for name, x in theirs.items()
    ]
    adamw = torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.97), eps=1e-7)
    warmup = [1 / 3, 2 / 3, 1.0]
    decay = [0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * i / 9)) for i in range(9)]
    for rate, gradient in zip(warmup + decay, gradients, strict=True):
        changes, state = update(gradient, state, params)
        params = optax.apply_updates(params, changes)
        for name, x in theirs.items():
            x.grad = torch.tensor(gradient[name])
        norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in gradient.values()))
        for x in theirs.values():
            x.grad *= min(1.0, 2.0 / norm)
        for group in adamw.param_groups:
            group["lr"] = 0.02 * rate
        adamw.step()
        for name, x in theirs.items():
            np.testing.assert_allclose(params[name], x.detach().numpy(), rtol=1e-6, atol=1e-6)
    assert np.abs(params["model.norm.weight"] - begin["model.norm.weight"]).max() > 0.05


def test_moments_lie_where_their_parameters_do():
    mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
    shapes = {"model.layers.mlp.up_proj.weight": (2, 8, 16), "model.norm.weight": (16,)}
    shardings = mesh_lib.shardings(mesh, shapes)
    abstract = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in shapes.items()}
    optimizer = optim.make_optimizer(Config())
    state = jax.eval_shape(optimizer.init, abstract)
    replicated = mesh_lib.replicated(mesh)
    found = optim.state_shardings(state, shardings, replicated)
    assert jax.tree.structure(found) == jax.tree.structure(state)
    placed = jax.tree.map(lambda x, s: (x.shape, s), state, found)
    leaves = jax.tree.leaves(placed, is_leaf=lambda x: isinstance(x, tuple) and len(x) == 2)
    leaves = [x for x in leaves if isinstance(x[0], tuple)]
    assert len([1 for shape, _ in leaves if shape == (2, 8, 16)]) == 2
    for shape, sharding in leaves:
        expected = {s: shardings[n] for n, s in shapes.items()}.get(shape, replicated)
        assert sharding == expected
