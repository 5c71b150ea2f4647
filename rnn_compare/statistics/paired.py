"""Two contestants paired by seed: the effect, its interval, and the verdict on a claim."""

import math
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, wilcoxon

from rnn_compare.statistics.interval import mean_interval

Bounds = tuple[float, float]
HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"


class Paired(NamedTuple):
    """Two contestants compared over the seeds that both were trained with.

    Attributes:
        n: pairs that were compared.
        effect: by how much b is above a: the ratio b / a, or the difference b − a.
        low: lower end of the effect's interval.
        high: upper end.
        probability_better: share of the pairs in which b is lower, that is better, than a; a tie counts half.
        p_value: of Wilcoxon's two-sided signed-rank test (1945) that b lies above a as often, and as far, as below it.
    """

    n: int
    effect: float
    low: float
    high: float
    probability_better: float
    p_value: float


NOTHING = Paired(0, *[math.nan] * 5)


def paired(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, ratio: bool = True) -> Paired:
    """Compares a measure of two contestants that were trained on the same seeds.

    The effect is a mean and not a median, whose interval from few pairs sits on a few of the differences. Of ratios it
    is the geometric mean, so that b / a and a / b say the same; its interval is `mean_interval` of their logarithms.

    Args:
        a: a measure of one, [seeds].
        b: the same of the other, [seeds]; entry i belongs to the same seed as a's. A pair is left out where either is
            not finite.
        confidence: the share of such intervals that should hold the true effect.
        ratio: whether the effect is b / a, for positive measures, or b − a, for those that can be 0, such as counts.

    Returns:
        The comparison. The interval is NaN where `mean_interval` gives none, the p-value for fewer than two pairs, all
        but `n` for none; the interval has no width where all pairs differ by the same.

    Raises:
        ValueError: the shapes differ, or a ratio is asked of a measure that is not positive.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need two vectors of one length, not {a.shape} and {b.shape}")
    finite = np.isfinite(a) & np.isfinite(b)
    a, b = a[finite], b[finite]
    if not len(a):
        return NOTHING
    if ratio and min(a.min(), b.min()) <= 0:
        raise ValueError("a ratio needs positive measures; use ratio=False")
    difference = np.log(b) - np.log(a) if ratio else b - a
    ends = math.fsum(difference) / len(a), *mean_interval(difference, confidence)
    effect, low, high = (math.exp(min(max(x, -700), 700)) if ratio else float(x) for x in ends)
    better = float(np.mean((b < a) + 0.5 * (b == a)))
    return Paired(len(a), effect, low, high, better, _signed_rank(difference))


def _signed_rank(x: np.ndarray) -> float:
    """The p-value of Wilcoxon's signed-rank test of x, [n], which leaves zeros out."""
    if len(x) < 2:
        return math.nan
    if len(x) > 13:
        return float(wilcoxon(x).pvalue) if x.any() else 1.0
    # All ways to sign the ranks at once, as SciPy does it in a tenth of a second where two differences are equal.
    x = x[x != 0]
    ranks = rankdata(np.abs(x))
    sums = (np.arange(2 ** len(x))[:, None] >> np.arange(len(x)) & 1) @ ranks
    own = ranks[x > 0].sum()
    return min(1.0, 2 * float(min(np.mean(sums <= own), np.mean(sums >= own))))


def verdict(result: Paired, bounds: Bounds) -> str:
    """What the interval of an effect says about a claim.

    A claim is an open interval of effects. With a ratio of losses, "ends lower" is (0, 1); with one of times, "trains
    3.84% faster", give or take a percent, is (1.0284, 1.0484).
    A claim of near equality is judged by the inclusion of the interval (Westlake, Biometrics 1972).

    Args:
        result: the comparison.
        bounds: the lowest and the highest effect, both excluded, for which the claim is true; may be infinite.

    Returns:
        `HOLDS` if the interval lies within the claim, `FAILS` if it lies outside, `UNDECIDED` if it lies across a
        border of the claim or is NaN.
    """
    if bounds[0] < result.low and result.high < bounds[1]:
        return HOLDS
    if result.high <= bounds[0] or result.low >= bounds[1]:
        return FAILS
    return UNDECIDED


def seeds_to_decide(result: Paired, bounds: Bounds) -> float:
    """Roughly how many seeds would decide a claim about a ratio.

    Supposed is that the effect stays and that its interval shrinks as 1 / √seeds, in logarithms, in which a ratio's
    interval is made.

    Args:
        result: the comparison, by ratio.
        bounds: as in `verdict`.

    Returns:
        The number of all seeds: `result.n` if they decide it already, infinity if the effect is on a border of the
        claim, NaN if there is no interval.
    """
    if math.isnan(result.low):
        return math.nan
    if verdict(result, bounds) != UNDECIDED:
        return result.n
    ratios = result.effect, result.low, result.high, *bounds
    effect, low, high, lowest, highest = (math.log(x) if x > 0 else -math.inf for x in ratios)
    if effect in (lowest, highest):
        return math.inf
    if effect < lowest:
        excess = (high - effect) / (lowest - effect)
    elif effect > highest:
        excess = (effect - low) / (effect - highest)
    else:
        excess = max((effect - low) / (effect - lowest), (high - effect) / (highest - effect))
    return max(result.n + 1, math.ceil(result.n * excess**2))
