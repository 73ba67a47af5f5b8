"""The step: accumulation is the big batch, what is not finite changes nothing, frozen is frozen."""

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maxlite.config import Architecture, Config, Optimizer
from maxlite.model import llama
from maxlite.model import loss as loss_lib
from maxlite.model.head import Head
from maxlite.state import mesh as mesh_lib
from maxlite.training import optim
from maxlite.training import step as step_lib

ARCH = Architecture(
    vocab_size=32,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    max_position_embeddings=32,
    initializer_range=0.2,
)
FROZEN = ("model.embed_tokens.weight", "model.layers.self_attn.v_proj.weight")
BIND = partial(llama.bind, ARCH, dtype=jnp.float32)
ROWS, SEQ = 8, 8
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


@pytest.fixture(scope="module")
def optimizer():
    config = Config(steps=10, optimizer=Optimizer(learning_rate=0.05, warmup=2, weight_decay=0.1))
    return optim.make_optimizer(config)


@pytest.fixture(scope="module")
def begin(optimizer):
    """begin(): a fresh state and the frozen parameters."""
    key = jax.random.key(0)

    def make():
        params = {
            name: llama.initialize(ARCH, name, shape, key, jnp.float32)
            for name, shape in llama.shapes(ARCH).items()
        }
        frozen = {name: params.pop(name) for name in FROZEN}
        return step_lib.State(params, opt_init(params), step_lib.new_counters()), frozen

    opt_init = jax.jit(optimizer.init)
    return make


@pytest.fixture(scope="module")
def step(optimizer):
    """The compiled step; one compilation for each number of micro-batches."""
    return jit(step_lib.make_step(BIND, optimizer))


def batch(micro, seed=0, **changes):
    """A batch whose rows have from one to all of their targets counted, as [A, B, S]."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, ARCH.vocab_size, (ROWS, SEQ + 1), np.int32)
    counted = np.arange(SEQ)[None] < 1 + np.arange(ROWS)[:, None] * (SEQ - 1) // (ROWS - 1)
    arrays = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "segments": np.ones((ROWS, SEQ), np.int32),
        "positions": np.broadcast_to(np.arange(SEQ, dtype=np.int32), (ROWS, SEQ)),
        "weights": counted.astype(np.float32),
    } | changes
    return {key: x.reshape(micro, ROWS // micro, SEQ) for key, x in arrays.items()}


NO = np.zeros(8, np.int32)


def same(one, other):
    """Whether two trees are the same bit by bit."""
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


@pytest.fixture(scope="module")
def by_hand(begin):
    """The mean loss of `batch(1)` and its gradient, without the step or the library's loss."""
    params, frozen = begin()[0].params, begin()[1]
    first = {key: x[0] for key, x in batch(1).items()}

    def mean(params):
        model = BIND(params, frozen)
        log = jax.nn.log_softmax(model.logits(model(first["tokens"])))
        nll = -jnp.take_along_axis(log, first["targets"][..., None], -1)[..., 0]
        return jnp.where(first["weights"] > 0, nll, 0).sum() / first["weights"].sum()

    return jit(jax.value_and_grad(mean))(params)


def test_the_loss_is_the_mean_over_counted_tokens(step, begin, by_hand):
    state, frozen = begin()
    _, figures = step(state, frozen, batch(1), NO)
    counted = batch(1)["weights"]
    assert 0 < counted.sum() < counted.size
    assert float(figures["loss"]) == pytest.approx(float(by_hand[0]), rel=1e-6)
    assert float(figures["tokens"]) == counted.sum()


def test_gradients_are_of_what_trains_only(step, begin, by_hand):
    state, frozen = begin()
    new, figures = step(state, frozen, batch(1), NO)
    squares = sum(float(np.square(g, dtype=np.float64).sum()) for g in by_hand[1].values())
    assert float(figures["grad_norm"]) == pytest.approx(squares**0.5, rel=1e-5)
    for tree in (new.params, _adam(new.opt).mu, by_hand[1]):
        assert tree.keys() == llama.shapes(ARCH).keys() - set(FROZEN)
    assert not any(same(x, new.params[name]) for name, x in state.params.items())


