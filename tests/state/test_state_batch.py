"""Batches on meshes: each process needs exactly its rows, and they land where they belong."""

import numpy as np
import pytest

from maxlite.state import batch as batch_lib
from maxlite.state import mesh as mesh_lib

SHAPE = (2, 8, 4)  # [A, B, S]


@pytest.mark.parametrize(
    "text",
    [
        *("fsdp=8", "data=8", "data=2,fsdp=4", "fsdp=4,tensor=2", "data=2,fsdp=2,tensor=2"),
        *("tensor=8", "tensor=2,sequence=4", "fsdp=4,sequence=2"),
    ],
)
def test_a_batch_arrives_whole(text):
    sharding = mesh_lib.batch_sharding(mesh_lib.make_mesh(text))
    rows = batch_lib.rows_needed(sharding, SHAPE)
    np.testing.assert_array_equal(rows, np.arange(16))  # one process holds every device
    whole = {
        "tokens": np.arange(64, dtype=np.int32).reshape(16, 4),
        "weights": np.linspace(0, 1, 64, dtype=np.float32).reshape(16, 4),
    }
    on_devices = batch_lib.to_devices(whole, rows, sharding, SHAPE)
    assert on_devices.keys() == whole.keys()
    for key, values in whole.items():
        assert on_devices[key].sharding == sharding
        assert on_devices[key].dtype == values.dtype
        np.testing.assert_array_equal(on_devices[key], values.reshape(SHAPE))


class Half:
    """A sharding as one of two processes sees it: half of its devices are its own."""

    def __init__(self, sharding, devices):
        self._sharding, self._devices = sharding, set(devices)

    def addressable_devices_indices_map(self, shape):
        indices = self._sharding.devices_indices_map(shape)
        return {d: i for d, i in indices.items() if d in self._devices}


@pytest.mark.parametrize("text", ["fsdp=8", "data=2,fsdp=4", "data=2,fsdp=2,tensor=2"])
def test_two_processes_share_the_rows(text):
    mesh = mesh_lib.make_mesh(text)
    sharding = mesh_lib.batch_sharding(mesh)
    devices = list(mesh.devices.flat)
    first = batch_lib.rows_needed(Half(sharding, devices[:4]), SHAPE)
    second = batch_lib.rows_needed(Half(sharding, devices[4:]), SHAPE)
    # Global row r = a * 8 + b: each process has half of every micro-batch.
    np.testing.assert_array_equal(first, [0, 1, 2, 3, 8, 9, 10, 11])
    np.testing.assert_array_equal(second, [4, 5, 6, 7, 12, 13, 14, 15])


@pytest.mark.parametrize("text", ["tensor=8", "sequence=4,tensor=2"])
def test_rows_that_are_not_cut_are_needed_by_both(text):
    mesh = mesh_lib.make_mesh(text)
    half = Half(mesh_lib.batch_sharding(mesh), list(mesh.devices.flat)[:4])
    np.testing.assert_array_equal(batch_lib.rows_needed(half, SHAPE), np.arange(16))
