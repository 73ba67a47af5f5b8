"""Which layers and units a smaller model gets, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf import names
from maxlite.hf.folder import open_folder, open_shape
from maxlite.hf.lazy import FileTensor
from maxlite.hf.signature import signature
from maxlite.surgery import inheritance, layers, magnitude, scores
from maxlite.surgery.scores import Importance

FIVE = {"num_hidden_layers": 5, "num_attention_heads": 4, "num_key_value_heads": 2}


@pytest.fixture
def model(tiny_folder):
    return open_folder(tiny_folder(**FIVE))


@pytest.fixture
def written(model, tmp_path):
    """written(name, kinds): random scores of the model in a file."""

    def write(name, *kinds, of=model, **said):
        rng = np.random.default_rng(len(name))
        shapes = scores.shapes(of.architecture)
        arrays = {kind: rng.random(shapes[kind], np.float32) for kind in kinds}
        said = {"criterion": name, "signature": signature(of.tensors)} | said
        Importance(**said, **arrays).write(tmp_path / name)
        return tmp_path / name

    return write


def told(model, **settings):
    return inheritance.planned(model, **settings)


# --- layers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "depth, keep, expected",
    [(5, 4, [0, 1, 3, 4]), (5, 3, [0, 1, 4]), (5, 1, [0]), (6, 2, [0, 5]), (4, 4, [0, 1, 2, 3])],
)
def test_the_layers_nearest_to_the_ends(depth, keep, expected):
    assert layers.ends(depth, keep) == expected


def test_layers_are_those_asked_for(model, written):
    assert told(model, num_hidden_layers=3).layers == [0, 1, 4]
    assert told(model, num_hidden_layers=3, layers="ends").layers == [0, 1, 4]
    assert told(model, layers="0,2-3").layers == [0, 2, 3]
    assert told(model, hidden_size=16).layers == [0, 1, 2, 3, 4]
    file = written("some", "layers")
    best = np.sort(np.argsort(scores.read(file).layers)[-2:]).tolist()
    plan = told(model, num_hidden_layers=2, layers="importance", scores=str(file))
    assert plan.layers == best and plan.scored == {"layers": "some"}
    by_weight = np.sort(np.argsort(magnitude.measure(model, "l1").layers)[-2:]).tolist()
    plan = told(model, num_hidden_layers=2, layers="importance", criterion="l1")
    assert plan.layers == by_weight and plan.scored == {"layers": "l1"}


# --- units ---------------------------------------------------------------------------------------


def test_the_units_of_the_layers_that_stay_are_chosen_by_their_own_scores(model):
    plan = told(model, layers="1,4", intermediate_size=20, num_attention_heads=2, hidden_size=16)
    own = magnitude.measure(model, "l2")
    for at, layer in enumerate([1, 4]):
        best = np.sort(np.argsort(own.channels[layer])[-20:])
        assert plan.kept.channels[at].tolist() == best.tolist()
        assert plan.kept.groups[at].tolist() == [own.groups[layer].argmax()]
    assert plan.kept.residual.tolist() == np.sort(np.argsort(own.residual)[-16:]).tolist()
    after = plan.result()
    name = "mlp.up_proj.weight"
    whole = model.tensors[f"model.layers.4.{name}"].read()
    expected = whole[plan.kept.channels[1]][:, plan.kept.residual]
    assert after.tensors[f"model.layers.1.{name}"].read().tobytes() == expected.tobytes()


def test_files_come_first_and_the_criterion_is_for_the_rest(model, written):
    first, second = written("one", "channels", "layers"), written("other", "residual")
    sizes = {"intermediate_size": 20, "hidden_size": 16, "num_attention_heads": 2}
    plan = told(model, **sizes, scores=f"{first}, {second}", criterion="random")
    assert plan.scored == {"groups": "random", "channels": "one", "residual": "other"}
    best = np.sort(np.argsort(scores.read(first).channels, axis=-1)[:, -20:])
    assert np.array_equal(plan.kept.channels, best)
    record = plan.result().metadata["inherited"][0]
    assert record["criteria"] == plan.scored and len({*record["scores_sha256"]}) == 2


def test_shares_are_of_the_layers_that_stay(model):
    plan = told(model, layers="1,4", intermediate_size=20, hidden_size=16)
    own, kept = magnitude.measure(model, "l2"), plan.kept
    part = sum(own.channels[layer][kept.channels[i]].sum() for i, layer in enumerate([1, 4]))
    expected = {
        "channels": part / own.channels[[1, 4]].sum(),
        "residual": own.residual[kept.residual].sum() / own.residual.sum(),
    }
    assert plan.shares() == pytest.approx(expected)
    assert told(model, hidden_size=16, criterion="first").shares() == {"residual": None}
    notes = plan.result(plan.shares()).notes
    assert notes[0] == "2 of 5 layers (1 | 4)"
    assert notes[1] == "2 of 2 groups of heads in each layer"
    assert notes[2].startswith("20 of 48 FFN channels in each layer by l2, ")
    assert notes[2].endswith(f"{expected['channels']:.1%} of their scores' sum")


def test_the_shape_is_known_without_the_weights(model, written, monkeypatch, tiny_folder):
    def never(*_):
        raise AssertionError("was read")

    with monkeypatch.context() as patch:
        patch.setattr(FileTensor, "read", never)
        after = told(model, intermediate_size=20, num_hidden_layers=2).result()
        assert {n: t.shape for n, t in after.tensors.items()} == names.expected(after.architecture)
    folder = model.path
    file = written("some", "channels")
    (folder / "model.safetensors").unlink()
    hollow = open_shape(folder)
    plan = told(hollow, intermediate_size=20, scores=str(file))
    assert plan.result().parameters < hollow.parameters


# --- targets -------------------------------------------------------------------------------------


def target(model, tmp_path, **changes):
    config = {k: v for k, v in (model.config | changes).items() if v is not None}
    (tmp_path / "target.json").write_text(json.dumps(config))
    return str(tmp_path / "target.json")


def test_a_target_gives_the_sizes(model, tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    ids = {"bos_token_id": 7, "initializer_range": 0.1}  # which change no weight
    after = told(model, target=target(model, tmp_path, **sizes, **heads, **ids)).after
    assert after == dataclasses.replace(model.architecture, **sizes, **heads)
    plan = told(model, target=str(model.path))
    assert plan.after == model.architecture and not plan.scored
    after = plan.result()
    assert all(after.tensors[name] is tensor for name, tensor in model.tensors.items())
    assert after.rendered() == (model.path / "config.json").read_bytes()


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hidden_size": 64, "head_dim": 8}, "hidden_size 64 is not between 1 and the 32"),
        ({"num_hidden_layers": 6}, "num_hidden_layers 6 .* the 5 of"),
        ({"intermediate_size": 49}, "intermediate_size 49"),
        ({"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}, "2 heads for 2 key"),
        ({"num_attention_heads": 2, "num_key_value_heads": None, "head_dim": 8}, "2 heads for 2"),
        ({"hidden_size": 16}, r'head_dim 4 where .* has 8: .*"head_dim": 8 into it'),
        ({"vocab_size": 300}, "vocab_size 300 .*compact_vocab"),
        ({"rope_theta": 1e6, "rms_norm_eps": 1e-6}, "rms_norm_eps 1e-06, rope_theta 1000000.0"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings True"),
        ({"hidden_size": None}, "hidden_size"),
        ({"model_type": "gpt2"}, "gpt2"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(changes, words, model, tmp_path):
    with pytest.raises(InputError, match=words):
        told(model, target=target(model, tmp_path, **changes))


@pytest.mark.parametrize(
    "settings, words",
    [
        ({}, "nothing to leave out: give a target"),
        ({"target": "/none", "hidden_size": 16}, "hidden_size must be left out"),
        ({"target": "/none"}, "there is no /none"),
        ({"hidden_size": 33}, "hidden_size 33"),
        ({"hidden_size": -1}, "hidden_size -1"),
        ({"hidden_size": 30}, "4 does not divide hidden_size 30, and transformers"),
        ({"num_attention_heads": 3}, "3 is not a multiple of 2: .* only whole groups"),
        ({"layers": "0-5"}, "names layer 5, but the model has 5"),
        ({"layers": "1,0"}, "ascending"),
        ({"layers": "1,1"}, "ascending"),
        ({"layers": "middle"}, "neither ends nor importance"),
        ({"layers": "0-1", "num_hidden_layers": 3}, "are 2, but num_hidden_layers 3"),
        ({"hidden_size": 16, "criterion": "taylor"}, "'taylor' is none of random.* as scores"),
        ({"hidden_size": 16, "criterion": "random", "seed": -1}, "seed -1"),
        ({"hidden_size": 16, "scores": "{layers}"}, "say nothing of residual"),
        ({"num_hidden_layers": 2, "layers": "importance", "scores": "{rest}"}, "nothing of layers"),
        ({"hidden_size": 16, "scores": "{rest},{rest}"}, "scores of groups, and so has"),
        ({"hidden_size": 16, "scores": "{other}"}, "other weights than"),
        ({"hidden_size": 16, "scores": "/none"}, "no file of scores /none"),
        ({"hidden_size": 16, "scores": "{folder}/model.safetensors"}, "something else"),
    ],
)
def test_what_does_not_fit_is_refused(settings, words, model, written, tiny_folder):
    files = {
        "layers": written("some", "layers"),
        "rest": written("rest", "groups", "channels", "residual"),
        "other": written("another", "residual", of=open_folder(tiny_folder("x", seed=1, **FIVE))),
        "folder": model.path,
    }
    if "scores" in settings:
        settings = settings | {"scores": settings["scores"].format(**files)}
    with pytest.raises(InputError, match=words):
        told(model, **settings)