def test_accumulation_is_the_one_big_batch(step, begin):
    """Rows differ in their number of tokens, so a mean of means would be something else."""
    state, frozen = begin()
    whole, at_once = step(state, frozen, batch(1), NO)
    parts, in_turn = step(state, frozen, batch(4), NO)
    for key in ("loss", "grad_norm", "tokens"):
        assert float(in_turn[key]) == pytest.approx(float(at_once[key]), rel=1e-6), key
    adam, also = _adam(whole.opt), _adam(parts.opt)
    for name, moment in adam.mu.items():  # the gradient itself, times one factor for all
        scale = float(jnp.abs(moment).max())
        np.testing.assert_allclose(also.mu[name], moment, rtol=1e-6, atol=1e-6 * scale)


def _adam(opt):
    (found,) = (s for s in opt if isinstance(s, optax.ScaleByAdamState))
    return found


def test_training_lowers_the_loss(step, begin):
    state, frozen = begin()
    losses = []
    for _ in range(5):
        state, figures = step(state, frozen, batch(4), NO)
        losses.append(float(figures["loss"]))
    assert losses[-1] < losses[0] - 0.3
    assert int(state.counters["step"]) == 5 and int(state.counters["skipped"]) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("micro", [1, 4])
def test_a_step_that_is_not_finite_changes_only_its_counters(micro, bad, step, begin):
    state, frozen = begin()
    state, _ = step(state, frozen, batch(micro), NO)  # moments and counts that are not zero
    weights = batch(1)["weights"].reshape(ROWS, SEQ).copy()
    weights[-1, 0] = bad
    for streak in (1, 2):
        new, figures = step(state, frozen, batch(micro, weights=weights), NO)
        assert not np.isfinite(float(figures["loss"])) or not np.isfinite(figures["grad_norm"])
        assert same(new.params, state.params)
        assert same(new.opt, state.opt)
        expected = {"step": 1 + streak, "skipped": streak, "skipped_in_row": streak}
        assert {key: int(x) for key, x in new.counters.items()} == expected
        assert {key: int(figures[key]) for key in expected} == expected
        state = new
    state, figures = step(state, frozen, batch(micro, seed=1), NO)
    assert int(figures["skipped_in_row"]) == 0 and int(figures["skipped"]) == 2
    assert int(_adam(state.opt).count) == 2  # the schedule waited, too


def test_a_gradient_alone_that_is_not_finite_is_enough(optimizer):
    """The loss is finite, its gradient overflows."""

    class Cliff:
        def __init__(self, params, frozen):
            self.x = params["w.weight"]

        def __call__(self, tokens, positions, segments, key):
            return jnp.ones((*tokens.shape, 1)) * jnp.sqrt(self.x)  # infinitely steep at 0

        def head(self, hidden, key):
            return Head((hidden,), ((jnp.array([[1.0], [-1.0]]),),))

    step = jit(step_lib.make_step(Cliff, optimizer))
    params = {"w.weight": jnp.zeros((1,))}
    state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
    given = batch(1, targets=np.zeros((ROWS, SEQ), np.int32))
    new, figures = step(state, {}, given, NO)
    assert np.isfinite(float(figures["loss"])) and not np.isfinite(float(figures["grad_norm"]))
    assert same(new.params, params) and int(figures["skipped"]) == 1


@pytest.mark.parametrize("micro", [1, 2])
def test_every_step_and_micro_batch_draws_its_own(micro, optimizer):
    """The loss is what is drawn."""

    class Draws:
        def __init__(self, params, frozen):
            self.x = params["w.weight"]

        def __call__(self, tokens, positions, segments, key):
            return jnp.ones((*tokens.shape, 1)) * jax.random.uniform(key)

        def head(self, hidden, key):
            return Head((hidden,), ((jnp.stack([0 * self.x, self.x]),),))

    params = {"w.weight": jnp.ones((1,))}
    given = batch(micro, targets=np.zeros((ROWS, SEQ), np.int32))
    for name in ("tokens", "weights"):
        given[name] = np.ones_like(given[name])

    def losses(seed):
        step = jit(step_lib.make_step(Draws, optimizer, seed))
        state = step_lib.State(params, optimizer.init(params), step_lib.new_counters())
        found = []
        for _ in range(2):
            new, figures = step(state, {}, given, NO)
            state = state._replace(counters=new.counters)
            found.append(float(figures["loss"]))
        return found

    def drawn(seed, step, number):
        key = jax.random.fold_in(jax.random.key(seed), step)
        return float(jax.random.uniform(jax.random.fold_in(key, number)))

    for seed in (0, 1):
        expected = [
            np.mean([np.log1p(np.exp(drawn(seed, step, i))) for i in range(micro)])
            for step in range(2)
        ]
        np.testing.assert_allclose(losses(seed), expected, rtol=1e-5)


