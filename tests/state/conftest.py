"""What the tests of this room share: a mesh, checkpoints, and folders as plain arrays."""

import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from state_examples import params_at, rest_at

from maxlite import config as config_lib
from maxlite.config import Config
from maxlite.hf import names
from maxlite.state import checkpoint
from maxlite.state import mesh as mesh_lib
from maxlite.state import run as run_lib
from maxlite.state.source import open_model


@pytest.fixture(scope="session")
def grid():
    """The eight devices as fsdp=4, tensor=2."""
    return mesh_lib.make_mesh("fsdp=4,tensor=2")


@pytest.fixture(scope="session")
def tensors():
    """tensors(folder): {Hugging Face name: array}, read by the safetensors library."""
    from safetensors.numpy import load_file

    def read(folder: Path) -> dict[str, np.ndarray]:
        files = sorted(Path(folder).glob("*.safetensors"))
        return {name: x for file in files for name, x in load_file(file).items()}

    return read


@pytest.fixture(scope="session")
def stacked(tensors):
    """stacked(folder): {stacked name: array}, the layers on axis 0."""

    def stack(folder: Path) -> dict[str, np.ndarray]:
        layers: dict[str, dict[int | None, np.ndarray]] = {}
        for name, x in tensors(folder).items():
            short, layer = names.split(name)
            layers.setdefault(short, {})[layer] = x
        return {
            name: parts[None] if None in parts else np.stack([parts[i] for i in range(len(parts))])
            for name, parts in layers.items()
        }

    return stack


@pytest.fixture(scope="session")
def three(grid, tmp_path_factory):
    """A checkpoints folder with the steps 1, 2 and 3, for tests that only read it."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    saver = checkpoint.Checkpoints(folder, keep=9, keep_every=0)
    for step in (1, 2, 3):
        params = params_at(grid, step)
        saver.save(step, params, rest_at(grid, params, step), {"step": step})
    saver.close()
    return folder


@pytest.fixture
def folder(three, tmp_path):
    """A copy of it that may be damaged."""
    return shutil.copytree(three, tmp_path / "checkpoints")


@pytest.fixture
def trained(tiny_folder, tmp_path, stacked):
    """trained(dtype): a run whose float32 weights no narrower type can hold, and those weights."""

    def make(dtype="bfloat16", **fields):
        source = open_model(str(tiny_folder(dtype=dtype, **fields)))
        config = config_lib.resolve(Config(model=source.where, out=str(tmp_path / "run"), steps=7))
        description = {"config": config_lib.as_dict(config), "order": "abc"}
        run = run_lib.create(tmp_path / "run", description, source.carried, source.dtypes)
        mesh = mesh_lib.make_mesh("fsdp=4,tensor=2")
        shardings = mesh_lib.shardings(mesh, source.shapes)
        values = {
            name: x.astype(np.float32) * np.float32(1.001)
            for name, x in stacked(source.where).items()
        }
        params = {name: jax.device_put(x, shardings[name]) for name, x in values.items()}
        saver = checkpoint.Checkpoints(run.checkpoints, keep=1, keep_every=0)
        saver.save(7, params, {}, {"step": 7})
        saver.close()
        return run, values

    return make
