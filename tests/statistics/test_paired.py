import itertools
import math

import numpy as np
import pytest
from scipy.stats import wilcoxon

from rnn_compare.statistics.interval import FEWEST, mean_interval
from rnn_compare.statistics.measures import (
    area,
    epochs_to_level,
    interquartile_mean,
    measures,
    median,
    spikes,
    volatility,
)
from rnn_compare.statistics.paired import Paired, paired, seeds_to_decide, verdict

LOWER = (0.0, 1.0)


def test_volatility_of_known_curves():
    decay = np.exp(-0.01 * np.arange(100))
    assert volatility(decay) == pytest.approx(0.01)
    assert volatility(7 * decay) == pytest.approx(0.01)  # relative: the level does not matter
    flip = np.where(np.arange(100) % 2, 2.0, 1.0)
    assert volatility(flip) == pytest.approx(np.log(2))


def test_only_the_second_half_counts():
    rough_then_flat = np.concatenate([np.where(np.arange(50) % 2, 2.0, 1.0), np.ones(50)])
    assert volatility(rough_then_flat) == 0


def test_too_short_is_nan():
    for curve in (np.array([1.0]), np.array([])):
        assert np.isnan(volatility(curve))
        assert np.isnan(area(curve))


def test_area_is_the_mean_height():
    assert area(np.linspace(4, 1, 31)) == pytest.approx(2.5)
    assert area(np.array([4.0, 2.0, 2.0])) == 2.5  # the mean of the epochs would be 8/3
    times = np.linspace(0, 2, 2001)
    assert area(np.exp(-times)) == pytest.approx((1 - np.exp(-2)) / 2, rel=1e-6)


def test_epochs_to_level_is_the_first_epoch_at_or_under_it():
    curve = np.array([4.0, np.nan, 2.0, 1.0, 3.0, 0.5])
    assert epochs_to_level(curve, 4.0) == 0
    assert epochs_to_level(curve, 2.5) == 2
    assert epochs_to_level(curve, 1.0) == 3
    assert np.isnan(epochs_to_level(curve, 0.4))


def test_a_spike_lasts_until_the_loss_is_back():
    #                  descent      one spike      back  under 1.1  another, unfinished
    curve = np.array([4.0, 2.0, 1.0, 1.2, 2.0, 1.5, 1.0, 1.09, 0.5, 0.6, 0.75])
    np.testing.assert_allclose(spikes(curve), [np.log(2), np.log(1.5)])
    np.testing.assert_allclose(spikes(10 * curve), spikes(curve))
    np.testing.assert_allclose(spikes(curve, factor=1.9), [np.log(2)])
    assert len(spikes(np.geomspace(4, 0.3, 100))) == 0


def test_measures_of_a_known_curve():
    steps = np.full(40, 2.0)
    steps[20:] = 0.5
    steps[[25, 34]] = 0.75, 0.25  # a spike; then what follows lies above the lowest loss, to the end
    expected = {
        "final_loss": 0.5,
        "last_loss": 0.5,
        "best_loss": 0.25,
        "area": (steps.sum() - 1.25) / 39,
        "epochs_to_level": 20,
        "volatility": 2 * (np.log(1.5) + np.log(2)) / 19,
        "spikes": 2,
        "spike_size": (np.log(1.5) + np.log(2)) / 2,
    }
    assert measures(steps) == pytest.approx(expected)
    assert measures(steps, level=0.3)["epochs_to_level"] == 34
    diverged = np.concatenate([steps, [np.nan, np.inf, np.nan]])
    assert measures(diverged) == measures(steps)
    assert measures(np.concatenate([[np.nan], steps]))["epochs_to_level"] == 21


def test_final_loss_is_the_median_of_ten_epochs():
    curve = np.concatenate([np.full(50, 4.0), [1, 2, 3, 4, 5, 6, 7, 8, 9, 100]])
    assert measures(curve)["final_loss"] == 5.5
    assert measures(curve[:52])["final_loss"] == 4


def test_measures_of_nothing_are_nan():
    nothing = measures(np.array([]))
    assert list(nothing) == list(measures(np.ones(20)))
    assert all(np.isnan(value) for value in nothing.values())
    assert np.isnan(measures(np.array([np.nan, np.inf]))["spikes"])
    assert measures(np.full(20, 2.0))["spike_size"] == 0


