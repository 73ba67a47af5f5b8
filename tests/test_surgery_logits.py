"""What surgery must not change: logits, on every mesh."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest
from extended import models_and_tokenizers

from maxlite.model import llama
from maxlite.state import mesh as mesh_lib
from maxlite.state.source import open_model
from maxlite.transforms import ExtendVocab, Untie, UpscaleDepth


@pytest.fixture(scope="module")
def desk(tmp_path_factory, make_folder, tiny_tokenizer) -> Path:
    return models_and_tokenizers(tmp_path_factory.mktemp("surgery"), make_folder, tiny_tokenizer)


# Here it is compiling that takes the time.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def logits(folder: Path, init: list, mesh_text: str) -> np.ndarray:
    """[B, S, V] of two rows of old tokens, in each two documents, on the devices of a mesh."""
    opened = open_model(str(folder), init=init)
    mesh = mesh_lib.make_mesh(mesh_text)
    params = opened.load(mesh_lib.shardings(mesh, opened.shapes), opened.stored_dtypes())
    tokens = np.random.default_rng(0).integers(3, 400, (8, 24), np.int32)
    lengths = [np.arange(10), np.arange(14)]
    positions = np.tile(np.concatenate(lengths), (8, 1)).astype(np.int32)
    segments = np.repeat([[1, 2]], [10, 14], axis=1).repeat(8, axis=0).astype(np.int32)

    @quick
    def run(params):
        model = llama.bind(opened.architecture, params, {}, dtype=np.float32)
        return model.logits(model(tokens, positions, segments))

    with jax.set_mesh(mesh):
        return np.asarray(run(params))


@pytest.mark.parametrize("mesh", ["fsdp=8", "fsdp=4,tensor=2"])
@pytest.mark.parametrize(("model", "count"), [("tied", 257), ("untied", 1)])
def test_logits_of_old_ids_are_those_from_before(desk, model, count, mesh):
    before = logits(desk / model, [], mesh)
    after = logits(desk / model, [ExtendVocab(tokenizer=str(desk / f"new-{count}"))], mesh)
    assert after.shape == (*before.shape[:2], 400 + count)
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after[..., :400], before, rtol=0, atol=1e-5)


def test_untying_changes_no_logit_and_new_layers_of_llama_pro_change_none_bit_for_bit(desk):
    before = logits(desk / "tied", [], "fsdp=8")
    np.testing.assert_allclose(logits(desk / "tied", [Untie()], "fsdp=8"), before, atol=1e-6)
    expanded = logits(desk / "tied", [UpscaleDepth(method="llama_pro", add=3)], "fsdp=8")
    np.testing.assert_array_equal(expanded, before)
    deeper = logits(desk / "tied", [UpscaleDepth(method="dus", drop=1)], "fsdp=8")
    assert np.abs(deeper - before).max() > 1e-3
