"""`optimizer.bfloat16`: moments and gradients in half the memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxlite.config import Architecture, Config, Optimizer, resolve
from maxlite.errors import InputError
from maxlite.model import llama
from maxlite.model.memory import gradient_bytes, moment_bytes
from maxlite.plan import plan
from maxlite.rules import Rule
from maxlite.state.claims import claim
from maxlite.training import lowering, optim
from maxlite.training import step as step_lib

ARCH = Architecture(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2
)
CLAIMS = claim("everything", ARCH)
ROWS, SEQ = 8, 16
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


def config(bfloat16, **changes):
    settings = {"learning_rate": 0.01, "warmup": 0, **changes}
    return Config(steps=20, optimizer=Optimizer(bfloat16=bfloat16, **settings))


def batch(micro, number=0):
    ids = np.random.default_rng(number).integers(0, 8, (ROWS, SEQ + 1), np.int32)
    made = {
        "tokens": ids[:, :-1],
        "targets": ids[:, 1:],
        "segments": np.ones((ROWS, SEQ), np.int32),
        "positions": np.broadcast_to(np.arange(SEQ, dtype=np.int32), (ROWS, SEQ)),
        "weights": np.ones((ROWS, SEQ), np.float32),
    }
    return {key: x.reshape(micro, ROWS // micro, SEQ) for key, x in made.items()}


def trained(bfloat16, steps=20, micro=1):
    """(losses, state) after some steps."""
    made = config(bfloat16)
    optimizer = optim.make_optimizer(made)
    params = {
        name: llama.initialize(ARCH, name, shape, jax.random.key(0), jnp.float32)
        for name, shape in CLAIMS.shapes.items()
    }
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
    halved = lowering.halved(made, CLAIMS)
    step = jit(step_lib.make_step(partial(llama.bind, ARCH), optimizer, halved=halved))
    losses = []
    for number in range(steps):
        state, figures = step(state, {}, batch(micro, number), np.zeros(1, np.int32))
        losses.append(float(figures["loss"]))
    return losses, state


def adam(state):
    found = jax.tree.leaves(state.opt, is_leaf=lambda x: isinstance(x, optax.ScaleByAdamState))
    return next(x for x in found if isinstance(x, optax.ScaleByAdamState))


@pytest.fixture(scope="module")
def plain():
    return trained("")


@pytest.mark.parametrize("bfloat16", ["moments", "gradients", "moments,gradients"])
def test_what_is_halved_learns_the_same(bfloat16, plain):
    losses, state = trained(bfloat16)
    assert losses != plain[0]
    np.testing.assert_allclose(losses, plain[0], rtol=2e-3)
    assert plain[0][-1] < 0.8 * plain[0][0]
    assert {x.dtype for x in state.params.values()} == {jnp.dtype("float32")}


def test_moments_of_matrices_alone_are_short():
    state = trained("moments", steps=1)[1]
    held = adam(state)
    for moments in (held.mu, held.nu):
        for name, x in moments.items():
            assert x.dtype == (jnp.bfloat16 if optim.decays(name) else jnp.float32), name


def test_a_gradient_is_rounded_once_and_summed_in_float32(plain):
    """Four micro-batches of equal size are the one big batch, but for the rounding of each."""
    losses = trained("gradients", micro=4)[0]
    np.testing.assert_allclose(losses, plain[0], rtol=2e-3)


def test_gradients_take_half_the_memory():
    """Those of the stack, which a loop writes layer by layer; no copy of the weights is made."""

    def kinds(bfloat16):
        made = config(bfloat16)
        optimizer = optim.make_optimizer(made)
        params = {n: jax.ShapeDtypeStruct(s, jnp.float32) for n, s in CLAIMS.shapes.items()}
        abstract = step_lib.State(
            params, jax.eval_shape(optimizer.init, params), jax.eval_shape(step_lib.new_counters)
        )
        halved = lowering.halved(made, CLAIMS)
        step = step_lib.make_step(partial(llama.bind, ARCH), optimizer, halved=halved)
        jaxpr = jax.make_jaxpr(step)(abstract, {}, batch(1), np.zeros(1, np.int32)).jaxpr
        loops = [eqn for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
        size = np.prod(CLAIMS.shapes["model.layers.mlp.up_proj.weight"])
        return {str(v.aval.dtype) for v in loops[-1].outvars if v.aval.size == size}

    assert kinds("") == {"float32"} and kinds("gradients") == {"bfloat16"}


def test_a_slow_second_moment_is_refused():
    for settings in (
        {"optimizer": Optimizer(bfloat16="moments", beta2=0.999)},
        {"optimizer": Optimizer(bfloat16="moments"), "train": (Rule("all", beta2=0.995),)},
    ):
        with pytest.raises(InputError, match=r"never falls.*lower beta2 to 0\.99"):
            resolve(Config(**settings))
    resolve(Config(optimizer=Optimizer(bfloat16="gradients", beta2=0.999)))
    resolve(Config(optimizer=Optimizer(bfloat16="moments", beta2=0.99)))


def test_a_second_moment_falls_where_it_is_allowed_to():
    """With a gradient that has stopped, down to nothing; the slowest that is allowed."""
    name = "model.layers.mlp.up_proj.weight"
    optimizer = optim.make_optimizer(config("moments", beta2=0.99, clip=0.0))
    params = {name: jnp.ones((1, 64, 64))}
    first = {name: jax.random.normal(jax.random.key(0), (1, 64, 64))}
    state = optimizer.update(first, optimizer.init(params), params)[1]
    held = next(x for x in state if isinstance(x, optax.ScaleByAdamState)).nu[name]
    still = jax.tree.map(jnp.zeros_like, first)
    update = jax.jit(optimizer.update)
    for _ in range(300):
        state = update(still, state, params)[1]
    after = next(x for x in state if isinstance(x, optax.ScaleByAdamState)).nu[name]
    left = np.asarray(after, np.float32) / np.maximum(np.asarray(held, np.float32), 1e-30)
    assert np.median(left) > 0 and np.quantile(left, 0.99) < 2 * 0.99**300


def test_plans_count_what_is_held():
    matrix, norm = "model.layers.mlp.up_proj.weight", "model.norm.weight"
    assert [moment_bytes(matrix, b) for b in ("", "gradients", "moments")] == [8, 8, 4]
    assert [gradient_bytes(matrix, b) for b in ("", "gradients", "moments")] == [4, 2, 4]
    assert gradient_bytes(matrix, "moments,gradients", accumulate=2) == 6
    assert moment_bytes(norm, "moments") == 8 and gradient_bytes(norm, "gradients") == 4

    def memory(bfloat16):
        settings = Optimizer(bfloat16=bfloat16)
        return plan(resolve(Config(architecture=ARCH, optimizer=settings))).memory_gib

    short, plain = memory("moments,gradients"), memory("")
    assert short["optimizer"] < 0.52 * plain["optimizer"]
    assert short["gradients"] < 0.52 * plain["gradients"]
