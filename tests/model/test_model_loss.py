"""The loss and its gradients, against their definition, however tokens are cut into chunks."""

from __future__ import annotations

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from maxlite.model import loss as loss_lib
from maxlite.model.head import Head
from maxlite.model.llama import bind
from maxlite.model.loss import chunk_tokens, row_losses, summed_loss, training_loss
from maxlite.plan import hlo, program
from maxlite.state import mesh as mesh_lib

BATCH, LENGTH, WIDTH, RANK = 8, 16, 12, 3
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster


class Bare:
    """A model that is given its hidden states: `batch["tokens"]`."""

    def __init__(self, head: Head):
        self._head = head

    def __call__(self, tokens, positions, segments, key=None):
        return self._head.inputs

    def head(self, hidden, key=None):
        return self._head


def given(sizes, inputs=1, dtype=np.float32):
    """A head with parts of these sizes, and a batch."""
    rng = np.random.default_rng(0)
    widths = [WIDTH, RANK][:inputs]

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), dtype)

    head = Head(
        tuple(normal(BATCH, LENGTH, k) for k in widths),
        tuple(tuple(normal(n, k) for k in widths) for n in sizes),
    )
    weights = rng.uniform(size=(BATCH, LENGTH)) * (rng.uniform(size=(BATCH, LENGTH)) > 0.3)
    targets = rng.integers(0, sum(sizes), (BATCH, LENGTH))
    targets[:, ::5] = sum(sizes) - 1
    zeros = np.zeros((BATCH, LENGTH), np.int32)
    batch = {"targets": targets.astype(np.int32), "weights": weights.astype(np.float32)}
    return head, batch | dict.fromkeys(("tokens", "positions", "segments"), zeros)


def ours(head, batch, z_loss=0.0):
    return training_loss(Bare(head), batch, z_loss=z_loss)[0]


def plain(head, batch, z_loss=0.0):
    """By definition: every score at once, one log-softmax."""
    scores = jnp.concatenate(
        [
            sum(
                x.astype(np.float32) @ w_VK.astype(np.float32).T
                for x, w_VK in zip(head.inputs, part, strict=True)
            )
            for part in head.tables
        ],
        axis=-1,
    )
    log = jax.nn.log_softmax(scores, axis=-1)
    nll = -jnp.take_along_axis(log, batch["targets"][..., None], -1)[..., 0]
    return jnp.sum(batch["weights"] * (nll + z_loss * jax.nn.logsumexp(scores, -1) ** 2))


def close(found, expected, tolerance=1e-6):
    for one, other in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        scale = np.abs(np.asarray(other, np.float64)).max()
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance * scale)


@pytest.fixture
def chunks(monkeypatch):
    """chunks(tokens): so many tokens a chunk from now on."""
    monkeypatch.setattr(loss_lib, "TILE", 1)
    return lambda tokens: monkeypatch.setattr(loss_lib, "chunk_tokens", lambda *_: tokens)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("tokens", [1000, 64, 7])  # one chunk, two, and 19 of which the last lacks
@pytest.mark.parametrize(("sizes", "inputs"), [((11,), 1), ((4, 1, 6), 1), ((11,), 2), ((7, 4), 2)])
def test_chunks_have_the_loss_and_gradients_of_the_whole(sizes, inputs, tokens, z_loss, chunks):
    chunks(tokens)
    head, batch = given(sizes, inputs)
    found = jit(jax.value_and_grad(ours), static_argnums=2)(head, batch, z_loss)
    close(found, jit(jax.value_and_grad(plain), static_argnums=2)(head, batch, z_loss))


@pytest.mark.parametrize("tokens", [1000, 5])
@pytest.mark.parametrize(
    "mesh",
    ["data=8", "fsdp=8", "sequence=8", "tensor=8", "data=2,fsdp=2,tensor=2", "fsdp=2,sequence=4"],
)
def test_every_mesh_cuts_what_its_devices_have(mesh, tokens, chunks):
    chunks(tokens)
    head, batch = given((30, 7), 2)  # no mesh divides these rows
    expected = jit(jax.value_and_grad(plain))(head, batch)
    mesh = mesh_lib.make_mesh(mesh)
    spread = {key: P(("data", "fsdp"), "sequence") for key in batch}
    places = (Head((P(("data", "fsdp"), "sequence"),) * 2, ((P(), P()),) * 2), spread)
    places = jax.tree.map(lambda s: NamedSharding(mesh, s), places)
    with jax.set_mesh(mesh):
        step = jit(jax.value_and_grad(ours), in_shardings=places, out_shardings=(None, places[0]))
        compiled = step.lower(head, batch).compile()
    close(compiled(*jax.device_put((head, batch), places)), expected)
    # No device sees another's tokens, and tables' gradients are summed once, behind the loop.
    text = compiled.as_text()
    gathered = re.findall(r"= \(?\w+\[([\d,]*)\]\S* all-gather", text)
    assert all(shape.count(",") == 1 for shape in gathered), gathered  # rows and width of a table
    for exchange in (e for phase in loops(text) for e in phase.exchanges):
        assert exchange.payload < 8 * 30 * WIDTH, exchange


def loops(text):
    """What runs more than once in a program."""
    return [phase for phase in program.work(hlo.parse(text), 8).phases if phase.times > 1]


