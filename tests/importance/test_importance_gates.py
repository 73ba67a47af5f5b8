"""Gates at 1 change nothing, at 0 cut a unit out; their gradient is Taylor's."""

import dataclasses

import jax
import numpy as np
import pytest

from maxlite.importance import gates as gates_lib
from maxlite.importance.taylor import taylor
from maxlite.model import llama
from maxlite.model.loss import summed_loss
from maxlite.parameters import HEAD, LAYERS


def loss_of(model, batch):
    nll, weight = summed_loss(model, batch)
    return float(nll / weight)


@pytest.fixture(scope="module")
def batch(text):
    return {key: values[:2] for key, values in text.rows.items()}


@pytest.mark.parametrize("writing", [False, True])
def test_ones_change_no_bit(trained, writing):
    found = gates_lib.gated(trained.params, gates_lib.ones(trained.architecture), writing)
    assert found.keys() == trained.params.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, trained.params[name])


def test_every_weight_has_its_units(trained):
    """Each matrix is gated along each of its axes that has units, each vector along its one."""
    arch = trained.architecture
    for kind, shape in gates_lib.shapes(arch).items():
        zeros = {kind: np.zeros(shape, np.float32)}
        touched = {
            name
            for name, array in gates_lib.gated(trained.params, zeros).items()
            if not np.any(array)
        }
        inner = {n for n in trained.params if n.startswith(LAYERS)}
        expected = {
            "layers": inner,
            "groups": {n for n in inner if "self_attn" in n},
            "channels": {n for n in inner if "mlp" in n},
            "residual": trained.params.keys(),
        }
        assert touched == expected[kind], kind


def cut(params, arch, keep):
    """A smaller model by plain numpy indexing: {kind: kept numbers, by layer if it has layers}."""
    p = {name: np.asarray(array) for name, array in params.items()}
    size, each = arch.head_dim, arch.num_attention_heads // arch.num_key_value_heads

    def rows(name, index, axis):
        p[name] = np.stack([np.take(w, i, axis - 1) for w, i in zip(p[name], index, strict=True)])

    def spread(index, width):
        return [np.concatenate([np.arange(g * width, (g + 1) * width) for g in i]) for i in index]

    for module, width in (("q_proj", size * each), ("k_proj", size), ("v_proj", size)):
        rows(f"{LAYERS}self_attn.{module}.weight", spread(keep["groups"], width), 1)
    rows(f"{LAYERS}self_attn.o_proj.weight", spread(keep["groups"], size * each), 2)
    for module in ("gate_proj", "up_proj"):
        rows(f"{LAYERS}mlp.{module}.weight", keep["channels"], 1)
    rows(f"{LAYERS}mlp.down_proj.weight", keep["channels"], 2)
    D = arch.hidden_size
    for name, array in p.items():
        for axis, length in enumerate(array.shape):
            writes = "o_proj" in name or "down_proj" in name
            reads = "_proj" in name and not writes
            if length == D and axis == (1 if writes else 2 if reads else array.ndim - 1):
                p[name] = np.take(array, keep["residual"], axis)
        if name.startswith(LAYERS):
            p[name] = p[name][keep["layers"]]
    small = dataclasses.replace(
        arch,
        num_hidden_layers=len(keep["layers"]),
        hidden_size=len(keep["residual"]),
        intermediate_size=len(keep["channels"][0]),
        num_key_value_heads=len(keep["groups"][0]),
        num_attention_heads=len(keep["groups"][0]) * each,
    )
    return small, p


def test_a_masked_model_is_the_one_that_is_cut_out(trained, batch):
    arch, rng = trained.architecture, np.random.default_rng(0)
    counts = {"layers": 2, "groups": 1, "channels": 20, "residual": 24}
    keep, masks = {}, {}
    for kind, shape in gates_lib.shapes(arch).items():
        table = np.zeros(shape, np.float32)
        for row in table.reshape(-1, shape[-1]):
            row[rng.choice(shape[-1], counts[kind], replace=False)] = 1
        masks[kind] = table
        found = [np.flatnonzero(row) for row in table.reshape(-1, shape[-1])]
        keep[kind] = found[0] if table.ndim == 1 else found
    with trained.on_mesh():
        masked = gates_lib.masked(arch, trained.params, masks, residual=counts["residual"])
        found = loss_of(masked, batch)
        small, params = cut(trained.params, arch, keep)
        expected = loss_of(llama.bind(small, params, {}), batch)
        assert found == pytest.approx(expected, rel=1e-5)
        uncorrected = gates_lib.masked(arch, trained.params, masks)
        assert loss_of(uncorrected, batch) != pytest.approx(expected, rel=1e-4)
    assert HEAD in params and params[HEAD].shape[1] == 24


def test_taylor_is_the_slope_of_the_loss(trained, text):
    """Against central differences of the gates, sequence by sequence."""
    arch, h = trained.architecture, 1e-2
    found = taylor(trained, text, 3)
    rng = np.random.default_rng(1)

    @jax.jit
    def loss(gates, row):
        nll, weight = summed_loss(llama.bind(arch, gates_lib.gated(trained.params, gates), {}), row)
        return nll / weight

    for kind, shape in gates_lib.shapes(arch).items():
        at = tuple(rng.integers(n) for n in shape)
        slopes = []
        with trained.on_mesh():
            for r in range(len(text)):
                row = {key: values[r : r + 1] for key, values in text.rows.items()}
                ends = []
                for sign in (1, -1):
                    gate = np.ones(shape, np.float32)
                    gate[at] += sign * h
                    ends.append(float(loss({kind: gate}, row)))
                slopes.append(abs(ends[0] - ends[1]) / (2 * h))
        assert found[kind].shape == shape and found[kind].dtype == np.float32
        assert found[kind][at] == pytest.approx(np.mean(slopes), rel=0.02, abs=2e-5), kind
