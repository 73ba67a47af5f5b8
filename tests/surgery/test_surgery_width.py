"""Width surgery: which values stay where, what stays by reference, and what the result computes."""

import dataclasses
import itertools
import json
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.config import Architecture
from maxlite.hf import lazy, names, writer
from maxlite.hf.folder import open_folder
from maxlite.hf.lazy import Computed, Concatenated, FileTensor
from maxlite.parameters import shapes
from maxlite.surgery import depth, width
from maxlite.surgery.width import Kept, narrowed, taken, top

BF16 = np.dtype(ml_dtypes.bfloat16)
KINDS = {  # heads, key-value heads; and what else a folder may be
    "grouped": {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 6},
    "single": {"num_attention_heads": 4, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "multi-query": {"num_attention_heads": 4, "num_key_value_heads": 1},
    "biases": {"attention_bias": True, "mlp_bias": True, "dtype": "bfloat16", "shards": 2},
    "biases, tied": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    "half": {"num_attention_heads": 4, "num_key_value_heads": 4, "dtype": "float16"},
}


def run(arch, tensors, length=12):
    """Logits of random tokens [2, length], by maxlite's own model in float32."""
    import jax

    from maxlite.model.llama import bind

    parts: dict = {name: [] for name in shapes(arch)}
    for name, values in tensors.items():
        parts[names.split(name)[0]].append(np.asarray(values, np.float32))
    params = {k: np.stack(v) if k.startswith(names.LAYERS) else v[0] for k, v in parts.items()}
    tokens = np.random.default_rng(1).integers(0, arch.vocab_size, (2, length), dtype=np.int32)

    @jax.jit
    def logits(params):
        bound = bind(arch, params, {})
        return bound.logits(bound(tokens))

    return tokens, np.asarray(logits(params))


def read(model):
    return {name: tensor.read() for name, tensor in model.tensors.items()}


def some(rng, have, want, *shape):
    """Sets of `want` of `have` places, ascending, [*shape, want]."""
    drawn = [rng.permutation(have)[:want] for _ in range(int(np.prod(shape)))]
    return np.sort(drawn, axis=-1).reshape(*shape, want)


def cut(model, layers, groups=0, channels=0, residual=0, seed=0):
    """The model with random sets of these sizes, 0 for all, and the sets in full."""
    arch, rng = model.architecture, np.random.default_rng(seed)
    K, F, D = arch.num_key_value_heads, arch.intermediate_size, arch.hidden_size
    sets = {
        "groups": some(rng, K, groups or K, len(layers)),
        "channels": some(rng, F, channels or F, len(layers)),
        "residual": some(rng, D, residual or D, 1)[0],
    }
    after = dataclasses.replace(
        arch,
        num_hidden_layers=len(layers),
        num_key_value_heads=groups or K,
        num_attention_heads=(groups or K) * arch.num_attention_heads // K,
        intermediate_size=channels or F,
        hidden_size=residual or D,
    )
    return narrowed(model, after, layers, lambda: Kept(**sets)), sets


def sliced(model, layers, sets):
    """The same by loops over heads and plain slices."""
    arch, before, after = model.architecture, read(model), {}
    E, share = arch.head_dim, arch.num_attention_heads // arch.num_key_value_heads
    D = sets["residual"]
    for name in (names.EMBEDDING, names.HEAD):
        if name in before:
            after[name] = before[name][:, D]
    after["model.norm.weight"] = before["model.norm.weight"][D]
    for new, old in enumerate(layers):
        F = sets["channels"][new]
        keys = [k * E + e for k in sets["groups"][new] for e in range(E)]
        heads = [k * share + q for k in sets["groups"][new] for q in range(share)]
        queries = [h * E + e for h in heads for e in range(E)]
        rows = {"q_proj": queries, "k_proj": keys, "v_proj": keys, "o_proj": D}
        rows |= {"gate_proj": F, "up_proj": F, "down_proj": D}
        columns = {"o_proj": queries, "down_proj": F}
        for name, values in before.items():
            if names.split(name)[1] != old:
                continue
            part = name.split(".")[-2]
            if part not in rows:
                values = values[D]
            elif name.endswith("bias"):
                values = values[rows[part]]
            else:
                values = values[rows[part]][:, columns.get(part, D)]
            after[names.unstacked(names.split(name)[0], new)] = values
    return after


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == values.dtype and found[name].shape == values.shape
        assert found[name].tobytes() == np.ascontiguousarray(values).tobytes(), name


@pytest.fixture
def make(tiny_folder):
    return lambda kind="grouped", **more: open_folder(
        tiny_folder(kind, num_hidden_layers=3, **KINDS[kind] | more)
    )


# --- everything is nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_with_everything_kept_it_is_the_same_bytes(kind, make, tmp_path):
    before = make(kind)
    once = writer.write_model(tmp_path / "once", before)
    before = open_folder(once)
    after, _ = cut(before, range(3))
    assert all(after.tensors[name] is before.tensors[name] for name in before.tensors)
    assert after.metadata == before.metadata == {}
    again = writer.write_model(tmp_path / "again", after)
    for file in once.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()
    assert {p.name for p in again.iterdir()} == {p.name for p in once.iterdir()}


def test_full_index_sets_that_are_asked_for_are_the_same_bytes(make):
    """As if the sizes differed: what gathers is right where it has nothing to leave out."""
    model = make("biases")
    for name, tensor in model.tensors.items():
        ids = [lambda n=n: np.arange(n) for n in tensor.shape]
        found = taken(tensor, tensor.shape, *ids)
        assert found is not tensor
        assert found.read().tobytes() == tensor.read().tobytes(), name


# --- every combination ---------------------------------------------------------------------------

SIZES = [*itertools.product(([0, 1, 2], [0, 2]), (0, 1), (0, 29), (0, 19))][1:]


@pytest.mark.parametrize("kind", KINDS)
def test_every_combination_is_what_slices_give(kind, make, tmp_path):
    before = make(kind)
    for number, (layers, groups, channels, residual) in enumerate(SIZES):
        after, sets = cut(before, layers, groups, channels, residual, seed=number)
        expected = sliced(before, layers, sets)
        same(read(after), expected)
        assert {n: t.shape for n, t in after.tensors.items()} == names.expected(after.architecture)
        if number % 5 == 0:
            written = open_folder(writer.write_model(tmp_path / str(number), after))
            same(read(written), expected)
            assert written.architecture == after.architecture


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_computes_the_same(kind, make, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    after, _ = cut(make(kind, scale=0.3), [0, 2], 2 if kind == "grouped" else 1, 29, 16)
    folder = writer.write_model(tmp_path / "out", after)
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values())
    tokens, ours = run(after.architecture, read(after))
    with torch.no_grad():
        theirs = model(torch.tensor(tokens)).logits.numpy()
    assert np.abs(ours).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kind", ["grouped", "biases"])
def test_what_is_left_out_adds_nothing_any_more(kind, make):
    """Without groups and channels it is the model in which their outputs are zero."""
    before = make(kind, scale=0.3)
    arch = before.architecture
    after, sets = cut(before, [0, 1, 2], 1, 20)
    masked = {name: np.array(values, np.float32) for name, values in read(before).items()}
    width_of = arch.num_attention_heads // arch.num_key_value_heads * arch.head_dim
    for layer in range(3):
        mlp, attention = (f"model.layers.{layer}.{part}" for part in ("mlp", "self_attn"))
        gone = np.setdiff1d(np.arange(arch.intermediate_size), sets["channels"][layer])
        masked[f"{mlp}.down_proj.weight"][:, gone] = 0
        for group in np.setdiff1d(np.arange(arch.num_key_value_heads), sets["groups"][layer]):
            own = slice(group * width_of, (group + 1) * width_of)
            masked[f"{attention}.o_proj.weight"][:, own] = 0
    expected, full = run(arch, masked)[1], run(arch, read(before))[1]
    found = run(after.architecture, read(after))[1]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(full - expected).max() > 1e-2


# --- what it says --------------------------------------------------------------------------------


def test_the_config_is_edited_field_by_field(make, tmp_path):
    before = make("single", rope_scaling={"rope_type": "linear", "factor": 2.0})
    after, _ = cut(before, [0, 2], 2, 29, 19)
    config = json.loads(
        writer.write_model(tmp_path / "out", after).joinpath("config.json").read_text()
    )
    edits = {"num_hidden_layers": 2, "hidden_size": 19, "intermediate_size": 29}
    edits |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    assert config == before.config | edits
    only, _ = cut(before, [0, 2])
    assert json.loads(only.rendered()) == before.config | {"num_hidden_layers": 2}


def test_layers_are_counted_as_an_earlier_note_does(make):
    before = depth.upscale(make(), method="llama_pro", add=3)
    after, _ = cut(before, [0, 3, 5], channels=20)
    assert before.metadata["layers"]["sources"] == [0, 0, 1, 1, 2, 2]
    assert after.metadata["layers"] == {"sources": [0, 1, 2], "inserted": [1, 2]}
    again, _ = cut(after, [1, 2])
    assert again.metadata["layers"] == {"sources": [1, 2], "inserted": [0, 1]}
    same(read(again), read(cut(after, [1, 2])[0]))


def test_dtypes_to_write_follow_their_tensors(make):
    before = make()
    kinds = {name: "bfloat16" if ".2." in name else "float32" for name in before.tensors}
    after, _ = cut(dataclasses.replace(before, kinds=kinds), [0, 2], channels=20)
    assert {after.dtypes[n] for n in after.tensors if ".layers.1." in n} == {"bfloat16"}
    assert {after.dtypes[n] for n in after.tensors if ".layers.1." not in n} == {"float32"}


def test_nothing_is_asked_for_before_values_are(make):
    asked = []

    def kept():
        asked.append(1)
        return Kept(channels=np.zeros((3, 1), np.int64))

    before = make()
    arch: Architecture = dataclasses.replace(before.architecture, intermediate_size=1)
    after = narrowed(before, arch, [0, 1, 2], kept)
    assert after.parameters < before.parameters and not asked
    assert after.tensors["model.layers.1.mlp.up_proj.weight"].read().shape == (1, 32)
    read(after)
    assert len(asked) == 1


# --- gathering -----------------------------------------------------------------------------------


def stored(path, values):
    path.write_bytes(values.tobytes())
    return FileTensor(path, 0, values.shape, values.dtype)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_rows_and_columns_of_any_array(tmp_path_factory, data):
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 9))
    kind = data.draw(st.sampled_from([np.dtype(np.float32), BF16]))
    values = np.arange(rows * columns).reshape(rows, columns).astype(kind)
    path = tmp_path_factory.mktemp("array") / "values"
    whole = stored(path, values)
    at = rows // 2
    source = data.draw(
        st.sampled_from(
            [
                whole,
                Computed(values.shape, kind, lambda start, stop: values[start:stop]),
                Concatenated((whole.rows(0, at), whole.rows(at, rows))),
            ]
        )
    )
    draw = lambda n: np.sort(data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True)))  # noqa: E731
    ids, places = draw(rows), draw(columns)
    by_row, by_column = data.draw(st.booleans()), data.draw(st.booleans())
    expected = values[ids] if by_row else values
    expected = expected[:, places] if by_column else expected
    found = taken(
        source,
        expected.shape,
        (lambda: ids) if by_row else None,
        (lambda: places) if by_column else None,
    )
    same({"x": found.read()}, {"x": expected})
    pieces = [p.read() if isinstance(p, FileTensor) else p for p in found.pieces()]
    same({"x": np.concatenate(pieces)}, {"x": expected})
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    same({"x": found.rows(start, stop).read()}, {"x": expected[start:stop]})
    index = (slice(start, stop, 2), slice(0, 2))
    same({"x": found.read(index)}, {"x": expected[index]})


