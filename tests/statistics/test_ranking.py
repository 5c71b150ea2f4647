import math

import numpy as np
import pytest
from scipy.stats import studentized_range

from rnn_compare.statistics.ranking import compare, critical_difference
from rnn_compare.statistics.together import holm


def test_holm_decides_as_its_own_table_says():
    """Holm's rule by p-values: the smallest is held against 5% / 4, the next against 5% / 3, until one fails."""
    p_values = [0.01, 0.04, 0.015, 0.2]
    levels = holm(lambda i, confidence: p_values[i] < 1 - confidence, 4)
    # At 5% / 4 only 0.01 is decided; of three, 0.015 is; of two, 0.04 is not, and there it ends.
    assert levels == pytest.approx([1 - 0.05 / 4, 1 - 0.05 / 2, 1 - 0.05 / 3, 1 - 0.05 / 2])
    assert holm(lambda i, confidence: True, 2) == pytest.approx([0.975, 0.975])
    assert holm(lambda i, confidence: False, 0) == []


def study(rng, truth, seeds=10, spread=0.2):
    """Measures whose logs differ by the truth, by what a seed has in common, and by noise."""
    common = rng.normal(0, 0.5, seeds)
    return {name: level * np.exp(common + rng.normal(0, spread, seeds)) for name, level in truth.items()}


def test_what_differs_by_far_is_in_its_place_and_what_hardly_differs_is_as_good_as_equal():
    rng = np.random.default_rng(0)
    found = compare(study(rng, {"c": 4.0, "a": 1.0, "b": 2.0}, spread=0.01), 10, 0.05)
    assert list(found.mean_ranks) == ["a", "b", "c"]
    assert found.ranks == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}
    assert found.pairs["a", "b"].lower
    assert found.pairs["b", "a"].higher
    assert found.pairs["a", "b"].result.effect == pytest.approx(1 / found.pairs["b", "a"].result.effect)
    assert found.pairs["a", "c"].result.probability_better == 1 - found.pairs["c", "a"].result.probability_better == 1
    near = compare(study(rng, {"a": 1.0, "b": 1.001}, spread=0.005), 10, 0.05)
    assert near.pairs["a", "b"].alike
    assert near.pairs["b", "a"].alike
    assert near.ranks == {"a": (1, 2), "b": (1, 2)}


def test_a_run_that_diverged_ranks_last_and_is_in_no_ratio():
    measures = {"a": np.full(10, 1.0) * np.exp(np.arange(10) / 10), "b": np.full(10, 2.0) * np.exp(np.arange(10) / 10)}
    measures["a"][:3] = math.nan
    found = compare(measures, 6, 0.05)
    assert found.mean_ranks == {"a": pytest.approx(1.3), "b": pytest.approx(1.7)}
    assert found.pairs["a", "b"].result.n == 7
    assert found.pairs["a", "b"].result.effect == pytest.approx(0.5)
    assert compare(measures, 8, 0.05).ranks == {"a": (1, 2), "b": (1, 2)}  # too few pairs for an answer


def test_the_critical_difference_is_that_of_the_paper():
    """Demšar 2006, table 5: q is 1.960 for 2 classifiers, 2.343 for 3, 2.569 for 4, 3.164 for 10."""
    for k, q in {2: 1.960, 3: 2.343, 4: 2.569, 10: 3.164}.items():
        assert critical_difference(k, 14) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), abs=1e-3)
    assert studentized_range.ppf(0.95, 2, math.inf) / math.sqrt(2) == pytest.approx(1.96, abs=1e-3)


def test_so_many_that_no_pair_could_be_decided_alone_are_told_apart_by_their_mean_ranks():
    rng = np.random.default_rng(0)
    truth = {f"{i}": 1.5**i for i in range(20)}
    found = compare(study(rng, truth, spread=0.01), 10, 0.05)
    assert found.difference == critical_difference(20, 10)
    assert list(found.mean_ranks) == list(truth)
    assert found.pairs["0", "19"].lower
    assert not found.pairs["0", "1"].lower
    apart = math.ceil(found.difference)  # places between two that are told apart
    assert found.ranks["0"] == (1, apart)
    assert found.ranks["10"] == (10 - apart + 2, 10 + apart)
    lost = dict(study(rng, truth, spread=0.01), x=np.full(10, math.nan))  # it always diverged, and is in no ratio
    assert compare(lost, 10, 0.05).pairs["x", "0"].higher
    assert compare(study(rng, {"a": 1.0, "b": 2.0}), 10, 0.05).difference is None


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["normal", "exponential", "t3"])
def test_by_mean_ranks_hardly_a_study_decides_a_pair_wrongly(noise):
    """Ten seeds, twenty contestants of two levels, of three spreads each."""
    rng, wrong = np.random.default_rng(1), 0
    draw = {
        "normal": lambda: rng.normal(size=10),
        "exponential": lambda: rng.exponential(size=10) - 1,
        "t3": lambda: rng.standard_t(3, 10),
    }[noise]
    level = {f"{i}": 1.0 + (i % 2) for i in range(20)}
    for _ in range(100):
        common = rng.normal(0, 0.5, 10)
        measures = {name: level[name] * np.exp(common + 0.2 * (1 + int(name) % 3) * draw()) for name in level}
        found = compare(measures, 10, 0.05)
        wrong += any((p.lower or p.higher) and level[a] == level[b] for (a, b), p in found.pairs.items())
    assert wrong <= 5


@pytest.mark.slow
def test_in_95_of_100_studies_no_pair_is_decided_wrongly_and_all_places_hold_the_true_ones():
    rng, truth, wrong, missed = np.random.default_rng(1), {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.3, "e": 1.3}, 0, 0
    for _ in range(1000):
        found = compare(study(rng, truth), 10, 0.05)
        wrong += any(
            (pair.lower and truth[a] >= truth[b]) or (pair.higher and truth[a] <= truth[b])
            for (a, b), pair in found.pairs.items()
        )
        missed += any(
            best > 1 + sum(level < truth[name] for level in truth.values())
            or worst < len(truth) - sum(level > truth[name] for level in truth.values())
            for name, (best, worst) in found.ranks.items()
        )
    assert wrong / 1000 < 0.05
    assert missed / 1000 < 0.05
