"""Numbers as a report writes them."""

import math
from collections.abc import Iterable

from rnn_compare.statistics.paired import Paired


def number(x: float, borders: Iterable[float] = ()) -> str:
    """A number with four digits that matter, or as many more as keep it on its side of the borders; a dash for NaN."""
    if math.isnan(x):
        return "–"
    for digits in range(4, 18):
        text = f"{x:.{digits}g}" if abs(x) >= 1e-4 or x == 0 else f"{x:.{digits - 2}e}"
        if all((float(text) < border, float(text) > border) == (x < border, x > border) for border in borders):
            break
    return text


def interval(result: Paired, borders: Iterable[float]) -> str:
    """An effect's interval, on the same side of each border as it is."""
    if math.isnan(result.low):
        return "no interval"
    if result.low == result.high:
        return "all pairs alike"
    return f"{number(result.low, borders)} to {number(result.high, borders)}"


def named(contestant: str) -> str:
    """A contestant as a sentence calls it: LSTM and GRU are acronyms, other names are taken as they are."""
    return contestant.upper() if contestant in ("lstm", "gru") else contestant


def better(n: int, share: float) -> str:
    """The share of n pairs in which one is better."""
    return f"{100 * share:.0f}%" if n else "–"
