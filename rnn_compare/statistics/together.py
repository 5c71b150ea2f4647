"""Many statements at once: how sure each must be for all to be right together."""

from collections.abc import Callable


def holm(decided: Callable[[int, float], bool], count: int, error: float = 0.05) -> list[float]:
    """The confidence at which each of some statements is to be read, so that all together are right.

    Of k statements that are still open, those count as decided that an interval of confidence 1 − error / k decides;
    then the others are looked at with the smaller k, until none is decided any more (Holm, "A Simple Sequentially
    Rejective Multiple Test Procedure", Scandinavian Journal of Statistics 1979). With as many true borders as you
    like, the chance that any of the decisions is wrong is at most `error`, whatever the statements have to do with
    each other; no statement is decided less often than by Bonferroni's rule.

    Args:
        decided: whether an interval of such a confidence decides statement i.
        count: how many there are.
        error: the chance of any wrong decision.

    Returns:
        For each statement the confidence at which it was decided, or at which it is still open.
    """
    levels, open_ = [0.0] * count, list(range(count))
    while open_:
        confidence = 1 - error / len(open_)
        for i in open_:
            levels[i] = confidence
        left = [i for i in open_ if not decided(i, confidence)]
        if len(left) == len(open_):
            break
        open_ = left
    return levels
