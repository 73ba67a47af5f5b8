"""A weight file while it is written: which bytes are copied, and which pass through memory."""

import errno
import os

import numpy as np
import pytest
from hf_examples import BF16, random_weights, tiny, write_raw

from maxlite.errors import InputError
from maxlite.hf import lazy, stream
from maxlite.hf.lazy import Computed, Concatenated
from maxlite.hf.stream import Stream
from maxlite.hf.tensors import read_tree

F32 = np.dtype(np.float32)


@pytest.fixture
def source(tmp_path):
    """Tensors a to f in one file, four rows of 24 bytes each, in float32."""
    values = np.arange(144, dtype=np.float32).reshape(6, 4, 6)
    write_raw(tmp_path / "source.safetensors", dict(zip("abcdef", values, strict=True)))
    return read_tree(tmp_path)


@pytest.fixture
def calls(monkeypatch):
    """(offset, count) of each copy inside the kernel."""
    made, copy = [], os.sendfile

    def watched(to, source, offset, count):
        made.append((offset, count))
        return copy(to, source, offset, count)

    monkeypatch.setattr(os, "sendfile", watched)
    return made


def written(tmp_path, *arrays, dtype=F32, begin=b""):
    """The bytes of a file with these arrays, and the counts it told of."""
    counts: list[int] = []
    with Stream(tmp_path / "out", counts.append) as out:
        out.write(begin)
        for array in arrays:
            out.append("x", array, dtype)
    data = (tmp_path / "out").read_bytes()
    assert sum(counts) == len(data)
    return data


def test_neighbours_in_a_file_are_copied_in_one_run(source, calls, tmp_path):
    order = "bcdaf"
    data = written(tmp_path, *(source[name] for name in order))
    assert data == b"".join(source[name].read().tobytes() for name in order)
    start = source["a"].offset
    assert [(a - start, n) for a, n in calls] == [(96, 3 * 96), (0, 96), (5 * 96, 96)]


def test_rows_that_stay_are_copied_and_only_new_ones_pass_through_memory(source, calls, tmp_path):
    new = Computed((2, 6), F32, lambda start, stop: np.full((stop - start, 6), 7, np.float32))
    table = Concatenated((source["a"].rows(0, 3), new, source["a"].rows(3, 4), source["b"]))
    data = written(tmp_path, table, begin=b"head")
    assert data == b"head" + table.read().tobytes()
    start = source["a"].offset
    assert [(a - start, n) for a, n in calls] == [(0, 72), (72, 24 + 96)]


def test_a_selection_of_neighbours_is_a_run(source, calls, tmp_path):
    table = lazy.select(source["c"], [0, 1, 3])
    assert written(tmp_path, table) == source["c"].read()[[0, 1, 3]].tobytes()
    assert [count for _, count in calls] == [48, 24]


def test_the_same_bytes_twice_are_two_runs(source, calls, tmp_path):
    data = written(tmp_path, source["a"], source["a"])
    assert data == 2 * source["a"].read().tobytes() and len(calls) == 2


def test_neighbours_of_two_files_are_no_run(source, calls, tmp_path):
    (tmp_path / "twin").write_bytes((tmp_path / "source.safetensors").read_bytes())
    twin = lazy.FileTensor(tmp_path / "twin", source["b"].offset, (4, 6), F32)
    assert written(tmp_path, source["a"], twin) == (
        source["a"].read().tobytes() + twin.read().tobytes()
    )
    assert len(calls) == 2


def test_another_dtype_is_cast_block_by_block(source, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "row_blocks", lambda shape: lazy.row_blocks(shape, 48))
    blocks, cast = [], stream.narrowed
    monkeypatch.setattr(
        stream, "narrowed", lambda a, *rest: blocks.append(a.shape) or cast(a, *rest)
    )
    data = written(tmp_path, source["a"], source["b"], dtype=BF16)
    both = np.concatenate([source[name].read() for name in "ab"])
    assert data == both.astype(BF16).tobytes() and blocks == [(2, 6)] * 4 and not calls


