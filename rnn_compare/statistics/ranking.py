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
        difference: by how much mean ranks must differ to be told apart; None where pairs are decided one by one.
    """

    pairs: dict[tuple[str, str], Pair]
    mean_ranks: dict[str, float]
    ranks: dict[str, tuple[int, int]]
    difference: float | None


def compare(measures: dict[str, np.ndarray], least: int, margin: float) -> Ranking:
    """Compares contestants by a measure of which lower is better.

    Whether two differ is asked of Wilcoxon's signed-rank test, of all pairs together by `holm` (as Benavoli, Corani and
    Mangili advise, "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 2016): in 95 of 100 studies none is
    decided wrongly. Intervals of ten pairs would be too long to tell any of many apart. Of so many contestants that not
    even a pair of which every seed says the same could be decided, as eight of ten seeds, mean ranks over the seeds are
    held against `critical_difference`, which in simulation errs less often still. A contestant's place is then
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

    ranks = mean_ranks(measures)
    seeds = len(next(iter(measures.values()), ()))
    one_by_one = seeds < least or 2.0 ** (1 - seeds) * len(twos) <= 0.05
    difference = None if one_by_one else critical_difference(len(names), seeds)
    shown = [paired(measures[second], measures[first]) for first, second in twos]

    def differ(i: int, confidence: float) -> bool:
        if difference is not None:
            return abs(ranks[twos[i][0]] - ranks[twos[i][1]]) >= difference
        return shown[i].n >= least and shown[i].p_value <= 1 - confidence

    def lower(i: int) -> bool:
        return ranks[twos[i][0]] < ranks[twos[i][1]] if difference is not None else shown[i].effect < 1

    def within(found: Paired) -> bool:
        return found.n >= least and bounds[0] < found.low and found.high < bounds[1]

    @functools.cache
    def alike(i: int, confidence: float) -> bool:
        first, second = twos[i]
        return within(shown[i]) and within(paired(measures[second], measures[first], confidence))

    sure, near = holm(differ, len(twos)), holm(alike, len(twos))
    pairs: dict[tuple[str, str], Pair] = {}
    for i, (first, second) in enumerate(twos):
        apart = differ(i, sure[i])
        pair = Pair(shown[i], apart and lower(i), apart and not lower(i), alike(i, near[i]))
        pairs[first, second], pairs[second, first] = pair, pair.turned()
    places = {name: (1 + sum(pairs[name, other].higher for other in names if other != name),
                     len(names) - sum(pairs[name, other].lower for other in names if other != name))
              for name in ranks}  # fmt: skip
    return Ranking(pairs, ranks, places, difference)


def mean_ranks(measures: dict[str, np.ndarray]) -> dict[str, float]:
    """Each contestant's mean rank over the seeds, the lowest first; `measures` as for `compare`."""
    table = np.array([np.where(np.isfinite(of), of, np.inf) for of in measures.values()])
    ranks = rankdata(table, axis=0).mean(axis=1) if table.size else np.zeros(len(measures))
    return dict(sorted(zip(measures, map(float, ranks), strict=True), key=lambda item: item[1]))


def critical_difference(contestants: int, settings: int, error: float = 0.05) -> float:
    """By how much mean ranks over settings must differ to be told apart, for all pairs together.

    Nemenyi's test as in Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006: the
    studentised range's quantile / √2, times √(k(k + 1) / 6N). It takes settings for independent.
    """
    quantile = studentized_range.ppf(1 - error, contestants, math.inf) / math.sqrt(2)
    return float(quantile * math.sqrt(contestants * (contestants + 1) / (6 * settings)))
