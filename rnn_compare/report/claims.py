"""The post's claims, and what a study's pairs of runs say of each: holds, does not hold, undecided."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from rnn_compare.report.results import Result, Results, Speed
from rnn_compare.statistics import paired as statistics
from rnn_compare.statistics.interval import FEWEST
from rnn_compare.statistics.paired import FAILS, UNDECIDED, Paired
from rnn_compare.workdir.runs import DIVERGED, FAILED, FINISHED

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
        sides: what an effect below 1 and one above 1 mean, in words.
        post: the effect that the post has, where it gives a number.
    """

    title: str
    effect: str
    bounds: statistics.Bounds
    needs: str
    measure: str | None
    above: str
    sides: tuple[str, str]
    post: float = math.nan


class Verdict(NamedTuple):
    """What came of a claim.

    Attributes:
        claim: the claim.
        word: `statistics.HOLDS`, `FAILS` or `UNDECIDED`.
        result: the comparison behind it.
        ratios: each pair's effect, [n].
        gru_better: share of the pairs in which the GRU's measure is the lower.
        least: the fewest pairs with which a verdict is given.
        decide: what would decide it, or that it is decided.
        left_out: pairs without both measures.
        why: in how many of them each cell's run diverged, failed or has no such measure, in words.
        speed: the measurement behind a verdict on speed.
    """

    claim: Claim
    word: str
    result: Paired
    ratios: np.ndarray
    gru_better: float
    least: int
    decide: str
    left_out: int = 0
    why: str = ""
    speed: Speed | None = None


def claims(results: Results) -> list[Claim]:
    """The post's claims, as the config wants them judged."""
    faster, margin = results.config["claims.faster"], results.config["claims.faster_margin"]
    low, high = faster - margin, faster + margin
    sides = "the GRU is slower", "the GRU is faster"
    return [
        Claim(
            "The GRU ends at the lower loss", "final loss, GRU / LSTM", (0, 1), "below 1", "final_loss", "gru",
            ("the GRU's loss is lower", "the GRU's loss is higher"),
        ),
        Claim(
            "The LSTM's loss is the more volatile", "volatility, LSTM / GRU", (1, math.inf), "above 1",
            "volatility", "lstm", ("the LSTM's loss is less volatile", "the LSTM's loss is more volatile"),
        ),
        Claim(
            f"The GRU trains {by(faster)} {'faster' if faster >= 1 else 'slower'}", "seconds per epoch, LSTM / GRU",
            (low, high), f"between {low:.4f} and {high:.4f}", None, "lstm", sides, faster,
        ),
    ]  # fmt: skip


def by(effect: float) -> str:
    """How far a ratio is from 1, in words."""
    return f"{100 * abs(effect - 1):.3g}%"


def direction(verdict: Verdict) -> str:
    """On which side of 1 an effect is and by how much, in words, whatever the verdict on the claim is."""
    claim, result = verdict.claim, verdict.result
    if not result.n or result.effect == 1:
        return "no difference was found" if result.n else "nothing was compared"
    said = f"{claim.sides[result.effect > 1]}, by {by(result.effect)}"
    if not (result.high < 1 or result.low > 1):
        said += ", which may be chance"
    if verdict.word != FAILS or math.isnan(claim.post):
        return said
    if (result.effect > 1) != (claim.post > 1):
        return f"{said}, where the post's is {'faster' if claim.post > 1 else 'slower'}, by {by(claim.post)}"
    less = abs(math.log(result.effect)) < abs(math.log(claim.post))
    return f"{said}, but {'by less than' if less else 'not by'} the post's {by(claim.post)}"


def judge(results: Results, runs: list[Result]) -> list[Verdict]:
    """The verdict on each claim.

    Args:
        results: the study.
        runs: its runs of one setting; those that have not ended take no part.

    Returns:
        In the order of `claims`; none if not both cells are among the runs.
    """
    runs = [run for run in runs if run.ended]
    if not {"lstm", "gru"} <= {run.cell for run in runs}:
        return []
    return [
        of_speed(claim, results.speeds.get(runs[0].backend))
        if claim.measure is None
        else of_runs(claim, runs, least_pairs(results))
        for claim in claims(results)
    ]


