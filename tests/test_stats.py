import numpy as np
import pytest

from rnn_compare.stats import volatility


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
    assert np.isnan(volatility(np.array([1.0])))
    assert np.isnan(volatility(np.array([])))
