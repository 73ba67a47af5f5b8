import tracemalloc

import ml_dtypes
import numpy as np
import pytest

from maxlite.errors import InputError
from maxlite.hf.lazy import Computed, Concatenated, FileTensor
from maxlite.surgery import rows
from maxlite.surgery.rows import RULES, Spans, gather, measure, new_rows, repeated

BF16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = [np.dtype(np.float32), BF16, np.dtype(np.float16)]


def stored(path, values: np.ndarray) -> FileTensor:
    path.write_bytes(b"odd" + values.tobytes())
    return FileTensor(path, 3, values.shape, values.dtype)


def random_spans(count: int, old: int, seed: int = 0, empty=()) -> Spans:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 9, count)
    counts[list(empty)] = 0
    stops = np.cumsum(counts)
    return Spans(rng.integers(0, old, stops[-1]).astype(np.int32), stops - counts, stops)


def nearest(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """float32 rounded to nearest, ties to even, without ml_dtypes."""
    if dtype != BF16:
        return values.astype(np.float32).astype(dtype)
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return rounded.astype(np.uint16).view(BF16)


@pytest.fixture
def old(tmp_path):
    """old(dtype, V=90, D=12) -> a table in a file."""

    def make(dtype=np.float32, V=90, D=12, loc=0.3, name="old"):
        values = np.random.default_rng(7).normal(loc, 0.2, (V, D)).astype(dtype)
        return stored(tmp_path / name, values)

    return make


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rule", ["mean", "first"])
@pytest.mark.parametrize("count", [1, 255, 257])
def test_means_of_old_rows(rule, count, dtype, old):
    table = old(dtype)
    spans = random_spans(count, 90, empty=[17, 30] if count > 30 else [])
    made = new_rows(table, rule, spans)
    values = table.read().astype(np.float32)
    everything = values.astype(np.float64).mean(axis=0).astype(np.float32)
    wanted = [
        values[spans.ids[a:b]].mean(axis=0, dtype=np.float32) if b > a else everything
        for a, b in zip(spans.starts, spans.stops, strict=True)
    ]
    assert made.shape == (count, 12) and made.dtype == dtype
    found = made.read()
    assert found.tobytes() == nearest(np.array(wanted), dtype).tobytes()
    assert made.counts == {rule: count} if count == 1 else {rule: count - 2, "global_mean": 2}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_global_mean(dtype, old):
    table = old(dtype, V=5000)
    made = new_rows(table, "global_mean", random_spans(3, 90))
    wanted = table.read().astype(np.float64).mean(axis=0)
    found = made.compute(0, 3)
    np.testing.assert_allclose(found, np.tile(wanted, (3, 1)), rtol=2e-7)
    assert made.read().tobytes() == nearest(found, dtype).tobytes()


def test_normal_as_released(old):
    made = new_rows(old(D=400), "normal", random_spans(300, 90))
    found = made.read()
    assert abs(found.mean()) < 3e-4 and found.std() == pytest.approx(0.02, rel=0.01)
    correlations = np.corrcoef(found[:100])
    assert np.abs(correlations[~np.eye(100, dtype=bool)]).max() < 0.3
    assert made.counts == {"normal": 300}


def test_gaussian_has_the_mean_and_a_billionth_of_the_covariance(tmp_path):
    rng = np.random.default_rng(3)
    mixing = rng.normal(size=(5, 5))
    values = (rng.normal(size=(1500, 5)) @ mixing).astype(np.float32)
    table = stored(tmp_path / "t", values)
    found = new_rows(table, "gaussian", random_spans(20_000, 90)).compute(0, 20_000)
    noise = (found.astype(np.float64) - values.mean(axis=0, dtype=np.float64)) / np.sqrt(1e-9)
    assert abs(noise.mean(axis=0)).max() < 0.05
    centred = values - values.mean(axis=0)
    covariance = centred.T @ centred / len(values)
    np.testing.assert_allclose(np.cov(noise.T), covariance, atol=0.05 * covariance.max())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("match_norms", [False, True])
def test_any_rows_are_the_same_alone_and_among_others(rule, match_norms, old, monkeypatch):
    table = old(BF16, V=3000, D=16)
    spans = random_spans(200, 3000, empty=[0, 77])
    whole = new_rows(table, rule, spans, match_norms=match_norms, seed=(1, 0))
    bits = whole.read().view(np.uint16)
    for a, b in [(0, 1), (63, 65), (64, 128), (10, 200), (199, 200), (50, 50)]:
        part = new_rows(table, rule, spans, match_norms=match_norms, seed=(1, 0))
        assert np.array_equal(part.read(slice(a, b)).view(np.uint16), bits[a:b])
        assert np.array_equal(part.rows(a, b).read().view(np.uint16), bits[a:b])
    assert np.array_equal(np.concatenate([*whole.pieces()]).view(np.uint16), bits)
    if rule != "gaussian":  # its noise is drawn for blocks of the old rows
        monkeypatch.setattr(rows, "SMALL", 4 * 16 * 7)
        again = new_rows(table, rule, spans, match_norms=match_norms, seed=(1, 0))
        assert np.array_equal(again.read().view(np.uint16), bits)


@pytest.mark.parametrize("rule", ["normal", "gaussian"])
def test_seeds(rule, old):
    table, spans = old(), random_spans(70, 90)
    made = [new_rows(table, rule, spans, seed=s).compute(0, 70) for s in ((0, 0), (1, 0), (0, 1))]
    assert not any(np.array_equal(made[0], other) for other in made[1:])
    assert len(np.unique(made[0], axis=0)) == 70


@pytest.mark.parametrize("rule", RULES)
def test_norms_are_matched_to_the_median(rule, tmp_path):
    values = np.random.default_rng(1).normal(size=(101, 8)).astype(np.float32)
    values[4] = 0
    table = stored(tmp_path / "t", values)
    spans = Spans(np.array([1, 2, 3, 4, 4], np.int32), np.array([0, 2, 4]), np.array([2, 4, 5]))
    found = new_rows(table, rule, spans, match_norms=True).compute(0, 3)
    plain = new_rows(table, rule, spans).compute(0, 3)
    median = np.median(np.sqrt((values.astype(np.float64) ** 2).sum(axis=1)))
    zero = [2] if rule in ("mean", "first") else []
    for i in range(3):
        norm = np.linalg.norm(found[i].astype(np.float64))
        assert norm == (0 if i in zero else pytest.approx(median, rel=1e-5))
        cosine = found[i] @ plain[i] / max(norm * np.linalg.norm(plain[i]), 1e-9)
        assert i in zero or cosine == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("rule", ["mean", "global_mean", "gaussian"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_that_would_not_be_finite_are_refused(rule, bad, tmp_path):
    values = np.ones((9, 4), np.float32)
    values[3, 2] = bad
    made = new_rows(
        stored(tmp_path / "t", values), rule, random_spans(60, 9), name="lm_head.weight"
    )
    with pytest.raises(InputError, match=r"new rows of lm_head\.weight would not be finite"):
        list(made.pieces())


def test_a_median_norm_that_is_not_finite_is_refused(tmp_path):
    values = np.ones((9, 4), np.float32)
    values[3, 2] = np.nan
    spans = Spans(np.array([1], np.int32), np.array([0]), np.array([1]))
    table = stored(tmp_path / "t", values)
    assert new_rows(table, "mean", spans).read().tolist() == [[1, 1, 1, 1]]
    with pytest.raises(InputError, match="would not be finite"):
        new_rows(table, "mean", spans, match_norms=True).read()


def test_a_gather_of_every_kind_of_array(old, tmp_path):
    first = old(name="a")
    second = Computed((30, 12), first.dtype, lambda a, b: np.arange(a * 12, b * 12).reshape(-1, 12))
    table = Concatenated((first, Concatenated((second.rows(5, 20), first.rows(3, 9)))))
    whole = table.read()
    ids = np.random.default_rng(0).integers(0, table.shape[0], 300)
    for kind, want in ((table, whole), (first, first.read())):
        some = ids[ids < len(want)]
        np.testing.assert_array_equal(gather(kind, some), want[some])
    spans = random_spans(40, table.shape[0])
    plain = stored(tmp_path / "plain", whole)
    made = [new_rows(kind, "mean", spans).read() for kind in (table, plain)]
    np.testing.assert_array_equal(*made)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 12])
def test_norms_and_repeated_rows(dtype, width, tmp_path):
    values = np.random.default_rng(2).normal(size=(500, width)).astype(np.float32)
    values = np.round(values, 3) if width > 1 else np.arange(500, dtype=np.float32)[:, None]
    values[[7, 300, 499]] = values[9]  # twice among the later ones, once among the first
    values[401] = values[400]
    values = values.astype(dtype)
    if width == 1 and dtype == BF16:
        values = (np.arange(500, dtype=np.uint16) + 0x3F80).view(BF16)[:, None].copy()
        values[[7, 300, 499]], values[401] = values[9], values[400]
    norms, keys = measure(stored(tmp_path / "t", values))
    wanted = np.linalg.norm(values.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, wanted, rtol=1e-6)
    distinct = {row.tobytes() for row in values}
    assert len(np.unique(keys)) == len(distinct) == 496
    assert repeated(keys, 200, 500) == 3
    assert repeated(keys, 200, 400) == 1
    assert repeated(keys, 300, 301) == 1 and repeated(keys, 400, 401) == 0


def test_nothing_of_the_size_of_a_table_is_held(tmp_path):
    V, N, D = 8192, 4096, 2048
    with (tmp_path / "t").open("wb") as file:
        file.truncate(V * D * 2)  # zeros, without taking the room
    table = FileTensor(tmp_path / "t", 0, (V, D), BF16)
    spans = random_spans(N, V, empty=[5])
    tracemalloc.start()
    try:
        for rule in ("mean", "global_mean"):
            for _ in new_rows(table, rule, spans, match_norms=True).pieces():
                pass
        measure(table)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 45e6, peak  # float32: the table 67 MB, the new rows 34 MB, a block of them 17 MB
