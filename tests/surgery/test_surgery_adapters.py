"""Adapters added to a model on the host: their values, what they are refused for, and merging."""

import dataclasses

import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf import metadata, names
from maxlite.hf.folder import open_folder
from maxlite.hf.writer import write_model
from maxlite.state import init
from maxlite.surgery import adapters
from maxlite.transforms import AddLora, Lora, Untie, transform


@pytest.fixture
def added(tiny_folder):
    """added(**settings): a bfloat16 folder's model with adapters."""
    folder = open_folder(tiny_folder(dtype="bfloat16", scale=0.1))
    return lambda **settings: init.apply(folder, [AddLora(**settings)])


def test_they_begin_without_effect_as_peft_begins(added):
    model = added(rank=4)
    assert model.tensors.keys() == names.expected(model.architecture).keys()
    assert sum("lora" in name for name in model.tensors) == 2 * 2 * 4
    spread = []
    for name, tensor in model.tensors.items():
        if "lora" not in name:
            continue
        assert tensor.dtype == np.float32
        values = tensor.read()
        assert np.array_equal(values[1:3], tensor.read(slice(1, 3)))
        assert np.array_equal(values[1:3], tensor.rows(1, 3).read())
        if name.endswith("lora_B.weight"):
            assert not values.any() and values.shape[1] == 4
        else:
            assert values.shape == (4, 32) and np.abs(values).max() <= 32**-0.5
            spread.append(values.ravel())
    drawn = np.concatenate(spread)
    assert len(np.unique(drawn)) > 0.99 * len(drawn)  # each has its own
    assert drawn.std() == pytest.approx(32**-0.5 / 3**0.5, rel=0.1)  # uniform
    assert abs(drawn.mean()) < 0.02
    assert model.notes[-1].startswith("LoRA of rank 4 beside q_proj,k_proj,v_proj,o_proj")
    assert model.metadata["lora"]["alpha"] == 16 and model.architecture.lora.scale == 4


def test_values_follow_the_seed_alone(added):
    one, same, other = (added(rank=2, seed=seed) for seed in (1, 1, 2))
    name = "model.layers.1.self_attn.o_proj.lora_A.weight"
    assert np.array_equal(one.tensors[name].read(), same.tensors[name].read())
    assert not np.array_equal(one.tensors[name].read(), other.tensors[name].read())


def test_magnitudes_are_the_norms_of_rows(added):
    model = added(rank=2, dora=True, targets="down_proj , q_proj")
    assert model.architecture.lora.targets == "q_proj,down_proj"
    weight = model.tensors["model.layers.1.mlp.down_proj.weight"].read().astype(np.float32)
    found = model.tensors["model.layers.1.mlp.down_proj.lora_magnitude_vector.weight"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.read(), np.sqrt((weight**2).sum(1)), rtol=1e-6)


def test_a_folder_with_them_opens_as_it_was(added, tmp_path):
    model = added(rank=2, alpha=3, rslora=True)
    write_model(tmp_path / "copy", model)
    copy = open_folder(tmp_path / "copy")
    assert copy.architecture == model.architecture
    assert copy.architecture.lora.scale == pytest.approx(3 / 2**0.5)
    for name, tensor in model.tensors.items():
        assert copy.tensors[name].read().tobytes() == tensor.read().tobytes()


def test_a_transform_survives_json():
    one = AddLora(rank=3, dora=True)
    assert transform(one.described()) == one


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"targets": "norm"}, "target 'norm', beside which no adapter can be; choose from q_proj"),
        ({"targets": "lm_head", "dora": True}, "dora=True for a vocabulary table"),
        ({"targets": "q_prj"}, "did you mean 'q_proj'"),
        ({"targets": " , "}, "has no targets; choose from q_proj"),
        ({"rank": 0}, "rank 0, but it must be at least 1"),
        ({"dropout": 1.0}, "dropout 1, but it must be at least 0 and below 1"),
        ({"alpha": 0.0}, "alpha 0, but it must be above 0"),
        ({"alpha": float("nan")}, "alpha nan, but it must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(added, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        added(**settings)


def test_a_tied_table_has_none(tiny_folder):
    folder = open_folder(tiny_folder("tied", tie_word_embeddings=True))
    with pytest.raises(InputError, match="whose input and output table are one: untie"):
        init.apply(folder, [AddLora(targets="q_proj,lm_head")])


def test_beside_the_tables_they_begin_without_effect_too(added):
    model = added(rank=3, targets="lm_head,embed_tokens", dropout=0.1)
    assert model.architecture.lora.targets == "embed_tokens,lm_head"
    found = {n: t.read() for n, t in model.tensors.items() if "lora" in n}
    assert {name: x.shape for name, x in found.items()} == {
        "model.embed_tokens.lora_embedding_A.weight": (3, 400),
        "model.embed_tokens.lora_embedding_B.weight": (32, 3),
        "lm_head.lora_A.weight": (3, 32),
        "lm_head.lora_B.weight": (400, 3),
    }
    empty = [name for name, x in found.items() if not x.any()]
    assert empty == ["model.embed_tokens.lora_embedding_A.weight", "lm_head.lora_B.weight"]
    assert found["model.embed_tokens.lora_embedding_B.weight"].std() == pytest.approx(1, rel=0.2)


def test_nothing_else_is_done_to_a_model_that_has_them(added):
    for more in (Untie(), AddLora()):
        with pytest.raises(InputError, match=f"has adapters, which {type(more).__name__} would"):
            init.apply(added(), [more])


def test_a_zero_row_has_no_direction(added):
    model = added(rank=2, dora=True)
    zero = dataclasses.replace(
        model, tensors={n: adapters.zeros(t.shape, t.dtype) for n, t in model.tensors.items()}
    )
    again = adapters.add(
        dataclasses.replace(
            zero, tensors={n: t for n, t in zero.tensors.items() if "lora" not in n}
        ),
        Lora(2, 4.0, "q_proj", dora=True),
        0,
    )
    with pytest.raises(InputError, match=r"row 0 of .*q_proj.weight is zero, so DoRA finds no"):
        again.tensors["model.layers.0.self_attn.q_proj.lora_magnitude_vector.weight"].read()


@pytest.mark.parametrize("lora", [{"alpha": 2.0}, {"rank": True}, {**Lora(2).__dict__, "alpha": 1}])
def test_metadata_that_say_nonsense_are_refused(lora):
    with pytest.raises(InputError, match=r"maxlite.json has lora .*, expected settings"):
        metadata.lora({"lora": lora}, "maxlite.json")


@pytest.mark.parametrize("dora", [False, True])
def test_merging_is_the_sum_and_for_dora_its_direction(dora):
    rng = np.random.default_rng(0)
    w, a, b = (rng.standard_normal(s, np.float32) for s in ((6, 5), (2, 5), (6, 2)))
    m = rng.random(6, np.float32) + 1 if dora else None
    parts = {adapters.A: a, adapters.B: b} | ({} if m is None else {adapters.MAGNITUDE: m})
    found = adapters.merge(w, parts, 0.5)
    assert found.dtype == np.float32
    expected = w.astype(float) + 0.5 * b.astype(float) @ a
    if m is not None:
        expected *= (m / np.sqrt((expected**2).sum(1)))[:, None]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(adapters.merge(w, {adapters.A: a, adapters.B: 0 * b}, 0.5), w)
    if m is None:  # the same, as the input table has it
        of_table = {adapters.TABLE_A: b.T, adapters.TABLE_B: a.T}
        np.testing.assert_array_equal(adapters.merge(w, of_table, 0.5), found)
