"""A ratio of times, of samples taken in turn."""

import numpy as np
from scipy.stats import mstats

from rnn_compare.statistics.measures import interquartile_mean


def ratio_of(top: np.ndarray, bottom: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """One contestant's time over another's.

    On a shared machine some samples take twice as long as the others. So the ratio is the interquartile mean of the
    pairs' log ratios, which a quarter of outliers on either side does not move, and of which less is lost to the noise
    of the others than of the median. Its interval is Student's with the winsorized variance (Tukey and McLaughlin,
    Sankhyā 1963), which needs no resampling. Of few pairs of normal noise, too, 92 in a hundred or more hold the ratio.

    Args:
        top: seconds of the samples of one, [pairs], two at least.
        bottom: those of the other, [pairs].
        confidence: the share of such intervals that should hold the ratio.

    Returns:
        The ratio, over 1 where the other is faster, and the ends of its interval.
    """
    logs = np.log(top / bottom)
    ends = mstats.trimmed_mean_ci(logs, limits=(0.25, 0.25), alpha=1 - confidence)
    ratio, low, high = np.exp([interquartile_mean(logs), *ends])
    return float(ratio), float(low), float(high)
