import math

import numpy as np
import pytest
from scipy.stats import t

from rnn_compare.statistics.interval import FEWEST, SHARE, mean_interval

POPULATIONS = {  # of mean 0
    "normal": lambda rng, n: rng.standard_normal(n),
    "15% outliers": lambda rng, n: rng.standard_normal(n) * np.where(rng.random(n) < 0.15, 5, 1),
    "exponential": lambda rng, n: rng.standard_exponential(n) - 1,
    "log-normal": lambda rng, n: rng.lognormal(size=n) - math.exp(0.5),
}
LEAST = 0.92


def coverage(population, n, samples):
    rng = np.random.default_rng(7)
    ends = (mean_interval(POPULATIONS[population](rng, n)) for _ in range(samples))
    return np.mean([low < 0 < high for low, high in ends])


def check_coverage(population, n, samples):
    """That it is no more than three standard errors below what every interval has."""
    assert coverage(population, n, samples) > LEAST - 3 * math.sqrt(LEAST * (1 - LEAST) / samples)


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [FEWEST, pytest.param(10, marks=pytest.mark.slow)])
def test_what_is_called_a_95_percent_interval_holds_the_mean_that_often(population, n):
    check_coverage(population, n, 600)


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize("n", [FEWEST, 7, 8, 10, 12, 14, 20, 30])
def test_coverage(population, n):
    check_coverage(population, n, 5000)


@pytest.mark.parametrize("n", range(FEWEST))
def test_of_fewer_values_there_is_none(n):
    assert np.isnan(mean_interval(np.arange(float(n)))).all()


def all_resamples(x):
    """Student's ratio of each of the n^n resamples of x, [n], sorted."""
    samples = x[np.indices((len(x),) * len(x)).reshape(len(x), -1)]
    with np.errstate(divide="ignore"):
        return np.sort((samples.mean(0) - x.mean()) / (samples.std(0, ddof=1) / math.sqrt(len(x))))


@pytest.mark.parametrize("confidence", [0.8, 0.9])
def test_it_spans_students_and_the_bootstrap_t_of_all_resamples(confidence):
    x = np.array([-0.5, -0.35, -0.2, -0.1, 0.2, 0.7, 1.9])  # skewed, so that the bootstrap matters
    error, tail = x.std(ddof=1) / math.sqrt(7), (1 - confidence) / 2
    ratios, student = all_resamples(x), t.ppf(1 - tail, 6)
    below, above = np.quantile(ratios, [1 - SHARE * tail, SHARE * tail]) * [1, -1]
    assert below < student < above
    low, high = mean_interval(x, confidence)
    assert low == pytest.approx(x.mean() - student * error)
    # Of 9,999 resamples, the share above an end is within a tenth of what it should be.
    near = np.quantile(ratios, [1.1 * SHARE * tail, 0.9 * SHARE * tail])
    assert x.mean() - near[0] * error < high < x.mean() - near[1] * error
    assert mean_interval(-x, confidence) == (-high, -low)  # though −0.2 and 0.2 are as far from 0


def test_neither_order_nor_scale_matters():
    x = np.random.default_rng(0).lognormal(size=10)
    low, high = mean_interval(x)
    assert low < x.mean() < high
    assert mean_interval(x[::-1]) == (low, high)
    assert mean_interval(1e-9 * x) == pytest.approx((1e-9 * low, 1e-9 * high))


def test_it_is_the_same_on_every_machine():
    assert mean_interval(np.array([0.0, 1, 2, 3, 5, 8, 13])) == pytest.approx(
        (0.3380608385331614, 15.877494680030761), rel=1e-9
    )


def test_values_that_are_alike():
    assert mean_interval(np.zeros(6)) == (0, 0)
    assert mean_interval(np.full(10, 0.1)) == pytest.approx((0.1, 0.1))
    assert mean_interval(np.full(10, 0.1) + 1e-17 * np.arange(10)) == pytest.approx((0.1, 0.1))
    assert np.isnan(mean_interval(np.array([0.0] * 9 + [1.0]))).all()  # no resample says how far up the mean may lie
    assert np.isfinite(mean_interval(np.array([0.0] * 5 + [1.0] * 5))).all()
