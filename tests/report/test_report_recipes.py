"""What a recipe's evaluations said, by text."""

import math

import pytest

from maxlite.mixture import Source
from maxlite.report.recipes import _texts


def test_the_files_of_a_source_count_by_their_bytes(tmp_path):
    files = [
        {"name": f"/clean/{i}.zst", "bits_per_byte": bits, "bytes": size, "tokens": tokens,
         "tokens_per_char": cost}
        for i, (bits, size, tokens, cost) in enumerate([(1.0, 300, 50, 0.5), (4.0, 100, 90, 1.0)])
    ]  # fmt: skip
    nothing = {"name": "/clean/2.zst", "bits_per_byte": 0.0, "bytes": 0, "tokens": 0,
               "tokens_per_char": 0.0}  # fmt: skip
    sources = [Source("/clean/*.zst", name="ko")]
    (found,) = _texts({"files": [*files, nothing]}, tmp_path, sources)
    assert found["name"] == "ko" and found["bytes"] == 400
    assert math.isclose(found["bits_per_byte"], 1.75)
    assert found["tokens_per_char"] == pytest.approx(140 / 190)
