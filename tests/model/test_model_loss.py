"""The loss, against its definition."""

from __future__ import annotations

import jax
import numpy as np

from maxlite.model.llama import bind
from maxlite.model.loss import summed_loss, token_nll


def test_token_nll_is_minus_log_softmax():
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=30, size=(2, 3, 11)).astype(np.float32)
    logits[0, 0] += 1e4  # softmax does not care
    targets = rng.integers(0, 11, (2, 3)).astype(np.int32)
    exact = logits.astype(np.float64)
    exact -= exact.max(axis=-1, keepdims=True)
    expected = (
        np.log(np.exp(exact).sum(-1)) - np.take_along_axis(exact, targets[..., None], -1)[..., 0]
    )
    nll = token_nll([logits], targets)
    assert nll.dtype == np.float32
    np.testing.assert_allclose(nll, expected, atol=2e-3, rtol=1e-6)


def test_parts_of_a_vocabulary_give_the_loss_of_the_whole():
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=5, size=(2, 6, 11)).astype(np.float32)
    targets = rng.integers(0, 11, (2, 6)).astype(np.int32)
    parts = [logits[..., :4], logits[..., 4:5], logits[..., 5:]]
    np.testing.assert_allclose(token_nll(parts, targets), token_nll([logits], targets), rtol=1e-5)
    (whole,) = jax.grad(lambda x: token_nll(x, targets).sum())([logits])
    split = jax.grad(lambda x: token_nll(x, targets).sum())(parts)
    np.testing.assert_allclose(np.concatenate(split, -1), whole, atol=1e-6)


def test_gradient_is_softmax_minus_one_hot():
    logits = np.random.default_rng(1).normal(size=(1, 2, 5)).astype(np.float32)
    targets = np.array([[3, 0]], np.int32)
    gradient = jax.grad(lambda x: token_nll([x], targets).sum())(logits)
    expected = jax.nn.softmax(logits) - np.eye(5)[targets]
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


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
        return token_nll(model.scores(hidden), batch["targets"])

    nll = np.asarray(nll_of(batch))
    np.testing.assert_allclose(total, nll[batch["weights"] > 0].sum(), rtol=1e-5)

    rows = [{key: x[i : i + 1] for key, x in batch.items()} for i in range(2)]
    np.testing.assert_allclose(total, sum(loss(row)[0] for row in rows), rtol=1e-5)

    other = dict(batch, targets=np.where(batch["weights"] > 0, batch["targets"], 5))
    np.testing.assert_array_equal(loss(other)[0], total)  # targets without weight do not matter
