"""Scores of a model: what is written is read back, and what does not belong is refused."""

import dataclasses

import numpy as np
import pytest
from safetensors.numpy import save_file

from maxlite.errors import InputError
from maxlite.hf import writer
from maxlite.hf.folder import open_folder
from maxlite.hf.signature import SAMPLE, SAMPLES, signature
from maxlite.hf.tensors import read_header
from maxlite.surgery import scores
from maxlite.surgery.scores import Importance


def random_scores(model, *kinds, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        kind: rng.random(shape, np.float32)
        for kind, shape in scores.shapes(model.architecture).items()
        if kind in (kinds or scores.KINDS)
    }
    return Importance("dice", signature(model.tensors), "a text", **arrays)


@pytest.mark.parametrize("kinds", [(), ("layers",), ("channels", "residual")])
def test_what_is_written_is_read_back(kinds, tiny_folder, tmp_path):
    model = open_folder(tiny_folder(num_hidden_layers=3))
    before = random_scores(model, *kinds)
    before.write(tmp_path / "scores.safetensors")
    after = scores.read(tmp_path / "scores.safetensors")
    assert [*after.arrays] == [kind for kind in scores.KINDS if kind in (kinds or scores.KINDS)]
    for kind, array in after.arrays.items():
        assert array.dtype == np.float32 and np.array_equal(array, before.arrays[kind])
    for said in ("criterion", "signature", "text"):
        assert getattr(after, said) == getattr(before, said)
    after.check_fits(model, "scores")
    content = (tmp_path / "scores.safetensors").read_bytes()
    before.write(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == content


def test_scores_of_another_model_are_refused(tiny_folder):
    model = open_folder(tiny_folder(num_hidden_layers=3))
    found = random_scores(model)
    other = open_folder(tiny_folder("other", num_hidden_layers=3, seed=1))
    with pytest.raises(InputError, match="other weights"):
        found.check_fits(other, "scores")
    other = open_folder(tiny_folder("wider", num_hidden_layers=3, intermediate_size=64))
    with pytest.raises(InputError, match=r"channels scores of shape \[3, 48\].*has \[3, 64\]"):
        found.check_fits(other, "scores")


SAID = {"criterion": "dice", "signature": "0", "text": "", "format": "1"}
LAYERS = np.ones(3, np.float32)


@pytest.mark.parametrize(
    "arrays, said, words",
    [
        ({"layers": LAYERS}, SAID | {"format": "2"}, "format '2'"),
        ({"layers": LAYERS}, {"format": "pt"}, "something else"),
        ({"heads": LAYERS}, SAID, "something else"),
        ({"layers": LAYERS.astype(np.float64)}, SAID, "float64"),
        ({"layers": LAYERS[None]}, SAID, r"\[1, 3\]"),
        ({"layers": LAYERS * np.nan}, SAID, "NaN"),
        ({"layers": LAYERS, "groups": np.ones((2, 4), np.float32)}, SAID, "2 and 3 layers"),
        ({}, SAID, "no scores"),
    ],
)
def test_what_holds_no_scores_is_refused(arrays, said, words, tmp_path):
    save_file(arrays, tmp_path / "file", metadata=said)
    with pytest.raises(InputError, match=words):
        scores.read(tmp_path / "file")


def test_a_missing_or_truncated_file_is_refused(tiny_folder, tmp_path):
    with pytest.raises(InputError, match="no file of scores"):
        scores.read(tmp_path / "none")
    random_scores(open_folder(tiny_folder())).write(tmp_path / "file")
    (tmp_path / "file").write_bytes((tmp_path / "file").read_bytes()[:-1])
    with pytest.raises(InputError, match="truncated"):
        scores.read(tmp_path / "file")


def test_a_write_that_is_refused_leaves_what_was_there(tiny_folder, tmp_path):
    found = random_scores(open_folder(tiny_folder()))
    found.write(tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    with pytest.raises(InputError, match="NaN"):
        dataclasses.replace(found, layers=LAYERS * np.nan).write(tmp_path / "file")
    assert [p.name for p in tmp_path.glob("file*")] == ["file"]
    assert (tmp_path / "file").read_bytes() == before


# --- signatures ----------------------------------------------------------------------------------


def test_a_signature_is_of_the_weights_however_they_lie(tiny_folder, tmp_path):
    one = open_folder(tiny_folder("one"))
    again = open_folder(writer.write_model(tmp_path / "again", one, max_shard_size="20KB"))
    assert len([*(tmp_path / "again").glob("*.safetensors")]) > 1
    held = {name: again.tensors[name] for name in reversed([*again.tensors])}
    assert signature(one.tensors) == signature(held)


@pytest.mark.parametrize("change", [{"seed": 1}, {"dtype": "bfloat16"}, {"num_hidden_layers": 3}])
def test_a_signature_differs_with_the_weights(change, tiny_folder):
    one, other = open_folder(tiny_folder("one")), open_folder(tiny_folder("other", **change))
    assert signature(one.tensors) != signature(other.tensors)


def test_a_signature_looks_at_the_ends_of_large_tensors(tiny_folder):
    model = open_folder(tiny_folder("one", vocab_size=4000))
    name = "model.embed_tokens.weight"
    assert model.tensors[name].nbytes > 2 * SAMPLES * SAMPLE
    before = signature(model.tensors)
    for row in (0, -1):
        values = np.array(model.tensors[name].read())
        values[row] += 1
        path = model.tensors[name].path.with_name(f"changed{row}")
        writer.write_file(path, {name: values}, {})
        changed = {**model.tensors, name: read_header(path)[name]}
        assert signature(changed) != before
