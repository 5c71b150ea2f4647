"""The interval of a mean from few values."""

import math

import numpy as np
from scipy.stats import t

FEWEST = 6  # values of which an interval is given
RESAMPLES = 9_999
SHARE = 0.6  # of the tails that were asked for, those of the bootstrap, which is too short where values are few


def mean_interval(x: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """An interval of the mean of the population that x is a sample of.

    It spans two. Student's ("The Probable Error of a Mean", Biometrika 1908) is long enough with outliers, and too
    short on the side to which values are skewed. There the bootstrap-t is longer (Efron, "The Jackknife, the Bootstrap
    and Other Resampling Plans", SIAM 1982, section 10.10): Student's, with the quantiles that his ratio has over
    resamples of x, always the same ones. How often the two together hold the mean, and what `FEWEST` and `SHARE` do to
    it, is simulated in experiments/statistics.

    Args:
        x: the values, [n], in any order.
        confidence: the share of such intervals that should hold the mean.

    Returns:
        Its ends, which are one if all values are alike. NaN of fewer than `FEWEST` values, and where so many are alike
        that a whole tail of the resamples has no spread.
    """
    if len(x) < FEWEST:
        return math.nan, math.nan
    # In whole numbers, whose sums are exact, and in an order in which a resample of −x is minus the resample of x.
    unit = np.abs(x).max() / 2**34 or 1.0
    x = np.rint(x / unit)
    mean, tail = x.mean(), (1 - confidence) / 2
    x = np.array(sorted(x, key=lambda value: (abs(value), value * mean)))
    spread = x.std()
    if not spread:
        return float(mean * unit), float(mean * unit)
    resamples = np.random.default_rng(0).choice(x, (RESAMPLES, len(x)))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.sort(np.nan_to_num((resamples.mean(1) - mean) / resamples.std(1), posinf=np.inf, neginf=-np.inf))
    cut = max(1, round(SHARE * tail * (RESAMPLES + 1)))
    student = t.ppf(1 - tail, len(x) - 1) / math.sqrt(len(x) - 1)
    low = mean - max(student, ratios[-cut]) * spread
    high = mean + max(student, -ratios[cut - 1]) * spread
    return (float(low * unit), float(high * unit)) if math.isfinite(high - low) else (math.nan, math.nan)