@pytest.mark.parametrize(("seeds", "cut"), [(1, 0), (3, 0), (4, 1), (10, 2), (16, 4)])
def test_interquartile_mean_is_the_mean_of_the_middle(seeds, cut):
    values = np.random.default_rng(seeds).lognormal(size=seeds)
    assert interquartile_mean(values) == pytest.approx(np.mean(np.sort(values)[cut : seeds - cut]))
    if cut:
        values[values.argmax()] = 1e9
        assert interquartile_mean(values) < 10


def test_middles_leave_nans_out():
    values = np.array([3.0, np.nan, 1.0, 2.0, 9.0])
    assert median(values) == 2.5
    assert interquartile_mean(values) == 2.5
    for middle in (median, interquartile_mean):
        assert np.isnan(middle(np.array([])))
        assert np.isnan(middle(np.array([np.nan])))


def seeds(n, seed=0):
    """Two positive measures, [n] each, that have their seeds in common."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=n)
    return np.exp(shared + rng.exponential(size=n)), np.exp(shared + rng.exponential(size=n) - 0.3)


@pytest.mark.parametrize("ratio", [True, False])
def test_the_interval_is_that_of_the_mean_difference_of_logarithms_or_values(ratio):
    a, b = seeds(9)
    result = paired(a, b, 0.9, ratio)
    difference = np.log(b / a) if ratio else b - a
    scale = np.log if ratio else np.asarray
    assert scale(result.effect) == pytest.approx(difference.mean())
    np.testing.assert_allclose(scale([result.low, result.high]), mean_interval(difference, 0.9), rtol=1e-9)


@pytest.mark.parametrize("n", [2, 5, 10, 13])
@pytest.mark.parametrize("step", [0.0, 0.5])
def test_p_value_of_few_pairs_is_scipys_with_and_without_ties_and_zeros(n, step):
    x = np.random.default_rng(n).normal(0.5, 1, n)
    x = np.round(x / step) * step if step else x
    x[0] = 1.0
    assert paired(np.zeros(n), x, ratio=False).p_value == pytest.approx(wilcoxon(x).pvalue)


def test_p_value_counts_all_signs():
    a, b = seeds(9)
    difference = np.log(b / a)
    ranks = np.abs(difference).argsort().argsort() + 1
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product((-1, 1), repeat=9)])
    expected = np.mean(np.abs(sums) >= abs(np.dot(ranks, np.sign(difference))))
    assert paired(a, b).p_value == pytest.approx(expected)


def test_probability_better_counts_ties_half():
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 2.0, 1.0, 5.0])
    assert paired(a, b).probability_better == 0.625
    assert paired(b, a).probability_better == 0.375


@pytest.mark.parametrize("n", [2, 6, 10])
def test_swapping_the_cells_inverts_the_effect(n):
    a, b = seeds(n)
    there, back = paired(a, b), paired(b, a)
    np.testing.assert_allclose([1 / back.effect, 1 / back.high, 1 / back.low], there[1:4], rtol=1e-9)
    there, back = paired(a, b, ratio=False), paired(b, a, ratio=False)
    np.testing.assert_allclose([-back.effect, -back.high, -back.low], there[1:4], rtol=1e-9)
    assert there.p_value == back.p_value


def test_ratios_have_no_unit_and_seeds_no_order():
    a, b = seeds(10)
    result = paired(a, b)
    assert result.low < result.effect < result.high
    unit = np.geomspace(1e-3, 1e3, 10)  # even one for each seed
    np.testing.assert_allclose(paired(unit * a, unit * b), result, rtol=1e-9)
    order = np.random.default_rng(1).permutation(10)
    assert paired(a[order], b[order]) == result
    assert paired(a, b) == result


def test_more_confidence_is_wider():
    a, b = seeds(10)
    narrow, wide = paired(a, b, confidence=0.8), paired(a, b, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_a_pair_with_a_diverged_run_is_left_out():
    a, b = seeds(6)
    gaps_a = np.concatenate([[np.nan, 1.0], a, [np.inf]])
    gaps_b = np.concatenate([[1.0, np.nan], b, [1.0]])
    assert paired(gaps_a, gaps_b) == paired(a, b)
    assert paired(a, b).n == 6


@pytest.mark.parametrize("n", [6, 10, 50])
@pytest.mark.parametrize("factor", [1.0, 1.0001, 2.0, 1 / 3])
def test_a_constant_effect_has_an_interval_without_width(n, factor):
    a = seeds(n)[0]
    result = paired(a, factor * a)
    np.testing.assert_allclose(result[1:4], factor, rtol=1e-9)
    assert (result.p_value == 1) == (factor == 1)


def test_too_few_pairs():
    five = paired(*seeds(FEWEST - 1))
    assert five.n == FEWEST - 1
    assert 0 < five.p_value <= 1
    assert np.isnan([five.low, five.high]).all()
    one = paired(np.array([2.0]), np.array([1.0]))
    assert one[:2] == (1, 0.5)
    assert one.probability_better == 1
    assert np.isnan([one.low, one.high, one.p_value]).all()
    none = paired(np.array([np.nan]), np.array([1.0]))
    assert none.n == 0
    assert np.isnan(none[1:]).all()
    for few in (five, one, none):
        assert verdict(few, LOWER) == "undecided"
        assert np.isnan(seeds_to_decide(few, LOWER))


def test_an_interval_ends_where_a_float_does():
    """Of pairs that are alike but for one, and then by far, the interval says what can be said."""
    a = np.exp(1e-4 * np.arange(10.0))
    result = paired(a, a * np.exp([1e-6 * i for i in range(9)] + [100]))
    assert 0 < result.low < result.effect < result.high < math.inf
    assert math.isfinite(seeds_to_decide(result, LOWER))


def test_counts_are_compared_by_their_difference():
    a, b = np.array([4.0, 0.0, 7.0, 3.0]), np.array([1.0, 0.0, 2.0, 0.0])
    assert paired(a, b, ratio=False).effect == -2.75
    with pytest.raises(ValueError, match="positive"):
        paired(a, b)


def test_pairs_that_do_not_match():
    with pytest.raises(ValueError, match=r"one length, not \(1,\) and \(3,\)"):
        paired(np.ones(1), np.ones(3))


def between(low, high, effect=math.nan, n=10):
    return Paired(n, effect, low, high, 0.5, 0.5)


@pytest.mark.parametrize(
    ("low", "high", "claim", "expected"),
    [
        (0.5, 0.9, LOWER, "holds"),
        (0.5, 1.1, LOWER, "undecided"),
        (1.1, 1.5, LOWER, "does not hold"),
        (1.0, 1.0, LOWER, "does not hold"),  # equal is not lower
        (1.0, 1.0, (1.0, math.inf), "does not hold"),  # nor higher
        (1.0, 1.5, (1.0, math.inf), "undecided"),
        (-3.0, -1.0, (-math.inf, 0.0), "holds"),
        (1.03, 1.04, (1.0284, 1.0484), "holds"),
        (1.02, 1.04, (1.0284, 1.0484), "undecided"),
        (1.00, 1.10, (1.0284, 1.0484), "undecided"),
        (1.05, 1.10, (1.0284, 1.0484), "does not hold"),
        (0.90, 1.02, (1.0284, 1.0484), "does not hold"),
        (math.nan, math.nan, LOWER, "undecided"),
    ],
)
def test_verdict(low, high, claim, expected):
    assert verdict(between(low, high), claim) == expected


def test_seeds_to_decide_goes_with_the_square_of_logarithms():
    # In units of log 2: the interval is twice as wide as it may be, so four times the seeds.
    assert seeds_to_decide(between(0.25, 2, effect=0.5), LOWER) == 40  # the upper end is at 1 and may be at 0
    assert seeds_to_decide(between(1 / 8, 2, effect=0.5), LOWER) == 40
    assert seeds_to_decide(between(0.5, 8, effect=2), LOWER) == 40
    assert seeds_to_decide(between(0.25, 4, effect=2), (1, math.inf)) == 90
    assert seeds_to_decide(between(0.25, 8, effect=2), (1, 16)) == 90  # the nearer border decides
    assert seeds_to_decide(between(0.25, 4, effect=1), (2, 4)) == 40
    assert seeds_to_decide(between(0.5, 0.9, effect=0.7), LOWER) == 10  # decided already
    assert seeds_to_decide(between(0.9, 1.1, effect=1.0), LOWER) == math.inf
    assert seeds_to_decide(between(0.8, 1.0, effect=0.9), LOWER) == 11  # at the border itself: one more


def test_seeds_to_decide_of_repeated_seeds():
    """Repeating the seeds k times keeps the effect and shrinks the interval as 1 / √k."""
    a = np.ones(20)
    b = np.exp(np.random.default_rng(3).normal(-0.3, 1.5, 20))  # from a hundredth to tens: only logarithms are alike
    result = paired(a, b)
    assert verdict(result, LOWER) == "undecided"
    needed = seeds_to_decide(result, LOWER) / 20
    verdicts = [verdict(paired(np.tile(a, k), np.tile(b, k)), LOWER) for k in range(1, 20)]
    decided = verdicts.index("holds") + 1
    assert 0.8 * needed < decided < 1.25 * needed + 1
    assert decided > 2
