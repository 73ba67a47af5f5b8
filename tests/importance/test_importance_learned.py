"""A learned mask keeps its budget to the unit, and is the mask that was trained."""

import importance_examples as examples
import jax
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.importance import gates as gates_lib
from maxlite.importance import learned as learned_lib
from maxlite.importance.learned import Learning, learned
from maxlite.importance.measure import measure
from maxlite.model.loss import summed_loss


def loss(ready, masks, text):
    with ready.on_mesh():
        run = jax.jit(lambda p, m, b: summed_loss(gates_lib.masked(ready.architecture, p, m), b))
        nll, weight = run(ready.params, masks, text.rows)
    return float(nll) / float(weight)


def test_budget_is_exact_and_beats_chance(trained, text):
    learning = Learning({"channels": 12, "groups": 1}, steps=40)
    found = learned(trained, text, 4, learning)
    assert found.keys() == {"channels", "groups"}
    masks = {kind: (array > 0).astype(np.float32) for kind, array in found.items()}
    for kind, count in learning.budget.items():
        assert found[kind].dtype == np.float32
        assert (masks[kind].sum(-1) == count).all()
        best = np.argsort(-found[kind], axis=-1)[:, :count]  # what surgery would take
        assert (np.take_along_axis(masks[kind], best, -1) == 1).all()
    ours, rng = loss(trained, masks, text), np.random.default_rng(0)
    others = []
    for _ in range(5):
        drawn = {k: rng.permuted(mask, axis=-1) for k, mask in masks.items()}
        others.append(loss(trained, drawn, text))
    assert ours < min(others)
    again = learned(trained, text, 4, learning)
    for kind in found:
        np.testing.assert_array_equal(found[kind], again[kind])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equal_scores_are_kept_to_the_budget(count):
    found = learned_lib._signed(np.zeros((2, 5), np.float32), count)
    assert ((found > 0).sum(-1) == count).all()
    assert (found[:, :count] > 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("learning", "said"),
    [
        (Learning({}), "needs a budget"),
        (Learning({"channels": 49}), "49 channels cannot be met: the model has 48 in each layer"),
        (Learning({"layers": 4}), "4 layers cannot be met: the model has 3"),
        (Learning({"groups": 0}), "0 groups cannot be met"),
        (Learning({"groups": 1}, steps=0), "0 steps"),
        (Learning({"groups": 1}, learning_rate=0.0), "learning rate of 0.0"),
    ],
)
def test_what_cannot_be_learned_is_refused(trained, text, learning, said):
    with pytest.raises(InputError, match=said):
        measure(trained, "learned", text, learning=learning)


def test_scores_that_are_not_finite_are_refused(trained, text):
    from dataclasses import replace

    params = dict(trained.params)
    params["model.norm.weight"] = params["model.norm.weight"] * np.inf
    with pytest.raises(InputError, match="did not stay finite"):
        learned(replace(trained, params=params), text, 4, Learning({"groups": 1}, steps=2))


@pytest.mark.parametrize("kind", ["layers", "groups", "channels", "residual"])
def test_dead_units_are_left_out(planted, tiny_text, kind):
    text = examples.text_of(planted, tiny_text, sequences=32)
    count = {"layers": 2, "groups": 1, "channels": 45, "residual": 30}[kind]
    found = learned(planted, text, 16, Learning({kind: count}, steps=60))[kind]
    if found.ndim == 1:
        assert np.nonzero(found <= 0)[0].tolist() == examples.DEAD[kind]
    else:
        out = np.argwhere(found <= 0)
        assert out[out[:, 0] != 1].tolist() == [list(unit) for unit in sorted(examples.DEAD[kind])]
