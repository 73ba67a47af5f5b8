import errno
import json
import os
import resource
import shutil

import numpy as np
import pytest
from hf_examples import BF16, random_weights, tiny

from maxlite.errors import InputError
from maxlite.hf import folder, writer
from maxlite.hf.config_json import render
from maxlite.hf.tensors import INDEX, read_tree


def copy_folder(source, out, dtype=None, **options):
    """Write an opened folder again, as an export does."""
    opened = folder.open_folder(source)
    return writer.write_folder(
        out,
        config=render((source / "config.json").read_bytes(), opened.architecture, dtype),
        specs={name: (dtype or t.dtype, t.shape) for name, t in opened.tensors.items()},
        read=opened.tensors.__getitem__,
        files=opened.files,
        **options,
    )


def contents(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def mixed():
    weights = random_weights(tiny(), "bfloat16")
    weights["model.norm.weight"] = np.ones(8, np.float32)
    weights["model.layers.1.mlp.up_proj.weight"] = np.ones((12, 8), np.float16)
    return weights


@pytest.mark.parametrize("shard", ["5GB", "1KB"])
@pytest.mark.parametrize(
    "weights", [random_weights(tiny()), random_weights(tiny(), "bfloat16"), mixed()]
)
def test_a_folder_survives_reading_and_writing_byte_for_byte(make_folder, tmp_path, weights, shard):
    source = make_folder(weights=weights, max_shard_size=shard)
    (source / "tokenizer.json").write_bytes(b'{ "odd":\t"spacing" }\r\n')
    (source / "maxlite.json").write_bytes(b'{"vocabulary": {"base_rows": 20}}')
    (source / "config.json").write_bytes((source / "config.json").read_bytes() + b"\n\n")
    copy_folder(source, tmp_path / "copy", max_shard_size=shard)
    assert contents(tmp_path / "copy") == contents(source)
    tree = read_tree(tmp_path / "copy")
    for name, array in weights.items():
        assert tree[name].dtype == array.dtype
        assert tree[name].read().tobytes() == array.tobytes()
    # and split another way
    other = "1KB" if shard == "5GB" else "5GB"
    copy_folder(source, tmp_path / "other", max_shard_size=other)
    tree = read_tree(tmp_path / "other")
    assert all(tree[name].read().tobytes() == array.tobytes() for name, array in weights.items())


def test_the_safetensors_library_reads_what_we_write(make_folder):
    peer = pytest.importorskip("safetensors")
    weights = mixed()
    path = make_folder(weights=weights)
    with peer.safe_open(path / "model.safetensors", "np") as file:
        assert set(file.keys()) == set(weights)
        assert file.metadata() == {"format": "pt"}
        for name in weights:
            if weights[name].dtype != BF16:  # older releases have no NumPy type for it
                np.testing.assert_array_equal(file.get_tensor(name), weights[name])
    for tensor in read_tree(path).values():
        assert tensor.offset % tensor.dtype.itemsize == 0


def test_shards_have_the_names_and_the_index_of_hugging_face(make_folder):
    weights = {f"w{i}": np.full(4, i, np.float32) for i in range(5)}
    weights["big"] = np.zeros(100, np.float32)
    weights["last"] = np.zeros(1, np.float32)
    path = make_folder().parent
    files = writer.write_weights(
        path,
        {name: (w.dtype, w.shape) for name, w in weights.items()},
        weights.__getitem__,
        max_shard_size=40,
    )
    assert [f.name for f in files] == [f"model-0000{i}-of-00005.safetensors" for i in range(1, 6)]
    index = json.loads((path / INDEX).read_text())
    assert index["metadata"] == {"total_size": 5 * 16 + 404}
    by_file: dict[str, list[str]] = {}
    for name, file in index["weight_map"].items():
        by_file.setdefault(file, []).append(name)
    assert [sorted(by_file[f.name]) for f in files] == [
        *(["w0", "w1"], ["w2", "w3"], ["w4"], ["big"], ["last"])
    ]


def test_arrays_of_any_kind_are_written_and_cast_where_asked(tmp_path):
    arrays: dict[str, np.ndarray] = {
        "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "scalar": np.float32(3) * np.ones(()),
        "empty": np.zeros((0, 2), np.float32),
        "down": np.array([1.0, 1.00390625, np.inf], np.float32),
    }
    specs = {name: ("float32", array.shape) for name, array in arrays.items()}
    specs["down"] = ("bfloat16", (3,))
    seen = []
    writer.write_weights(tmp_path, specs, arrays.__getitem__, progress=lambda *a: seen.append(a))
    tree = read_tree(tmp_path)
    np.testing.assert_array_equal(tree["turned"].read(), arrays["turned"])
    np.testing.assert_array_equal(tree["scalar"].read(), 3)
    assert tree["empty"].shape == (0, 2)
    np.testing.assert_array_equal(tree["down"].read(), np.array([1, 1, np.inf], BF16))
    assert seen[-1] == (6 * 4 + 4 + 6,) * 2 and len(seen) == 4


def test_values_too_large_for_the_dtype_are_refused(make_folder, tmp_path):
    weights = random_weights(tiny())
    weights["model.norm.weight"][3] = 1e30
    with pytest.raises(InputError, match=r"model.norm.weight holds values too large for float16"):
        copy_folder(make_folder(weights=weights), tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


def test_a_cast_export_says_so_in_its_config(make_folder, tmp_path):
    source = make_folder()
    copy_folder(source, tmp_path / "out", dtype="bfloat16")
    opened = folder.open_folder(tmp_path / "out")
    assert set(opened.dtypes.values()) == {"bfloat16"}
    before = json.loads((source / "config.json").read_text())
    assert opened.config == before | {"torch_dtype": "bfloat16"}


def test_notes_are_written_or_carried(make_folder, tmp_path):
    source = make_folder()
    (source / "maxlite.json").write_bytes(b'{"vocabulary":{"base_rows":20}}')
    note = {"vocabulary": {"base_rows": 20}}
    copy_folder(source, tmp_path / "same", notes=note)
    assert (tmp_path / "same/maxlite.json").read_bytes() == b'{"vocabulary":{"base_rows":20}}'
    copy_folder(source, tmp_path / "new", notes={"origin": {"x": 1}})
    assert folder.open_folder(tmp_path / "new").metadata == {"format": 1, "origin": {"x": 1}}


def test_without_sendfile_the_bytes_are_the_same(make_folder, tmp_path, monkeypatch):
    source = make_folder(weights=mixed())

    def refuse(*args):
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(os, "sendfile", refuse)
    copy_folder(source, tmp_path / "copy")
    assert contents(tmp_path / "copy") == contents(source)


def test_an_output_that_exists_is_refused(make_folder, tmp_path):
    source, out = make_folder(), tmp_path / "out"
    out.mkdir()
    with pytest.raises(InputError, match="exists already"):
        copy_folder(source, out)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a model folder"):
        copy_folder(source, out, overwrite=True)
    assert (out / "thesis.txt").read_text() == "years of work"
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        copy_folder(source, file)
    with pytest.raises(InputError, match="not a model folder"):
        copy_folder(source, file, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "out", "source"]


def test_overwriting_replaces_only_after_the_new_one_is_complete(make_folder, tmp_path):
    source, out = make_folder(), make_folder("out", weights=random_weights(tiny(), seed=1))
    (out / "tokenizer.json").write_text("old")
    old = contents(out)

    def fail(done, total):
        assert contents(out) == old
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy_folder(source, out, overwrite=True, progress=fail)
    assert contents(out) == old
    copy_folder(source, out, overwrite=True)
    assert contents(out) == contents(source)
    copy_folder(out, out, overwrite=True)  # onto its own source
    assert contents(out) == contents(source)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "source"]


def test_a_disk_without_room_is_told_before_anything_is_written(make_folder, tmp_path, monkeypatch):
    source = make_folder(arch=tiny(vocab_size=4096))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=150_000))
    with pytest.raises(InputError, match=r"new/out needs 0\.27 MB and its disk has 0\.15 MB free"):
        copy_folder(source, tmp_path / "new" / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * 10**9))
    with pytest.raises(InputError, match=r"needs 3\.2 GB and its disk has 2\.0 GB free"):
        writer.check_room(tmp_path / "out", {"w": ("float32", (2, 4 * 10**8))})
    writer.check_room(tmp_path / "out", {"w": ("bfloat16", (2, 4 * 10**8))})
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_parents_are_made_and_taken_back(make_folder, tmp_path):
    source = make_folder()
    copy_folder(source, tmp_path / "a" / "b")
    assert contents(tmp_path / "a" / "b") == contents(source)
    with pytest.raises(ZeroDivisionError):
        copy_folder(source, tmp_path / "c" / "d", progress=lambda *_: 1 // 0)
    assert not (tmp_path / "c").exists()


def test_a_full_disk_leaves_nothing_behind(make_folder, tmp_path, monkeypatch):
    source = make_folder()

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "sendfile", full)
    with pytest.raises(InputError, match=r"no room to write .*out"):
        copy_folder(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_write_that_the_kernel_refuses_leaves_nothing_behind(make_folder, tmp_path, dtype):
    weights = random_weights(tiny(vocab_size=4096))
    source = make_folder(arch=tiny(vocab_size=4096), weights=weights)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(InputError, match="no room"):
            copy_folder(source, tmp_path / "out", dtype=dtype)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_a_place_that_cannot_be_written_is_told(make_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        copy_folder(make_folder(), tmp_path / "file" / "out")


def test_a_source_that_shrinks_is_noticed(make_folder, tmp_path):
    source = make_folder()

    def shrink(done, total):
        os.truncate(source / "model.safetensors", 2000)

    with pytest.raises(InputError, match="became shorter"):
        copy_folder(source, tmp_path / "out", progress=shrink)
    assert not (tmp_path / "out").exists()


def test_links_of_a_hub_cache_are_followed(make_folder, tmp_path):
    source = make_folder()
    (source / "tokenizer.json").write_text("{}")
    linked = tmp_path / "snapshot"
    linked.mkdir()
    for file in source.iterdir():
        (linked / file.name).symlink_to(file)
    copy_folder(linked, tmp_path / "copy")
    shutil.rmtree(linked)
    assert contents(tmp_path / "copy") == contents(source)
    assert not any(p.is_symlink() for p in (tmp_path / "copy").iterdir())


@pytest.mark.parametrize(
    "text, size",
    [
        ("5GB", 5 * 10**9),
        ("200MB", 2 * 10**8),
        ("1.5 GiB", 3 * 2**29),
        ("10kb", 10**4),
        (4096, 4096),
    ],
)
def test_sizes(text, size):
    assert writer.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "five", "-1GB", "0", "5TBs", "1e9"])
def test_what_is_no_size(text):
    with pytest.raises(InputError, match="not a size"):
        writer.parse_size(text)
