import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.corpus.minhash import (
    alike,
    band_keys,
    banding,
    fingerprints,
    meeting,
    shingles,
    sketch,
)


def sets(rng, similarity, size, count):
    """Pairs of sets of hashes with so many in both, as signatures of the ones and the others."""
    shared = round(2 * size * similarity / (1 + similarity))
    pool = rng.integers(0, 1 << 32, (count, 2 * size - shared), dtype=np.uint32)
    starts = np.arange(0, count * size, size)
    true = shared / (2 * size - shared)
    return (*(sketch(s.ravel(), starts, 256) for s in (pool[:, :size], pool[:, -size:])), true)


@given(st.lists(st.text("ab가😀", max_size=9), max_size=6), st.integers(1, 6))
@settings(max_examples=200, deadline=None)
def test_shingles_are_the_n_grams_of_each_text(texts, n):
    codes = np.frombuffer("".join(texts).encode("utf-32-le"), "<u4")
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    hashes, starts = shingles(codes, ends, n)
    expected = [
        text[i : i + n] for text in texts for i in range(max(1, len(text) - n + 1))
    ]  # a shorter text is one
    assert len(hashes) == len(expected) and len(starts) == len(texts)
    assert len(set(zip(expected, hashes.tolist(), strict=True))) == len(set(expected))
    assert len(set(hashes.tolist())) == len(set(expected))
    counts = [max(1, len(text) - n + 1) for text in texts]
    assert starts.tolist() == [sum(counts[:i]) for i in range(len(counts))]


def test_similar_n_grams_get_different_hashes():
    """All 3-grams of 50 neighbouring syllables: as many hashes, but for 32 bits' own collisions."""
    a, b, c = np.meshgrid(*[np.arange(0xAC00, 0xAC00 + 50, dtype=np.uint32)] * 3)
    codes = np.stack([a, b, c], axis=-1).ravel()
    hashes, _ = shingles(codes, np.arange(3, len(codes) + 1, 3), 3)
    assert len(hashes) == 50**3 and len(np.unique(hashes)) > 50**3 - 20
    assert abs(np.bitwise_count(hashes[1:] ^ hashes[:-1]).mean() - 16) < 0.1


@pytest.mark.parametrize("size", [20, 60, 1500])
@pytest.mark.parametrize("similarity", [0.0, 0.5, 0.8, 0.95])
def test_the_estimate_is_unbiased_and_as_sharp_as_theory_says(similarity, size):
    count = 400
    one, two, true = sets(np.random.default_rng(size), similarity, size, count)
    estimate = ((one == two).mean(axis=1) - 1 / 256) / (1 - 1 / 256)
    deviation = np.sqrt((true + 1 / 256) * (1 - true) / 256)
    assert abs(estimate.mean() - true) < 4 * deviation / np.sqrt(count) + 0.002
    assert 0.8 < estimate.std() / deviation < 1.25


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.6, 0.7, 0.8, 0.9])
def test_texts_meet_as_often_as_the_curve_says(similarity):
    bands, rows = banding(0.8, 256)
    one, two, true = sets(np.random.default_rng(1), similarity, 60, 1500)
    same = [band_keys(one, band, rows) == band_keys(two, band, rows) for band in range(bands)]
    share = np.any(same, axis=0).mean()
    expected = meeting(true, bands, rows)
    print(f"similarity {true:.2f}: {share:.3f} meet, {expected:.3f} expected")
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 1500) + 0.004


def test_banding():
    found = {threshold: banding(threshold, 256) for threshold in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)}
    assert found == {
        0.5: (85, 3),
        0.6: (64, 4),
        0.7: (42, 6),
        0.8: (32, 8),
        0.9: (32, 8),
        1.0: (32, 8),
    }
    for permutations in (16, 64, 128, 256, 1024):
        for threshold in (0.5, 0.66, 0.8, 0.93, 1.0):
            bands, rows = banding(threshold, permutations)
            assert bands * rows <= permutations and meeting(threshold, bands, rows) >= 0.99
            longer = meeting(threshold, permutations // (rows + 1), rows + 1)
            assert rows == 8 or longer < 0.99


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_band_keys_are_equal_where_all_rows_are(rows):
    few = np.random.default_rng(0).integers(0, 3, (200, 24), dtype=np.uint8)
    for band in range(24 // rows):
        keys = band_keys(few, band, rows)
        mine = [tuple(row) for row in few[:, band * rows : (band + 1) * rows].tolist()]
        assert len(set(zip(keys.tolist(), mine, strict=True))) == len(set(mine)) == len(set(keys))


def test_alike_at_the_threshold():
    one = np.zeros((257, 256), np.uint8)
    two = (np.arange(256) >= np.arange(257)[:, None]).astype(np.uint8)  # row k has k in common
    for threshold in (0.5, 0.8, 1.0):
        needed = 256 * threshold + (1 - threshold)  # and what agrees by chance
        assert alike(one, two, threshold).tolist() == [k >= needed for k in range(257)]


def test_signatures_depend_on_the_set_alone():
    hashes = np.random.default_rng(0).integers(0, 1 << 32, 100, dtype=np.uint32)
    twice = np.concatenate([hashes, hashes[::-1], hashes[:50]])
    signed = sketch(np.concatenate([hashes, twice]), np.array([0, 100]), 64)
    assert signed.dtype == np.uint8 and signed.shape == (2, 64)
    assert (signed[0] == signed[1]).all()
    prints = fingerprints(np.concatenate([signed, signed ^ (np.arange(64) == 3).astype(np.uint8)]))
    assert prints[0] == prints[1] != prints[2] == prints[3]


def test_signatures_literally():
    """Those that one machine saved are compared with those of another, or of another day."""
    codes = np.frombuffer("가나다라마바사".encode("utf-32-le"), "<u4")
    signed = sketch(*shingles(codes, np.array([4, 7]), 3), 16)
    assert signed.tolist() == [
        [71, 153, 50, 145, 112, 182, 93, 106, 197, 34, 254, 95, 180, 213, 215, 82],
        [66, 123, 184, 255, 52, 201, 43, 202, 186, 45, 225, 208, 197, 196, 11, 169],
    ]