def least_pairs(results: Results) -> int:
    """The fewest pairs of runs with which a verdict is given."""
    return max(results.config["claims.seeds"], FEWEST)


def of_claim(judged: dict[str, list[Verdict]], i: int) -> dict[str, Verdict]:
    """The verdicts on claim i, by setting's label; those on speed by backend, for which it is measured once."""
    verdicts = {label: row[i] for label, row in judged.items()}
    if next(iter(verdicts.values())).claim.measure:
        return verdicts
    return {verdict.speed.about["train.backend"] if verdict.speed else "": verdict for verdict in verdicts.values()}


def pairs(runs: Iterable[Result]) -> tuple[list[Result], list[Result]]:
    """The LSTMs and the GRUs of those seeds that have both, entry i of either from the same seed."""
    lstm, gru = ({run.seed: run for run in runs if run.cell == cell} for cell in ("lstm", "gru"))
    both = [seed for seed in lstm if seed in gru]
    return [lstm[seed] for seed in both], [gru[seed] for seed in both]


def values(runs: Iterable[Result], measure: str, ratio: bool = True) -> np.ndarray:
    """A measure of each run, [runs]; NaN for one that did not finish, or that has none of which to take a ratio."""
    found = np.array([run.measures[measure] if run.finished else math.nan for run in runs])
    return np.where(found > 0, found, math.nan) if ratio else found  # a loss that never moves has the volatility 0


def of_runs(claim: Claim, runs: list[Result], least: int) -> Verdict:
    """The verdict from a measure of the runs, paired by seed; with fewer than `least` pairs none is given."""
    lstm, gru = pairs(runs)
    of_lstm, of_gru = (values(cell, claim.measure or "") for cell in (lstm, gru))
    a, b = (of_lstm, of_gru) if claim.above == "gru" else (of_gru, of_lstm)
    result, ratios = statistics.paired(a, b), b / a
    better = result.probability_better if claim.above == "gru" else 1 - result.probability_better
    word = statistics.verdict(result, claim.bounds) if result.n >= least else UNDECIDED
    decide = what_decides(claim, result, word, "pairs of runs", least)
    lost = [[run.about["status"] for run, value in zip(cell, of, strict=True) if math.isnan(value)]
            for cell, of in ((lstm, of_lstm), (gru, of_gru))]  # fmt: skip
    return Verdict(
        claim, word, result, ratios[np.isfinite(ratios)], better, least, decide, len(a) - result.n, why(*lost)
    )


def why(lstm: list[str], gru: list[str]) -> str:
    """How the runs without a measure ended, in words."""
    reasons = {DIVERGED: "diverged", FAILED: "failed", FINISHED: "has no such measure"}
    return "; ".join(f"LSTM {words} in {lstm.count(status)}, GRU in {gru.count(status)}"
                     for status, words in reasons.items() if status in lstm + gru)  # fmt: skip


def of_speed(claim: Claim, speed: Speed | None) -> Verdict:
    """The verdict from a measurement in `speed.json`."""
    if speed is None:
        return Verdict(claim, UNDECIDED, NOTHING, np.array([]), math.nan, 2, "speed was not measured")
    result, word = speed.result, statistics.verdict(speed.result, claim.bounds)
    decide = what_decides(claim, result, word, "pairs of timings")
    return Verdict(claim, word, result, speed.ratios, 1 - result.probability_better, 2, decide, speed=speed)


def what_decides(claim: Claim, result: Paired, word: str, unit: str, least: int = 2) -> str:
    """What would decide a claim, in words."""
    if word != UNDECIDED:
        return f"it is decided, by {result.n} {unit}"
    needed = statistics.seeds_to_decide(result, claim.bounds)
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
