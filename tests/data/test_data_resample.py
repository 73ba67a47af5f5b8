"""The draw of a later round: torch's frequencies, no overflow, and the published near-evenness."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maxlite.data.resample import chances, kept_shares, resample
from maxlite.errors import InputError

LOSSES = np.array([0.3, 2.0, 1.1, 0.0, 2.9])


def frequencies(draws) -> np.ndarray:
    """How often each pair of five was kept; int [10]."""
    pairs = list(itertools.combinations(range(5), 2))
    found = dict.fromkeys(pairs, 0)
    for drawn in draws:
        found[tuple(sorted(map(int, drawn)))] += 1
    return np.array([found[pair] for pair in pairs])


def expected(temperature: float) -> np.ndarray:
    """Chances of the pairs when two are drawn one after the other."""
    p = np.exp(LOSSES / temperature)
    p /= p.sum()
    pairs = itertools.combinations(range(5), 2)
    return np.array([p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]) for a, b in pairs])


# The 0.9999 quantile of chi-square with 9 degrees of freedom is 33.7.
@pytest.mark.parametrize("temperature", [0.7, 1.0, 4.0])
def test_pairs_come_as_often_as_they_should(temperature):
    count = 4000
    found = frequencies(resample(LOSSES, 0.4, temperature, seed) for seed in range(count))
    wanted = expected(temperature) * count
    assert ((found - wanted) ** 2 / wanted).sum() < 33.7
    other = expected(temperature * 1.5) * count
    assert ((found - other) ** 2 / other).sum() > 33.7  # the test tells temperatures apart


def test_pairs_come_as_often_as_with_torch():
    torch = pytest.importorskip("torch")
    count = 4000
    p = torch.softmax(torch.tensor(LOSSES), 0)
    drawing = torch.Generator().manual_seed(0)
    theirs = frequencies(
        torch.multinomial(p.repeat(count, 1), 2, replacement=False, generator=drawing).tolist()
    )
    ours = frequencies(resample(LOSSES, 0.4, 1.0, seed) for seed in range(count))
    # Of two samples of equal size: sum (a - b)^2 / (a + b), again with 9 degrees of freedom.
    assert ((ours - theirs) ** 2 / (ours + theirs)).sum() < 33.7


def test_large_losses_do_not_overflow():
    losses = np.array([1000.0, 1001.0, 1003.0, 900.0])
    drawn = [resample(losses, 0.25, 1.0, seed)[0] for seed in range(2000)]
    share = np.bincount(drawn, minlength=4) / 2000
    p = np.exp(losses - 1003)
    np.testing.assert_allclose(share, p / p.sum(), atol=0.03)
    for temperature in (5e-324, 1e-300, 1e300):
        with np.errstate(all="raise", under="ignore"):
            kept = resample(losses * 1e300, 0.5, temperature, 0)
        assert temperature > 1 or kept.tolist() == [1, 2]


@pytest.mark.parametrize("deviation, top, bottom", [
    (0.02, 51, 50), (0.05, 54, 47), (0.1, 57, 44), (0.3, 68, 34),
])  # fmt: skip
def test_means_that_hardly_differ_are_drawn_almost_evenly(deviation, top, bottom):
    losses = np.random.default_rng(0).normal(2.5, deviation, 75_000)

    def ends(temperature, what="share"):
        """Kept of the hardest and of the easiest tenth, in percent, as means of ten draws."""
        likely = chances(losses, 0.5, temperature)
        told = [
            kept_shares(losses, resample(losses, 0.5, temperature, seed), likely)
            for seed in range(10)
        ]
        return [100 * np.mean([shares[i][what] for shares in told]) for i in (-1, 0)]

    assert ends(1.0) == pytest.approx([top, bottom], abs=1.5)
    assert ends(1.0) == pytest.approx(ends(1.0, "expected"), abs=0.7)
    sharp, even = ends(deviation / 2), ends(1e6)
    assert sharp[0] > 90 and sharp[1] < 15
    assert even == pytest.approx([50, 50], abs=0.7)


def test_limits_of_the_temperature():
    losses = np.repeat(np.random.default_rng(0).permutation(50) * 1.0, 2)
    hardest = resample(losses, 0.5, 0.0, 3)
    assert hardest.tolist() == np.flatnonzero(losses >= 25).tolist()
    # Of equals chance decides, not the place.
    assert len({tuple(resample(np.zeros(9), 0.4, 0.0, seed)) for seed in range(20)}) > 10
    kept = np.concatenate([resample(losses, 0.5, np.inf, seed) for seed in range(400)])
    assert np.bincount(kept, minlength=100).min() > 150


@pytest.mark.parametrize("temperature", [0.0, 0.1, 1.0, np.inf])
@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9, 1.0])
def test_chances_are_the_frequencies(temperature, fraction):
    losses = np.random.default_rng(1).normal(2.5, 0.5, 300)
    kept = [resample(losses, fraction, temperature, seed) for seed in range(300)]
    found = np.bincount(np.concatenate(kept), minlength=300) / 300
    likely = chances(losses, fraction, temperature)
    assert likely.mean() == pytest.approx(fraction, abs=0.005)
    assert np.abs(found - likely).max() < 0.14  # five times sqrt(0.25 / 300)


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40),
    st.floats(1e-3, 1.0),
    st.one_of(st.sampled_from([0.0, np.inf]), st.floats(0.0, 1e4)),
    st.integers(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_it_keeps_so_many_different_ones(losses, fraction, temperature, seed):
    losses = np.array(losses)
    kept = resample(losses, fraction, temperature, seed)
    assert kept.dtype == np.int64 and (np.diff(kept) > 0).all()
    assert len(kept) >= 1 and abs(len(kept) - fraction * len(losses)) <= max(
        0.5, 1 - fraction * len(losses)
    )
    assert kept[0] >= 0 and kept[-1] < len(losses)
    np.testing.assert_array_equal(kept, resample(losses, fraction, temperature, seed))
    assert resample(losses, 1.0, temperature, seed).tolist() == list(range(len(losses)))
    likely = chances(losses, fraction, temperature)
    assert (likely >= 0).all() and (likely <= 1).all()
    told = kept_shares(losses, kept, likely)
    assert sum(part["kept"] for part in told) == len(kept)
    assert sum(part["units"] for part in told) == len(losses)


def test_drawn_literally():
    """What a seed draws: rounds that were made once can be made again."""
    assert resample(np.arange(20) / 10, 0.3, 1.0, 7).tolist() == [6, 10, 11, 12, 13, 18]


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, np.nan, np.inf])
def test_a_fraction_is_above_zero_and_at_most_one(fraction):
    with pytest.raises(InputError, match=r"fraction .* is not above 0 and at most 1"):
        resample(LOSSES, fraction, 1.0, 0)


def test_bad_losses_and_temperatures():
    for temperature in (-1.0, np.nan):
        with pytest.raises(InputError, match="temperature"):
            resample(LOSSES, 0.5, temperature, 0)
    with pytest.raises(InputError, match="2 of 3 losses are not finite, the first is number 1;"):
        resample(np.array([1.0, np.nan, np.inf]), 0.5, 1.0, 0)
    with pytest.raises(InputError, match="no losses"):
        resample(np.zeros(0), 0.5, 1.0, 0)