@pytest.mark.parametrize("tokens", [1000, 32])
def test_only_what_trains_costs_a_gradient(tokens, chunks):
    chunks(tokens)
    head, batch = given((70, 20))

    def work(inputs, *trained):
        def loss(wanted, x, tables):
            tables = [(wanted.get(str(i), table),) for i, table in enumerate(tables)]
            return ours(Head((wanted.get("inputs", x),), tuple(tables)), batch)

        tables = [table for (table,) in head.tables]
        wanted = {str(i): tables[i] for i in trained}
        wanted |= {"inputs": head.inputs[0]} if inputs else {}
        lowered = jax.jit(jax.value_and_grad(loss)).lower(wanted, head.inputs[0], tables)
        done = program.work(hlo.parse(lowered.compile().as_text()), 1)
        assert not done.unknown
        return done.flops / (2 * BATCH * LENGTH * WIDTH)

    assert work(True, 0, 1) == 3 * 90
    assert work(True, 1) == 2 * 90 + 20  # old rows are frozen
    assert work(True) == 2 * 90
    assert work(False, 1) == 90 + 20  # nothing below the head trains
    text = jax.jit(ours).lower(head, batch).compile().as_text()
    assert program.work(hlo.parse(text), 1).flops == 2 * BATCH * LENGTH * WIDTH * 90


def test_scores_are_never_all_there(chunks):
    chunks(8)
    head, batch = given((90,))
    text = jit(jax.value_and_grad(ours)).lower(head, batch).compile().as_text()
    sizes = {np.prod([int(n) for n in s.split(",")]) for s in re.findall(r"f32\[([\d,]+)\]", text)}
    assert 8 * 90 in sizes and max(sizes) == BATCH * LENGTH * WIDTH  # the hidden states
    chunks(1000)
    text = jit(jax.value_and_grad(ours)).lower(head, batch).compile().as_text()
    assert "1,1,128,90]" in text


def test_bfloat16_keeps_the_sums_in_float32(chunks):
    head, batch = given((90,))
    inputs = (head.inputs[0].astype(jnp.bfloat16),)
    head = head._replace(inputs=inputs)
    rounded = head._replace(tables=((head.tables[0][0].astype(jnp.bfloat16),),))
    expected = jit(jax.grad(plain))(rounded, batch)
    errors = []
    for tokens in (1000, 4):
        chunks(tokens)
        found = jit(jax.grad(ours))(head, batch)
        table, other = found.tables[0][0], expected.tables[0][0].astype(np.float32)
        assert (found.inputs[0].dtype, table.dtype) == (jnp.bfloat16, np.float32)
        errors.append(float(jnp.linalg.norm(table - other) / jnp.linalg.norm(other)))
    assert max(errors) < 2**-8 and errors[1] < 1.1 * errors[0]  # no worse for 32 chunks


def test_scores_far_from_zero_and_a_target_without_a_row():
    head, batch = given((11,))
    far = head._replace(inputs=(head.inputs[0] * 1e3,))
    found, gradient = jit(jax.value_and_grad(ours))(far, batch)
    assert np.isfinite(found) and all(map(np.all, map(np.isfinite, jax.tree.leaves(gradient))))
    close(found, jit(plain)(far, batch))
    batch["targets"][0, 0], batch["weights"][0, 0] = 11, 1
    assert np.isnan(jit(ours)(head, batch))


def test_what_the_loss_is_made_of(chunks):
    head, batch = given((4, 7))
    for tokens in (1000, 9):
        chunks(tokens)
        both, sums = jit(partial(training_loss, Bare(head), z_loss=0.1))(batch)
        nll, weight = jit(partial(summed_loss, Bare(head)))(batch)
        assert weight == sums.weight == pytest.approx(batch["weights"].sum())
        close((nll, sums.nll), (plain(head, batch),) * 2)
        close((both, sums.penalty), (plain(head, batch, 0.1), plain(head, batch, 0.1) - nll), 3e-6)
        rows, weights = jit(partial(row_losses, Bare(head)))(batch)
        np.testing.assert_allclose(weights, batch["weights"].sum(1), rtol=1e-6)
        for i in range(BATCH):
            one = {key: x[i : i + 1] for key, x in batch.items()}
            mine = head._replace(inputs=tuple(x[i : i + 1] for x in head.inputs))
            close(rows[i], plain(mine, one))


def test_a_chunk_is_as_large_as_the_rule_says():
    assert chunk_tokens(2**12) == 2**13  # 128 MiB of scores
    assert chunk_tokens(20_000) == 13 * 128  # of 1,677
    assert chunk_tokens(128_256) == 1024  # 501 MiB


def test_summed_loss_weighs_tokens_and_adds_up(tiny, random_params, tokens, packed):
    arch = tiny(num_hidden_layers=1)
    params, batch = random_params(arch), packed([9, 8], tokens(arch, length=25))
    loss = jax.jit(lambda batch: summed_loss(bind(arch, params, {}), batch))
    total, weight = loss(batch)
    assert weight == batch["weights"].sum() > 0

    @jax.jit
    def nll_of(batch):
        model = bind(arch, params, {})
        hidden = model(batch["tokens"], batch["positions"], batch["segments"])
        log = jax.nn.log_softmax(model.logits(hidden))
        return -jnp.take_along_axis(log, batch["targets"][..., None], -1)[..., 0]

    nll = np.asarray(nll_of(batch))
    np.testing.assert_allclose(total, nll[batch["weights"] > 0].sum(), rtol=1e-5)

    rows = [{key: x[i : i + 1] for key, x in batch.items()} for i in range(2)]
    np.testing.assert_allclose(total, sum(loss(row)[0] for row in rows), rtol=1e-5)

    other = dict(batch, targets=np.where(batch["weights"] > 0, batch["targets"], 5))
    np.testing.assert_array_equal(loss(other)[0], total)  # targets without weight do not matter
