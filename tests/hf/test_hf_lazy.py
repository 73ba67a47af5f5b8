"""Lazy arrays: the same values as NumPy's, read where and when they are asked for."""

import itertools

import numpy as np
import pytest
from hf_examples import BF16, write_raw

from maxlite.hf import lazy
from maxlite.hf.lazy import Computed, Concatenated, FileTensor, RemoteTensor
from maxlite.hf.tensors import read_header, read_tree
from maxlite.storage import Url

TABLE = np.arange(60, dtype=np.float32).reshape(12, 5)
INDICES = [
    ...,
    slice(None),
    slice(3, 9),
    slice(-4, None),
    slice(0, 12, 5),
    slice(8, 8),
    slice(5, 99),
    (slice(2, 11), slice(1, 4)),
    (slice(4, 12, 3), slice(None, None, 2)),
    (..., slice(0, 2)),
]


@pytest.fixture
def stored(tmp_path) -> FileTensor:
    """`TABLE` in a file, with another tensor before it."""
    write_raw(tmp_path / "model.safetensors", {"a": np.ones(3, np.float32), "table": TABLE})
    return read_tree(tmp_path)["table"]


@pytest.fixture
def remote(stored, monkeypatch) -> RemoteTensor:
    """The same at an address, fetched in requests of 16 bytes, two at a time."""
    monkeypatch.setattr(lazy, "BLOCK", 16)
    monkeypatch.setattr(lazy, "AT_ONCE", 2)
    place = Url("memory://test_hf_lazy/model.safetensors")
    place.put(stored.path)
    yield read_header(place)["table"]
    place.unlink()


def rows_of(values):
    return Computed(values.shape, values.dtype, lambda start, stop: values[start:stop])


@pytest.fixture(params=["file", "remote", "computed", "concatenated", "selected", "nested"])
def array(request, stored, remote):
    """`TABLE`, as each kind of lazy array."""
    return {
        "file": stored,
        "remote": remote,
        "computed": rows_of(TABLE),
        "concatenated": Concatenated((stored.rows(0, 4), rows_of(TABLE[4:7]), stored.rows(7, 12))),
        "selected": lazy.select(rows_of(TABLE[::-1]), np.arange(12)[::-1]),
        "nested": Concatenated(
            (Concatenated((rows_of(TABLE[:2]), stored.rows(2, 5))), stored.rows(5, 12))
        ),
    }[request.param]


def joined(array) -> np.ndarray:
    """The pieces of an array put together as the writer does it."""
    pieces = [p.read() if isinstance(p, FileTensor) else p for p in array.pieces()]
    assert all(piece.dtype == array.dtype for piece in pieces)
    return np.concatenate([np.empty((0, *array.shape[1:]), array.dtype), *pieces])


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_what_is_read_is_what_numpy_gives(array, index):
    found = array.read(index)
    expected = TABLE[index]
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_shape_size_and_pieces(array):
    assert (array.shape, array.dtype, array.nbytes) == ((12, 5), np.float32, 240)
    np.testing.assert_array_equal(joined(array), TABLE)


@pytest.mark.parametrize(("start", "stop"), [(0, 12), (3, 8), (4, 7), (6, 7), (5, 5), (0, 1)])
def test_rows_are_an_array_of_the_same_kind(array, start, stop):
    part = array.rows(start, stop)
    assert part.shape == (stop - start, 5)
    np.testing.assert_array_equal(part.read(), TABLE[start:stop])
    np.testing.assert_array_equal(joined(part), TABLE[start:stop])
    again = part.rows(1, stop - start) if stop - start > 1 else part
    np.testing.assert_array_equal(again.read(), TABLE[start:stop][(stop - start > 1) :])


def test_rows_of_a_file_stay_in_it(stored):
    part = stored.rows(2, 6)
    assert isinstance(part, FileTensor)
    assert (part.path, part.offset) == (stored.path, stored.offset + 2 * 5 * 4)
    assert list(part.pieces()) == [part]
    assert not part.read().flags.writeable


