"""The post's claims, and what a study's pairs of runs say of each: holds, does not hold, undecided."""

import math
from typing import NamedTuple

import numpy as np

from rnn_compare import stats
from rnn_compare.report.results import Result, Results
from rnn_compare.stats import Paired

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "undecided"
NOTHING = Paired(0, *[math.nan] * 5)


class Claim(NamedTuple):
    """A claim of the post.

    Attributes:
        title: in words.
        effect: what its effect is, a ratio.
        bounds: the effects for which it is true.
        needs: the same in words.
        measure: what of a run it is about; None for the speed, which is measured apart.
        above: the cell whose measure is above the ratio's line.
    """

    title: str
    effect: str
    bounds: stats.Bounds
    needs: str
    measure: str | None
    above: str


class Verdict(NamedTuple):
    """What came of a claim.

    Attributes:
        claim: the claim.
        word: `HOLDS`, `FAILS` or `UNDECIDED`.
        result: the comparison behind it.
        ratios: each pair's effect, [n].
        gru_better: share of the pairs in which the GRU's measure is the lower.
        left_out: pairs without both measures, because a run diverged or failed.
        decide: what would decide it, or that it is decided.
    """

    claim: Claim
    word: str
    result: Paired
    ratios: np.ndarray
    gru_better: float
    left_out: int
    decide: str


def claims(results: Results) -> list[Claim]:
    """The post's claims, as the config wants them judged."""
    faster, margin = results.config["claims.faster"], results.config["claims.faster_margin"]
    low, high = faster - margin, faster + margin
    percent = f"{100 * (faster - 1):.3g}% faster" if faster >= 1 else f"{100 * (1 - faster):.3g}% slower"
    return [
        Claim("The GRU ends at the lower loss", "final loss, GRU / LSTM", (0, 1), "below 1", "final_loss", "gru"),
        Claim(
            "The LSTM's loss is the more volatile", "volatility, LSTM / GRU", (1, math.inf), "above 1",
            "volatility", "lstm",
        ),
        Claim(
            f"The GRU trains {percent}", "seconds per epoch, LSTM / GRU", (low, high),
            f"between {low:.4f} and {high:.4f}", None, "lstm",
        ),
    ]  # fmt: skip


def judge(results: Results, runs: list[Result]) -> list[Verdict]:
    """The verdict on each claim.

    Args:
        results: the study.
        runs: its runs of one setting.

    Returns:
        In the order of `claims`; none if not both cells are among the runs.
    """
    if not {"lstm", "gru"} <= {run.cell for run in runs}:
        return []
    return [
        of_speed(claim, results) if claim.measure is None else of_runs(claim, runs, results.config["claims.seeds"])
        for claim in claims(results)
    ]


def of_runs(claim: Claim, runs: list[Result], least: int) -> Verdict:
    """The verdict from a measure of the runs, paired by seed; with fewer than `least` pairs none is given."""
    values: dict[int, dict[str, float]] = {}
    for run in runs:
        value = run.measures[claim.measure or ""] if run.finished else math.nan
        # A loss that never moves has no ratio to another.
        values.setdefault(run.seed, {})[run.cell] = value if value > 0 else math.nan
    both = [pair for pair in values.values() if {"lstm", "gru"} <= pair.keys()]
    below = "lstm" if claim.above == "gru" else "gru"
    a, b = (np.array([pair[cell] for pair in both]) for cell in (below, claim.above))
    result, ratios = stats.paired(a, b), b / a
    better = result.probability_better if claim.above == "gru" else 1 - result.probability_better
    word = stats.verdict(result, claim.bounds) if result.n >= least else UNDECIDED
    decide = what_decides(claim, result, word, "pairs of runs", least)
    return Verdict(claim, word, result, ratios[np.isfinite(ratios)], better, len(both) - result.n, decide)


def of_speed(claim: Claim, results: Results) -> Verdict:
    """The verdict from `speed.json`."""
    if results.speed is None:
        return Verdict(claim, UNDECIDED, NOTHING, np.array([]), math.nan, 0, "speed was not measured")
    result, ratios = results.speed.result, results.speed.ratios
    word = stats.verdict(result, claim.bounds)
    decide = what_decides(claim, result, word, "pairs of timings")
    return Verdict(claim, word, result, ratios, 1 - result.probability_better, 0, decide)


def what_decides(claim: Claim, result: Paired, word: str, unit: str, least: int = 2) -> str:
    """What would decide a claim, in words."""
    if word != UNDECIDED:
        return f"it is decided, by {result.n} {unit}"
    needed = stats.seeds_to_decide(result, claim.bounds)
    if result.n < least:
        more = f"at least {max(least, round_up(needed)) if math.isfinite(needed) else least} {unit}"
        return f"too few {unit} ({result.n}): {more}"
    if math.isnan(needed):
        return f"more {unit}: there is no interval"
    if math.isinf(needed):
        return f"no number of {unit}, if the effect stays on the claim's border"
    return f"about {round_up(needed)} {unit}, if the effect stays where it is"


def round_up(n: float) -> int:
    """A number of seeds with no more than two digits that matter, not below n."""
    unit = 10 ** max(0, math.floor(math.log10(n)) - 1)
    return math.ceil(n / unit) * unit