def test_long_runs_are_copied_in_steps_and_the_disk_is_told_to_begin(
    source, calls, tmp_path, monkeypatch
):
    if not hasattr(os, "posix_fadvise"):
        pytest.skip("not on this system")
    told = []
    monkeypatch.setattr(stream, "STEP", 100)
    monkeypatch.setattr(
        os, "posix_fadvise", lambda _, start, count, advice: told.append((start, advice))
    )
    data = written(tmp_path, *(source[name] for name in "abcdef"))
    assert data == b"".join(source[name].read().tobytes() for name in "abcdef")
    assert [count for _, count in calls] == [100] * 5 + [76]
    assert told.pop(0) == (0, os.POSIX_FADV_SEQUENTIAL)  # of the source
    assert told == [(start, os.POSIX_FADV_DONTNEED) for start in (0, 100, 200, 300, 400)]


def test_plain_arrays_of_any_kind(tmp_path):
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    scalar = np.float32(3) * np.ones((), np.float32)
    empty = np.zeros((0, 3), np.float32)
    expected = np.ascontiguousarray(turned).tobytes() + scalar.tobytes()
    assert written(tmp_path, turned, scalar, empty) == expected
    assert written(tmp_path) == b""


def test_a_write_that_takes_less_is_gone_on_with(source, tmp_path):
    class Short:
        """A file that takes at most seven bytes at a time, as a pipe or a signal may cause."""

        def __init__(self, file):
            self._file = file

        def write(self, data):
            return self._file.write(data[:7])

        def __getattr__(self, name):
            return getattr(self._file, name)

    counts: list[int] = []
    with Stream(tmp_path / "out", counts.append) as out:
        out._file = Short(out._file)
        out.append("x", np.arange(5, dtype=np.float32), F32)
    assert (tmp_path / "out").read_bytes() == np.arange(5, dtype=np.float32).tobytes()
    assert counts == [7, 7, 6]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EXDEV])
def test_without_kernel_copies_the_bytes_are_the_same(source, tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sendfile", refuse)
    monkeypatch.setattr(stream, "STEP", 50)
    assert written(tmp_path, source["a"], source["b"]) == b"".join(
        source[name].read().tobytes() for name in "ab"
    )
    monkeypatch.delattr(os, "sendfile")
    assert written(tmp_path, source["f"]) == source["f"].read().tobytes()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_what_the_disk_refuses_is_not_tried_in_another_way(source, tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "sendfile", refuse)
    with pytest.raises(OSError) as caught:
        written(tmp_path, source["a"])
    assert caught.value.errno == code


def test_a_source_that_became_shorter_is_named(source, tmp_path):
    os.truncate(tmp_path / "source.safetensors", source["f"].offset + 10)
    with pytest.raises(InputError, match=r"source\.safetensors became shorter"):
        written(tmp_path, source["f"])


def test_it_is_on_the_disk_when_it_closes(source, tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def watched(handle):
        synced.append(os.fstat(handle).st_size)
        sync(handle)

    monkeypatch.setattr(os, "fsync", watched)
    written(tmp_path, source["a"], source["c"])
    assert synced == [2 * 96]  # after the last run, which is copied when the file closes


def test_an_error_closes_the_file_and_waits_for_no_disk(source, tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with pytest.raises(ZeroDivisionError), Stream(tmp_path / "out", lambda _: None) as out:
        out.append("x", source["a"], F32)
        1 / 0  # noqa: B018
    assert out._file.closed and not synced


@pytest.mark.parametrize("value", [70000.0, -1e30])
def test_a_value_too_large_is_named_before_it_becomes_infinity(source, tmp_path, value):
    table = source["a"].read().copy()
    table[2, 3] = value
    for array in (
        table,
        Concatenated((source["b"], Computed((4, 6), F32, lambda a, b: table[a:b]))),
    ):
        with (
            pytest.raises(InputError, match=r"w holds values too large for float16"),
            Stream(tmp_path / "out", lambda _: None) as out,
        ):
            out.append("w", array, np.dtype(np.float16))
    table[2, 3] = np.inf  # it was so before
    assert np.isinf(np.frombuffer(written(tmp_path, table, dtype=np.dtype(np.float16)), "f2")).any()


def test_a_whole_model_goes_through_in_one_copy(tmp_path, calls):
    weights = random_weights(tiny())
    write_raw(tmp_path / "model.safetensors", weights)
    tree = read_tree(tmp_path)
    data = written(tmp_path, *tree.values())
    assert data == b"".join(x.tobytes() for x in weights.values()) and len(calls) == 1