def test_a_batch_without_a_counted_token_is_no_division_by_zero(step, begin):
    state, frozen = begin()
    _, figures = step(state, frozen, batch(1, weights=np.zeros((ROWS, SEQ), np.float32)), NO)
    assert (float(figures["loss"]), float(figures["grad_norm"])) == (0.0, 0.0)


def test_scores_are_never_all_there(optimizer, begin, monkeypatch):
    state, frozen = begin()
    tokens = ROWS * SEQ

    def largest():
        compiled = jit(step_lib.make_step(BIND, optimizer)).lower(state, frozen, batch(1), NO)
        shapes = re.findall(r"f32\[([\d,]+)\]", compiled.compile().as_text())
        sizes = [list(map(int, shape.split(","))) for shape in shapes]
        return max(math.prod(size) for size in sizes if size[-1] == ARCH.vocab_size)

    assert largest() == tokens * ARCH.vocab_size
    monkeypatch.setattr(loss_lib, "TILE", 1)
    monkeypatch.setattr(loss_lib, "chunk_tokens", lambda *_: tokens // 2)
    assert largest() == tokens // 2 * ARCH.vocab_size


def test_z_loss_is_a_figure_of_its_own_and_draws_log_z_to_zero(optimizer, begin, step):
    drawn = jit(step_lib.make_step(BIND, optimizer, z_loss=0.1))
    state, frozen = begin()
    one, figures = drawn(state, frozen, batch(1), NO)
    other, plain = step(state, frozen, batch(1), NO)
    assert float(figures["loss"]) == float(plain["loss"]) and "z_loss" not in plain
    first = float(figures["z_loss"])
    assert first > 0 and not same(one.params, other.params)
    for _ in range(5):
        one, figures = drawn(one, frozen, batch(1), NO)
        other, _ = step(other, frozen, batch(1), NO)
    without = drawn(other, frozen, batch(1), NO)[1]
    assert float(figures["z_loss"]) < min(first, float(without["z_loss"]))
    _, again = drawn(begin()[0], frozen, batch(2), NO)
    assert float(again["z_loss"]) == pytest.approx(first, rel=1e-5)


def test_wishes_to_save_are_counted(step, begin):
    state, frozen = begin()
    wishes = NO.copy()
    wishes[[1, 5]] = 1
    assert int(step(state, frozen, batch(1), wishes)[1]["save"]) == 2
    assert int(step(state, frozen, batch(1), NO)[1]["save"]) == 0


@pytest.mark.filterwarnings("error:Some donated buffers:UserWarning")
def test_on_a_mesh_donated_and_the_same_numbers(step, begin, optimizer):
    """fsdp=4, tensor=2: the state is reused in place, everything else stays, numbers too."""
    mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
    state, frozen = begin()
    alone, expected = step(state, frozen, batch(1), NO)
    with jax.set_mesh(mesh):
        shardings = mesh_lib.shardings(mesh, llama.shapes(ARCH))
        put = {n: jax.device_put(x, shardings[n]) for n, x in state.params.items()}
        still = {n: jax.device_put(x, shardings[n]) for n, x in frozen.items()}
        replicated = mesh_lib.replicated(mesh)
        opt = jax.eval_shape(optimizer.init, put)
        places = optim.state_shardings(opt, shardings, replicated)
        begun = step_lib.init_state(put, optimizer, places, replicated)
        assert same(begun.opt, state.opt)
        where = jax.tree.map(lambda x: x.sharding, begun)
        given = jax.device_put(batch(1), mesh_lib.batch_sharding(mesh))
        wish = mesh_lib.flags(mesh)[True]
        sharded = jit(
            step_lib.make_step(BIND, optimizer),
            donate_argnums=0,
            out_shardings=(where, replicated),
        )
        new, figures = sharded(begun, still, given, wish)
    assert all(x.is_deleted() for x in jax.tree.leaves(begun))
    assert not any(x.is_deleted() for x in jax.tree.leaves((still, given, wish)))
    assert same(still, frozen)
    assert jax.tree.map(lambda x: x.sharding, new) == where
    assert int(figures["save"]) == 8
    for key in ("loss", "grad_norm"):
        assert float(figures[key]) == pytest.approx(float(expected[key]), rel=1e-5)
    for name, x in alone.params.items():
        np.testing.assert_allclose(new.params[name], x, rtol=1e-4, atol=1e-5)
