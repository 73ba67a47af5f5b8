"""Small models and files for the tests of this room."""

import json
import struct

import ml_dtypes
import numpy as np

from maxlite.config import Architecture
from maxlite.hf import names

BF16 = np.dtype(ml_dtypes.bfloat16)


def tiny(**changes):
    sizes = {
        "vocab_size": 24,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return Architecture(**(sizes | changes))


def random_weights(arch, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape, scale=0.2).astype(np.float32).astype(np.dtype(dtype))
        for name, shape in names.expected(arch).items()
    }


def write_raw(path, tensors, edit=lambda header: None):
    """A safetensors file written by hand, its header changed by `edit` before it is stored."""
    known = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "I8", "float64": "F64"}
    header, data = {}, b""
    for name, array in tensors.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {
            "dtype": known[str(array.dtype)],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        data += array.tobytes()
    edit(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
