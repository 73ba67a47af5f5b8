"""Scores of the weights alone."""

import dataclasses
import tracemalloc

import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf import lazy, names
from maxlite.hf.folder import open_folder
from maxlite.hf.signature import signature
from maxlite.surgery import magnitude

SETTINGS = {
    "grouped": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6},
    "single": {"num_key_value_heads": 4, "tie_word_embeddings": True, "dtype": "bfloat16"},
    "biases": {"num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True},
}


def sums(model, size):
    """By loops over units and what each is a part of."""
    arch = model.architecture
    L, K, E = arch.num_hidden_layers, arch.num_key_value_heads, arch.head_dim
    R = arch.num_attention_heads // K * E
    whole = {name: size(tensor.read().astype(np.float64)) for name, tensor in model.tensors.items()}

    def own(layer, part):
        block = "mlp" if part in ("gate", "up", "down") else "self_attn"
        return whole[f"model.layers.{layer}.{block}.{part}_proj.weight"]

    def group(layer, g):
        rows, queries = slice(g * E, (g + 1) * E), slice(g * R, (g + 1) * R)
        parts = own(layer, "q")[queries], own(layer, "k")[rows], own(layer, "v")[rows]
        return sum(part.sum() for part in parts) + own(layer, "o")[:, queries].sum()

    def channel(layer, f):
        parts = own(layer, "gate")[f], own(layer, "up")[f], own(layer, "down")[:, f]
        return sum(part.sum() for part in parts)

    def residual(d):
        tables = [whole[name][:, d] for name in (names.EMBEDDING, names.HEAD) if name in whole]
        inner = [own(i, part)[:, d] for i in range(L) for part in ("q", "k", "v", "gate", "up")]
        outer = [own(i, part)[d] for i in range(L) for part in ("o", "down")]
        return sum(part.sum() for part in tables + inner + outer)

    parts = ("q", "k", "v", "o", "gate", "up", "down")
    return {
        "layers": [sum(own(i, part).sum() for part in parts) for i in range(L)],
        "groups": [[group(i, g) for g in range(K)] for i in range(L)],
        "channels": [[channel(i, f) for f in range(arch.intermediate_size)] for i in range(L)],
        "residual": [residual(d) for d in range(arch.hidden_size)],
    }


@pytest.mark.parametrize("block", [magnitude.SMALL, 512])
@pytest.mark.parametrize("criterion, size", [("l1", np.abs), ("l2", np.square)])
@pytest.mark.parametrize("kind", SETTINGS)
def test_sums_are_over_all_that_a_unit_is_a_part_of(
    kind, criterion, size, block, tiny_folder, monkeypatch
):
    model = open_folder(tiny_folder(num_hidden_layers=3, **SETTINGS[kind]))
    monkeypatch.setattr(magnitude, "SMALL", block)
    seen = []
    found = magnitude.measure(model, criterion, progress=lambda *place: seen.append(place))
    assert (found.criterion, found.signature) == (criterion, signature(model.tensors))
    for name, expected in sums(model, size).items():
        array = found.arrays[name]
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, expected, rtol=1e-5)
    total = sum(tensor.nbytes for tensor in model.tensors.values())
    assert seen == sorted(seen) and seen[-1] == (total, total)
    found.check_fits(model, "scores")


def test_chance_and_place(tiny_folder):
    model = open_folder(tiny_folder(num_hidden_layers=3))
    one, again = (magnitude.measure(model, "random", 1).arrays for _ in range(2))
    other = magnitude.measure(model, "random", 2).arrays
    for kind, array in one.items():
        assert np.array_equal(array, again[kind]) and not np.array_equal(array, other[kind])
        assert len(np.unique(array)) == array.size
    for array in magnitude.measure(model, "first").arrays.values():
        assert (np.diff(array, axis=-1) < 0).all()


def test_what_cannot_be_measured_is_refused(tiny_folder):
    model = open_folder(tiny_folder())
    with pytest.raises(InputError, match="'l3' is none of random, first, l1, l2"):
        magnitude.measure(model, "l3")
    with pytest.raises(InputError, match="seed -1"):
        magnitude.measure(model, "random", -1)
    name = "model.layers.1.mlp.up_proj.weight"
    shape = model.tensors[name].shape
    for value in (np.nan, 1e30):
        values = np.full(shape, value, np.float32)
        bad = lazy.Computed(shape, values.dtype, lambda a, b, values=values: values[a:b])
        broken = dataclasses.replace(model, tensors={**model.tensors, name: bad})
        with pytest.raises(InputError, match=name):
            magnitude.measure(broken, "l2")


def test_a_tensor_is_not_held(tiny_folder):
    model = open_folder(tiny_folder())
    V, D = 1 << 19, 32
    table = lazy.zeros((V, D), np.dtype(np.float32))  # 67 MB
    large = dataclasses.replace(model, tensors={**model.tensors, names.EMBEDDING: table})
    tracemalloc.start()
    try:
        magnitude.measure(large, "l2")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6, peak