def test_nothing_is_computed_before_it_is_asked_for_nor_more_than_that():
    asked = []

    def compute(start, stop):
        asked.append((start, stop))
        return TABLE[start:stop]

    array = Computed(TABLE.shape, TABLE.dtype, compute)
    both = Concatenated((array.rows(0, 5), array.rows(5, 12))).rows(3, 7)
    assert both.shape == (4, 5) and not asked
    both.read((slice(0, 3), slice(0, 1)))
    assert asked == [(3, 5), (5, 6)]


def test_computed_values_get_the_dtype_that_was_announced():
    array = Computed((12, 5), BF16, lambda start, stop: TABLE[start:stop] + np.float32(0.001))
    for found in (array.read(), joined(array), array.rows(0, 12).read(slice(0, 12))):
        assert found.dtype == BF16
        np.testing.assert_array_equal(found, (TABLE + np.float32(0.001)).astype(BF16))


def test_zeros():
    array = lazy.zeros((3, 4), BF16)
    assert array.read().dtype == BF16 and array.read().shape == (3, 4)
    assert not array.read().any() and joined(array.rows(1, 3)).shape == (2, 4)


def test_scaling_is_done_in_float32(tmp_path):
    values = np.array([[1.0, 3.0, -7.0]], BF16)
    write_raw(tmp_path / "model.safetensors", {"x": values})
    array = lazy.scaled(read_tree(tmp_path)["x"], 1 / 3)
    expected = (values.astype(np.float32) * np.float32(1 / 3)).astype(BF16)
    assert array.dtype == BF16 and array.read().tobytes() == expected.tobytes()
    assert array.read().tobytes() != (values * BF16.type(1 / 3)).tobytes()  # as it would be in it


@pytest.mark.parametrize(
    ("ids", "parts"),
    [
        (range(12), 1),
        ([4], 1),
        ([0, 1, 2, 7, 8, 11], 3),
        ([3, 3, 3], 3),
        ([5, 4, 3], 3),
        (np.array([0, 11], np.int32), 2),
        ([], 1),
    ],
)
def test_selected_rows_keep_their_runs(stored, ids, parts):
    array = lazy.select(stored, ids)
    assert len(array.parts) == parts
    assert all(isinstance(part, FileTensor) for part in array.parts)
    np.testing.assert_array_equal(array.read(), TABLE[np.asarray(ids, int)])
    np.testing.assert_array_equal(joined(array), TABLE[np.asarray(ids, int)])


@pytest.mark.parametrize("shape", [(12, 5), (1, 99), (7,), (100, 2, 3)])
@pytest.mark.parametrize("nbytes", [1, 40, 100, 1 << 20])
def test_blocks_cover_all_rows_once_and_are_small(shape, nbytes):
    blocks = list(lazy.row_blocks(shape, nbytes))
    assert [i for a, b in blocks for i in range(a, b)] == list(range(shape[0]))
    row = 4 * int(np.prod(shape[1:]))
    assert all((b - a) * row <= max(nbytes, row) for a, b in blocks)
    assert all((b - a + 1) * row > nbytes for a, b in itertools.islice(blocks, len(blocks) - 1))


def test_a_large_array_comes_in_pieces():
    array = lazy.zeros((3 * lazy.BLOCK // 64, 16), np.dtype(np.float32))
    sizes = [piece.nbytes for piece in array.pieces()]
    assert sizes == [lazy.BLOCK] * 3


def test_widening_is_exact():
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[(bits & 0x7F80) != 0x7F80]  # without NaN and infinity
    values = bits.view(BF16)
    assert lazy.float32(values).tobytes() == values.astype(np.float32).tobytes()
    for special in (np.inf, -np.inf):
        assert lazy.float32(np.array([special], BF16))[0] == special
    assert np.isnan(lazy.float32(np.array([np.nan], BF16)))[0]
    halves = np.array([1.5, -2.0], np.float16)
    assert lazy.float32(halves).dtype == np.float32
    same = np.ones(3, np.float32)
    assert lazy.float32(same) is same


def test_an_empty_tensor_has_no_bytes_to_map(tmp_path):
    empty = FileTensor(tmp_path / "none", 0, (0, 4), np.dtype(np.float32))
    assert empty.read().shape == (0, 4) and list(empty.blocks()) == []
