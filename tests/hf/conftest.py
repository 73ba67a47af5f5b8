import json

import pytest
from hf_examples import random_weights, tiny

from maxlite.hf import config_json, writer


@pytest.fixture
def make_folder(tmp_path):
    """make_folder(name, arch, weights, max_shard_size) -> a model folder."""

    def make(name="source", arch=None, weights=None, max_shard_size="5GB", config=None):
        arch = arch or tiny()
        weights = random_weights(arch) if weights is None else weights
        folder = tmp_path / name
        writer.write_folder(
            folder,
            config=json.dumps(config or config_json.config_for(arch, "float32")).encode(),
            specs={key: (w.dtype, w.shape) for key, w in weights.items()},
            read=weights.__getitem__,
            max_shard_size=max_shard_size,
        )
        return folder

    return make
