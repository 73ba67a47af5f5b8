"""Likelihoods of many pairs against the model's own scores of each alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.likelihood import Likelihoods, _pieces
from maxlite.state.ready import ready_model


@pytest.fixture(scope="module")
def ready(tmp_path_factory, make_folder):
    folder = make_folder(tmp_path_factory.mktemp("likelihood") / "model", scale=0.5)
    return ready_model(str(folder))


@pytest.fixture(scope="module")
def likelihoods(ready):
    return Likelihoods(ready)


def alone(ready, context, continuation):
    """The same of one pair, from all of the model's scores."""
    limit = ready.architecture.max_position_embeddings
    ids = np.array([*context, *continuation][-limit - 1 :])
    n = len(ids) - 1
    with ready.on_mesh():
        model = ready.bind(ready.params, {})
        tokens = jnp.asarray(ids[None, :-1], jnp.int32)
        hidden = model(tokens, jnp.arange(n)[None], jnp.ones((1, n), jnp.int32))
        scores = np.asarray(jax.nn.log_softmax(model.logits(hidden)), np.float64)[0]
    asked = slice(n - len(continuation), n)
    right = ids[1:][asked]
    told = np.take_along_axis(scores[asked], right[:, None], 1).sum()
    return told, bool((scores[asked].argmax(1) == right).all())


def pairs(seed=0):
    """Of many lengths; some beyond the context, some that differ in their last token alone."""
    rng = np.random.default_rng(seed)

    def ids(n):
        return rng.integers(3, 400, n).tolist()

    found = [(ids(a), ids(b)) for a, b in ((1, 1), (1, 40), (31, 1), (32, 1), (60, 70), (200, 9))]
    choices, question = ids(20), ids(50)
    return found + [(question, [choice]) for choice in choices] + [(question[:-2], [5, 6, 7])]


def test_each_is_what_the_model_says_of_it_alone(ready, likelihoods):
    asked = pairs()
    found = likelihoods(asked)
    for pair, one in zip(asked, found, strict=True):
        nats, greedy = alone(ready, *pair)
        assert one.nats == pytest.approx(nats, abs=1e-4) and one.greedy == greedy
    assert likelihoods([]) == []


def test_the_likeliest_continuation_is_greedy(ready, likelihoods):
    context, continuation = [1, 50, 60], []
    for _ in range(4):
        several = [(context, [*continuation, token]) for token in range(400)]
        best = [i for i, one in enumerate(likelihoods(several)) if one.greedy]
        continuation.append(best[0])
        assert len(best) == 1
    found = likelihoods([(context, continuation), (context, [*continuation[:3], 399])])
    assert [one.greedy for one in found] == [True, continuation[3] == 399]
    other = [399 if token != 399 else 398 for token in continuation[:1]]
    several = [(context, [*other, token]) for token in range(400)]
    assert not any(one.greedy for one in likelihoods(several))  # though one of them ends well


def test_neither_batch_nor_company_matters(ready, likelihoods):
    asked = pairs()
    small = Likelihoods(ready, batch_tokens=1)(asked[::-1])[::-1]
    for one, other in zip(likelihoods(asked), small, strict=True):
        assert one.nats == pytest.approx(other.nats, abs=1e-4) and one.greedy == other.greedy


def test_what_has_the_same_input_is_read_once(ready, likelihoods, monkeypatch):
    ran = []
    original = Likelihoods._run

    def counted(self, rows, length):
        ran.append([len(row.ids) for row in rows])
        return original(self, rows, length)

    monkeypatch.setattr(Likelihoods, "_run", counted)
    likelihoods([([1, 2, 3], [token]) for token in (4, 5, 6, 4)] + [([1, 2], [3, 7])])
    assert ran == [[3]]


def test_what_is_longer_than_the_context_is_refused(likelihoods):
    limit = likelihoods.context
    assert len(likelihoods([([1], [5] * limit)])) == 1
    with pytest.raises(InputError, match=f"continuation of {limit + 1} tokens is longer"):
        likelihoods([([1], [5] * (limit + 1))])


def test_rows_are_cut_into_equal_pieces():
    assert _pieces(64, 2**27 // 16) == 4
    assert _pieces(60, 2**27 // 16) == 4 and _pieces(61, 2**27 // 16) == 61
    assert _pieces(64, 2**40) == 64 and _pieces(64, 1) == 1
