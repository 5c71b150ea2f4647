"""Many contestants compared with each other: who is lower than whom, and which ranks that leaves to each."""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, studentized_range

from rnn_compare.statistics.paired import Paired, paired
from rnn_compare.statistics.together import holm


class Pair(NamedTuple):
    """Two contestants compared.

    Attributes:
        result: the ratio of the first's measure to the second's, with a 95% interval.
        lower: whether the first is lower than the second, surely enough for all pairs together; so is `higher`.
        higher: see `lower`.
        alike: whether the ratio's interval, as long as that takes, lies within the margin.
    """

    result: Paired
    lower: bool
    higher: bool
    alike: bool

    def turned(self) -> "Pair":
        """The second compared with the first."""
        n, effect, low, high, better, p_value = self.result
        return Pair(Paired(n, 1 / effect, 1 / high, 1 / low, 1 - better, p_value), self.higher, self.lower, self.alike)


class Ranking(NamedTuple):
    """Contestants in the order of their mean ranks.

    Attributes:
        pairs: (first, second) -> how they compare, in both orders.
        mean_ranks: contestant -> its mean rank over the seeds, 1 is the lowest measure; in order.
        ranks: contestant -> the best and the worst place that it may have.
    """

    pairs: dict[tuple[str, str], Pair]
    mean_ranks: dict[str, float]
    ranks: dict[str, tuple[int, int]]


def compare(measures: dict[str, np.ndarray], least: int, margin: float) -> Ranking:
    """Compares contestants by a measure of which lower is better.

    Whether two differ is asked of Wilcoxon's signed-rank test, of all pairs together by `holm` (as Benavoli, Corani and
    Mangili advise, "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 2016): in 95 of 100 studies none is
    decided wrongly. Intervals of ten pairs would be too long to tell any of many apart. A contestant's place is then
    between 1 + those that are lower and the number of all − those that are higher: with that assurance, all places hold
    the true ones together (Mogstad, Romano, Shaikh and Wilhelm, "Inference for Ranks with Applications to Mobility
    across Neighbourhoods and Academic Achievement across Countries", Review of Economic Studies 2024).

    Args:
        measures: contestant -> its measure for each seed, [seeds]; NaN where there is none, as for a run that diverged,
            which ranks last among its seed's and takes no part in ratios.
        least: pairs of runs with which a difference may be called sure.
        margin: how far from 1 a ratio may be, as 1 + margin or 1 / (1 + margin), to be as good as 1.
    """
    names = list(measures)
    twos = list(itertools.combinations(names, 2))
    bounds = 1 / (1 + margin), 1 + margin

    shown = [paired(measures[second], measures[first]) for first, second in twos]

    @functools.cache
    def result(i: int, confidence: float) -> Paired:
        first, second = twos[i]
        found = paired(measures[second], measures[first], confidence)
        return found if found.n >= least else found._replace(low=math.nan, high=math.nan)

    def differ(i: int, confidence: float) -> bool:
        return shown[i].n >= least and shown[i].p_value <= 1 - confidence

    def alike(i: int, confidence: float) -> bool:
        found = result(i, confidence)
        return bounds[0] < found.low and found.high < bounds[1]

    sure, near = holm(differ, len(twos)), holm(alike, len(twos))
    pairs: dict[tuple[str, str], Pair] = {}
    for i, (first, second) in enumerate(twos):
        apart, effect = differ(i, sure[i]), shown[i].effect
        pair = Pair(shown[i], apart and effect < 1, apart and effect > 1, alike(i, near[i]))
        pairs[first, second], pairs[second, first] = pair, pair.turned()
    table = np.array([np.where(np.isfinite(of), of, np.inf) for of in measures.values()])
    ranks = rankdata(table, axis=0).mean(axis=1) if table.size else np.zeros(len(names))
    order = [names[i] for i in np.argsort(ranks, kind="stable")]
    places = {name: (1 + sum(pairs[name, other].higher for other in names if other != name),
                     len(names) - sum(pairs[name, other].lower for other in names if other != name))
              for name in order}  # fmt: skip
    return Ranking(pairs, {name: float(ranks[names.index(name)]) for name in order}, places)


def critical_difference(contestants: int, settings: int, error: float = 0.05) -> float:
    """By how much mean ranks over settings must differ to be told apart, for all pairs together.

    Nemenyi's test as in Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006: the
    studentised range's quantile / √2, times √(k(k + 1) / 6N). It takes settings for independent.
    """
    quantile = studentized_range.ppf(1 - error, contestants, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(contestants * (contestants + 1) / (6 * settings)))
