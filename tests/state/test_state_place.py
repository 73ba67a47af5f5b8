"""A folder's tensors onto devices: the same numbers, each read where it is needed."""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from maxlite.errors import InputError
from maxlite.hf.folder import open_folder
from maxlite.state import mesh as mesh_lib
from maxlite.state.place import check_finite, place
from maxlite.state.source import open_model


def placed(folder, mesh, dtype=None):
    source = open_model(str(folder))
    dtypes = source.stored_dtypes()
    if dtype:
        dtypes = dict.fromkeys(dtypes, jnp.dtype(dtype))
    return source.load(mesh_lib.shardings(mesh, source.shapes), dtypes)


FOLDERS = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "tied": {"tie_word_embeddings": True, "shards": 5, "vocab_size": 401},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_hidden_layers": 3},
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_device_arrays_equal_plain_stacking(kind, tiny_folder, stacked, grid):
    folder = tiny_folder(tokenizer="", **FOLDERS[kind])
    expected = stacked(folder)
    params = placed(folder, grid)
    assert params.keys() == expected.keys()
    for name, x in params.items():
        assert x.dtype == expected[name].dtype
        assert x.sharding.spec == mesh_lib.spec(name)
        np.testing.assert_array_equal(np.asarray(x), expected[name])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_float32_holds_narrow_types_exactly(dtype, tiny_folder, stacked, grid):
    folder = tiny_folder(tokenizer="", dtype=dtype)
    for name, x in placed(folder, grid, "float32").items():
        assert x.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(x), stacked(folder)[name].astype(np.float32))


class Watched:
    """A lazy array that remembers what was read of it."""

    def __init__(self, inner, log):
        self._inner, self._log, self.shape = inner, log, inner.shape

    def read(self, index=...):
        values = self._inner.read(index)
        self._log.append(values.size)
        return values


@pytest.mark.parametrize("mesh", ["fsdp=4,tensor=2", "data=8"])
def test_every_element_is_read_once_and_never_a_whole_matrix_for_a_shard(mesh, tiny_folder):
    folder = open_folder(tiny_folder(tokenizer=""))
    mesh = mesh_lib.make_mesh(mesh)
    source = open_model(str(folder.path))
    logs = {name: [] for name in folder.tensors}
    watched = {name: Watched(x, logs[name]) for name, x in folder.tensors.items()}
    shardings = mesh_lib.shardings(mesh, source.shapes)
    place(watched, source.shapes, shardings, source.stored_dtypes(), "here")
    for name, log in logs.items():
        size = int(np.prod(folder.tensors[name].shape))
        cut = mesh.shape["fsdp"] * mesh.shape["tensor"] if "norm" not in name else 1
        assert set(log) == {size // cut}, name
        assert sum(log) == size, name


def spoil(folder, name, value):
    """Puts a value into one tensor of a folder of one file."""
    file = folder / "model.safetensors"
    loaded = dict(load_file(file))
    loaded[name] = loaded[name].copy()
    loaded[name].flat[-1] = value
    save_file(loaded, file, metadata={"format": "pt"})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "name",
    [
        "model.layers.1.mlp.up_proj.weight",
        "lm_head.weight",
        "model.layers.0.input_layernorm.weight",
    ],
)
def test_what_is_not_finite_is_named_with_its_layer(name, value, tiny_folder, grid):
    folder = tiny_folder(tokenizer="")
    spoil(folder, name, value)
    with pytest.raises(InputError, match="NaN or infinity") as caught:
        placed(folder, grid)
    assert f" in {name};" in str(caught.value) and str(folder) in str(caught.value)


def test_only_the_first_few_are_named(tiny_folder, grid):
    folder = tiny_folder(tokenizer="", num_hidden_layers=7)
    for layer in range(7):
        spoil(folder, f"model.layers.{layer}.mlp.up_proj.weight", np.nan)
    with pytest.raises(InputError, match="and others") as caught:
        placed(folder, grid)
    assert str(caught.value).count("up_proj") == 5


def test_finite_arrays_pass(grid):
    x = jnp.ones((4, 4), jnp.bfloat16, device=mesh_lib.replicated(grid))
    check_finite({"model.norm.weight": x}, "here")