def test_rows_that_lie_together_are_copied_in_the_file(tmp_path):
    values = np.arange(200, dtype=np.float32).reshape(100, 2)
    source = stored(tmp_path / "x", values)
    near, far = np.r_[0:32, 64:96], np.arange(0, 100, 2)
    found = [*taken(source, (64, 2), lambda: near).pieces()]
    assert [type(piece) for piece in found] == [FileTensor] * 2
    assert [piece.offset for piece in found] == [0, 64 * 8]
    assert [type(p) for p in taken(source, (50, 2), lambda: far).pieces()] == [np.ndarray]


def test_zeros_stay_zeros():
    found = taken(lazy.zeros((9, 4), BF16), (2, 4), lambda: pytest.fail("asked for"))
    assert not found.read().any() and found.dtype == BF16


def test_nothing_of_the_size_of_a_table_is_held(tmp_path):
    V, D = 16384, 2048
    with (tmp_path / "t").open("wb") as file:
        file.truncate(V * D * 4)  # zeros, without taking the room
    table = FileTensor(tmp_path / "t", 0, (V, D), np.dtype(np.float32))
    copy = Computed((V, D), table.dtype, lambda a, b: np.array(table.read(slice(a, b))))
    half, few = (lambda: np.arange(0, D, 2)), (lambda: np.array([0, V - 1]))
    rows = lambda: np.arange(0, V, 2)  # noqa: E731
    tracemalloc.start()
    try:
        for source in (table, copy):
            for shape, *ids in (((V, D // 2), None, half), ((V // 2, D), rows), ((2, D), few)):
                for _ in taken(source, shape, *ids).pieces():
                    pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60e6, peak  # a block is 17 MB; the table 134 MB, half of it 67 MB


def test_the_largest_are_kept_and_of_equals_the_first():
    scores = np.array([[3, 1, 3, 2, 3], [0, 0, 0, 0, 0], [-5, -1, -3, -2, -4]], np.float32)
    assert top(scores, 2).tolist() == [[0, 2], [0, 1], [1, 3]]
    assert top(scores, 5).tolist() == [[0, 1, 2, 3, 4]] * 3
    assert width.top(scores[0], 4).tolist() == [0, 2, 3, 4]
