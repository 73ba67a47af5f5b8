"""Dead units come last whatever the criterion; what cannot be measured is refused."""

import dataclasses

import importance_examples as examples
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf.signature import signature
from maxlite.importance import text as text_lib
from maxlite.importance.learned import Learning
from maxlite.importance.measure import CRITERIA, measure
from maxlite.state.ready import ready_model
from maxlite.surgery import scores as scores_lib
from maxlite.transforms import Lora


def lowest(array, count):
    return set(np.argsort(array, kind="stable")[:count].tolist())


@pytest.mark.parametrize("criterion", [c for c in CRITERIA if c != "learned"])
def test_dead_units_come_last(planted, tiny_text, criterion):
    text = examples.text_of(planted, tiny_text, sequences=32)
    found = measure(planted, criterion, text, batch_size=16).arrays
    assert found
    if "layers" in found:
        assert lowest(found["layers"], 1) == {1}
    if "residual" in found:
        assert lowest(found["residual"], 2) == {2, 30}
    for kind in {"groups", "channels"} & found.keys():
        for layer in (0, 2):
            dead = {unit for at, unit in examples.DEAD[kind] if at == layer}
            assert lowest(found[kind][layer], len(dead)) == dead, (kind, layer)


def test_scores_are_reused(trained, text, tmp_path):
    first = measure(trained, "taylor", text)
    first.write(tmp_path / "scores.safetensors")
    read = scores_lib.read(tmp_path / "scores.safetensors")
    assert (read.criterion, read.text) == ("taylor", text.said)
    assert read.signature == signature(trained.source.tensors)
    read.check_fits(trained.source.host, "scores")
    again = measure(trained, "taylor", text, batch_size=3)  # the same, however it is divided
    for kind, array in again.arrays.items():
        np.testing.assert_allclose(getattr(read, kind), array, rtol=1e-4, atol=1e-9)


def test_several_devices_give_the_same(trained, trained_folder, tiny_text):
    import jax

    ready = ready_model(str(trained_folder), dtype="float32")
    assert ready.mesh.size == len(jax.devices()) > 1
    text = examples.text_of(ready, tiny_text, sequences=3)
    for kind, array in measure(ready, "activation", text).arrays.items():
        expected = getattr(measure(trained, "activation", text), kind)
        np.testing.assert_allclose(array, expected, rtol=1e-4)


def test_rows_are_drawn_by_the_seed_without_repetition(trained, tiny_text):
    globs = [str(tiny_text / "en.txt"), str(tiny_text / "xx.txt")]

    def drawn(**settings):
        return text_lib.read(globs, trained.tokenizer, seq_len=16, **settings)

    one = drawn(sequences=40)
    assert len(np.unique(one.rows["tokens"], axis=0)) == 40
    assert (one.rows["segments"] > 0).all()
    np.testing.assert_array_equal(one.rows["tokens"], drawn(sequences=40).rows["tokens"])
    assert drawn(sequences=40).said == one.said != drawn(sequences=40, seed=1).said
    assert not np.array_equal(one.rows["tokens"], drawn(sequences=40, seed=1).rows["tokens"])


def test_bad_input(trained, text, tiny_text, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("a small dog\n")
    for globs, said in (([], "no text"), ([str(few)], "has only .* tokens"), (["no*.txt"], "no*")):
        with pytest.raises(InputError, match=said):
            text_lib.read(globs, trained.tokenizer, sequences=4, seq_len=32)
    with pytest.raises(InputError, match="no criterion 'magic'; choose one of block_influence"):
        measure(trained, "magic", text)
    with pytest.raises(InputError, match="a budget is for"):
        measure(trained, "taylor", text, learning=Learning({"groups": 1}))
    for said, changes in (
        ("sequences of 32 tokens cannot be read", {"max_position_embeddings": 16}),
        ("merge them first", {"lora": Lora(rank=2, targets="q_proj")}),
    ):
        other = dataclasses.replace(trained.architecture, **changes)
        source = dataclasses.replace(trained.source, architecture=other)
        with pytest.raises(InputError, match=said):
            measure(dataclasses.replace(trained, source=source), "taylor", text)
