"""What the tests of this room share: a mesh, and folders as plain arrays."""

from pathlib import Path

import numpy as np
import pytest

from maxlite.hf import names
from maxlite.state import mesh as mesh_lib


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
