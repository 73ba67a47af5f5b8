"""Which sequences the next round reads: the hard ones more often, after PanGu-pi Pro.

Of N units with the losses l_i, N0 are drawn one after another without putting back, each with a
chance in proportion to exp(l_i / T); published is T = 1, with a batch as the unit (multiple-round
training, arXiv 2402.02791). That is the N0 largest of l_i / T plus Gumbel noise (Gumbel-top-k,
arXiv 1903.06059 section 2.3), in which nothing is exponentiated, so that no loss overflows.

Means over large batches hardly differ, and then T = 1 is nearly an even draw: at a standard
deviation of 0.05 nats half of the batches has 53 % of the hardest tenth and 47 % of the easiest. A
lower T, or single sequences as units, draws more sharply.
"""

import math

import numpy as np

from maxlite.errors import InputError


def resample(losses: np.ndarray, fraction: float, temperature: float, seed: int) -> np.ndarray:
    """Draws units by their losses.

    Args:
      losses: nats; float [N].
      fraction: how much of them to keep, above 0 and at most 1: N0 is the nearest to N times it,
        and at least 1.
      temperature: T; 0 keeps the hardest, infinity draws evenly.
      seed: of the noise.

    Returns:
      Which are kept; int64 [N0], ascending.

    Raises:
      InputError: a setting out of its range, or a loss that is not finite.
    """
    losses = np.asarray(losses, np.float64)
    if not 0 < fraction <= 1:
        raise InputError(f"fraction {fraction:g} is not above 0 and at most 1")
    if not temperature >= 0:
        raise InputError(f"temperature {temperature:g} is not at least 0")
    if not len(losses):
        raise InputError("there are no losses to choose by")
    if not (finite := np.isfinite(losses)).all():
        raise InputError(
            f"{np.count_nonzero(~finite):,} of {len(losses):,} losses are not finite, the first is "
            f"number {int(finite.argmin()):,}; look at the model that they are of"
        )
    count = max(1, math.floor(len(losses) * fraction + 0.5))
    noise = np.random.Generator(np.random.PCG64(seed)).gumbel(size=len(losses))
    # Divided or multiplied, whichever keeps both terms finite; the order is the same.
    lot = losses + temperature * noise if temperature <= 1 else losses / temperature + noise
    return np.sort(np.lexsort((noise, lot))[len(losses) - count :])


def chances(losses: np.ndarray, fraction: float, temperature: float) -> np.ndarray:
    """How likely each unit is to be kept, close to exact where there are many.

    Each unit waits for a time of rate exp(l / T), and those are kept whose time is below a bound
    that lets so many through.

    Args:
      losses, fraction, temperature: as in `resample`, which has checked them.

    Returns:
      float64 [N], their mean the fraction.
    """
    losses = np.asarray(losses, np.float64)
    with np.errstate(all="ignore"):
        rates = (losses - losses.mean()) / temperature  # logarithms
    if fraction == 1 or not np.isfinite(rates).all():  # a temperature of 0, or as good as that
        return (losses >= np.quantile(losses, 1 - fraction)).astype(np.float64)
    low, high = -700 - rates.max(), 700 - rates.min()
    for _ in range(100):
        bound = (low + high) / 2
        kept = -np.expm1(-np.exp(np.clip(rates + bound, -745, 709)))
        low, high = (bound, high) if kept.mean() < fraction else (low, bound)
    return kept


def kept_shares(
    losses: np.ndarray, kept: np.ndarray, expected: np.ndarray, parts: int = 10
) -> list[dict[str, float]]:
    """How much was kept of the easiest tenth, of the next, and so on to the hardest.

    Args:
      losses: float [N].
      kept: which were kept; int64.
      expected: of `chances`.
      parts: how many of equal size; fewer where there are fewer losses.

    Returns:
      For each: "units" in it, "low" and "high" (losses), "kept" (their number), "share" and
      "expected" (a share).
    """
    chosen = np.zeros(len(losses), bool)
    chosen[kept] = True
    order = np.argsort(losses, kind="stable")
    return [
        {
            "units": len(part),
            "low": float(losses[part[0]]),
            "high": float(losses[part[-1]]),
            "kept": int(chosen[part].sum()),
            "share": float(chosen[part].mean()),
            "expected": float(expected[part].mean()),
        }
        for part in np.array_split(order, min(parts, len(losses)))
    ]
