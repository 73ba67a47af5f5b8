import json

import numpy as np
import pytest
from hf_examples import BF16, write_raw

from maxlite.errors import InputError
from maxlite.hf.tensors import INDEX, read_header, read_tree

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.arange(6, dtype=np.float32).astype(BF16)


def shards(folder, weight_map, **files):
    folder.mkdir()
    for name, tensors in files.items():
        write_raw(folder / f"{name}.safetensors", tensors)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_a_file_is_read_by_view_and_by_slice(tmp_path):
    write_raw(tmp_path / "model.safetensors", {"a": A, "b": B})
    tree = read_tree(tmp_path)
    assert list(tree) == ["a", "b"]
    assert (tree["b"].shape, tree["b"].dtype, tree["b"].nbytes) == ((6,), BF16, 12)
    np.testing.assert_array_equal(tree["a"].read(), A)
    np.testing.assert_array_equal(tree["a"].read((slice(1, 3), 2)), A[1:3, 2])
    np.testing.assert_array_equal(tree["b"].read(slice(4, None)), B[4:])
    assert not tree["a"].read().flags.writeable
    assert b"".join(block.tobytes() for block in tree["a"].blocks(7)) == A.tobytes()


def test_reading_agrees_with_the_safetensors_library(tmp_path):
    peer = pytest.importorskip("safetensors.numpy")
    tensors = {
        "half": np.ones((2, 3), np.float16),
        "long": np.array(7),
        "none": np.zeros((0, 4), np.float32),
        "truth": np.array([True, False, True]),
        "wide": A,
    }
    peer.save_file(tensors, tmp_path / "model.safetensors")
    tree = read_tree(tmp_path)
    assert tree.keys() == tensors.keys()
    for name, array in tensors.items():
        got = tree[name].read()
        assert (got.dtype, got.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(got, array)


def test_a_tensor_at_an_odd_offset_is_copied_into_alignment(tmp_path):
    write_raw(tmp_path / "x.safetensors", {"odd": np.ones(3, np.int8), "a": A})
    got = read_tree(tmp_path)["a"].read()
    assert got.flags.aligned
    np.testing.assert_array_equal(got, A)


def test_shards_are_read_through_the_index(tmp_path):
    folder = shards(
        tmp_path / "m", {"a": "x.safetensors", "b": "y.safetensors"}, x={"a": A}, y={"b": B}
    )
    tree = read_tree(folder)
    np.testing.assert_array_equal(tree["a"].read(), A)
    np.testing.assert_array_equal(tree["b"].read(), B)


def test_a_missing_shard_is_listed(tmp_path):
    folder = shards(tmp_path / "m", {"a": "x.safetensors", "b": "y.safetensors"}, x={"a": A})
    with pytest.raises(InputError, match=r"lacks 1 of 2 shards.*y\.safetensors"):
        read_tree(folder)


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/../../x.safetensors", "..\\x", "C:x"]
)
def test_a_shard_name_that_leaves_the_folder_is_refused(tmp_path, name):
    write_raw(tmp_path / "x.safetensors", {"a": A})
    with pytest.raises(InputError, match="outside the folder"):
        read_tree(shards(tmp_path / "m", {"a": name}))


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path):
    places = {"a": "x.safetensors", "c": "x.safetensors"}
    with pytest.raises(InputError, match="do not hold: c"):
        read_tree(shards(tmp_path / "m", places, x={"a": A}))
    places = {"a": "x.safetensors", "b": "y.safetensors"}
    with pytest.raises(InputError, match=r"tensor b, which .* places in another shard"):
        read_tree(shards(tmp_path / "n", places, x={"a": A, "b": B}, y={"b": B}))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {"a": 3}}'])
def test_a_damaged_index_is_refused(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        read_tree(tmp_path)


def test_two_sets_of_weights_are_refused(tmp_path):
    folder = shards(tmp_path / "m", {"a": "x.safetensors"}, x={"a": A}, model={"a": A})
    with pytest.raises(InputError, match="two sets of weights"):
        read_tree(folder)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_truncated_file_is_refused_with_both_sizes(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    write_raw(path, {"a": A, "b": B})
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError, match="truncated") as error:
        read_tree(tmp_path)
    assert str(path) in str(error.value)
    assert f"{len(whole[:keep]):,} bytes" in str(error.value)
    if keep == -1:
        assert f"promises {len(whole):,}" in str(error.value)


def test_bytes_after_the_last_tensor_are_refused(tmp_path):
    write_raw(tmp_path / "model.safetensors", {"a": A})
    with open(tmp_path / "model.safetensors", "ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="too many"):
        read_tree(tmp_path)


def change(**fields):
    return lambda header: header["b"].update(fields)


@pytest.mark.parametrize(
    "edit",
    [
        change(data_offsets=[40, 52]),  # overlaps a
        change(data_offsets=[56, 68]),  # leaves a hole
        change(data_offsets=[48, 50]),  # too few bytes for the shape
        change(data_offsets=[-12, 0]),
        change(shape=[6.0]),
        change(shape=None),
        change(data_offsets=[48]),
        lambda header: header.update(b=[]),
        lambda header: header["b"].pop("dtype"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path, edit):
    write_raw(tmp_path / "model.safetensors", {"a": A, "b": B}, edit)
    with pytest.raises(InputError, match="damaged"):
        read_tree(tmp_path)


def test_an_unknown_dtype_is_named(tmp_path):
    write_raw(tmp_path / "model.safetensors", {"a": A, "b": B}, change(dtype="F4"))
    with pytest.raises(InputError, match="'F4'"):
        read_tree(tmp_path)


def test_what_is_not_safetensors_is_said(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        read_header(path)
    path.write_bytes(b"PK\x03\x04" * 99)
    with pytest.raises(InputError, match="no safetensors file"):
        read_header(path)
    path.write_bytes(b"\x10" + b"\0" * 7 + b"not json at all!")
    with pytest.raises(InputError, match="damaged"):
        read_header(path)


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "w.pt", "w.pth"]
)
def test_pickled_weights_are_refused_with_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"never opened")
    with pytest.raises(InputError, match=r"AutoModelForCausalLM.from_pretrained"):
        read_tree(tmp_path)


def test_a_folder_without_weights_or_with_an_adapter_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no weights"):
        read_tree(tmp_path)
    write_raw(tmp_path / "adapter_model.safetensors", {"a": A})
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="adapter"):
        read_tree(tmp_path)


def test_several_files_need_an_index(tmp_path):
    write_raw(tmp_path / "x.safetensors", {"a": A})
    write_raw(tmp_path / "y.safetensors", {"b": B})
    with pytest.raises(InputError, match=r"2 .safetensors files but no"):
        read_tree(tmp_path)
