import math

import pytest

from rnn_compare.report.numbers import interval, number
from rnn_compare.statistics.paired import Paired


@pytest.mark.parametrize(
    ("x", "borders", "text"),
    [
        (1.00005, [1], "1.0001"),
        (0.99996, [1], "0.99996"),
        (1.0, [1], "1"),
        (1.00005, [], "1"),
        (1.02843, [1.0284, 1.0484], "1.02843"),
        (0.98765432, [1], "0.9877"),
        (1.23456e-9, [0], "1.23e-09"),
        (-1.23456e-9, [0], "-1.23e-09"),
        (math.nan, [1], "–"),
        (math.inf, [1, math.inf], "inf"),
    ],
)
def test_a_number_is_not_rounded_onto_a_border(x, borders, text):
    assert number(x, borders) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(0.5, 0.99996, "0.5 to 0.99996"), (0.5, 0.5, "all pairs alike"), (math.nan, math.nan, "no interval")],
)
def test_an_interval_in_words(low, high, text):
    assert interval(Paired(10, 0.5, low, high, 1, 0.5), [1]) == text
