"""What tells one model's weights from another's, without reading them all."""

import hashlib
import json
import math
from collections.abc import Mapping

import numpy as np

from maxlite.hf.lazy import LazyArray

SAMPLES, SAMPLE = 4, 1 << 13  # of each tensor: how many places are looked at, bytes at each


def signature(tensors: Mapping[str, LazyArray]) -> str:
    """Names a model by its tensors: hexadecimal SHA-256, the same however they lie in files.

    Names, shapes and dtypes count, and of each tensor's values evenly spaced blocks of rows, or
    all where they are few; so a model of any size takes megabytes and a moment. Two models that
    differ in nothing but a few values may have the same one, two trainings do not.

    Args:
        tensors: By Hugging Face's names, layers apart, in any order.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, tensor.shape, str(tensor.dtype)]).encode())
        rows = max(1, SAMPLE // (tensor.dtype.itemsize * math.prod(tensor.shape[1:])))
        last = tensor.shape[0] - rows
        starts = np.linspace(0, max(last, 0), SAMPLES).astype(int).tolist()
        if last < SAMPLES * rows:
            starts, rows = [0], tensor.shape[0]
        for start in starts:
            block = tensor.rows(start, start + rows).read()
            digest.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
