"""A study's claims, and what its pairs of runs say of each: holds, does not hold, undecided."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from rnn_compare.config.checks import words
from rnn_compare.config.claims import EVERY_OTHER, SPEED
from rnn_compare.report.numbers import named
from rnn_compare.report.results import Result, Results, Speed
from rnn_compare.statistics import paired as statistics
from rnn_compare.statistics.interval import FEWEST
from rnn_compare.statistics.paired import FAILS, NOTHING, UNDECIDED, Paired
from rnn_compare.statistics.together import holm
from rnn_compare.workdir.runs import DIVERGED, FAILED, FINISHED


class Claim(NamedTuple):
    """A claim about two contestants.

    Attributes:
        title: in words.
        effect: what its effect is, a ratio.
        bounds: the effects for which it is true.
        needs: the same in words.
        measure: what of a run it is about; None for the speed, which is measured apart.
        top: the contestant whose measure is above the ratio's line.
        bottom: the one below it.
        better: the one whose measure is expected to be the lower.
        sides: what an effect below 1 and one above 1 mean, in words.
        stated: the effect that the claim says, where it gives a number.
    """

    title: str
    effect: str
    bounds: statistics.Bounds
    needs: str
    measure: str | None
    top: str
    bottom: str
    better: str
    sides: tuple[str, str]
    stated: float = math.nan


class Verdict(NamedTuple):
    """What came of a claim.

    Attributes:
        claim: the claim.
        word: `statistics.HOLDS`, `FAILS` or `UNDECIDED`.
        result: the comparison behind it, with a 95% interval.
        ratios: each pair's effect, [n].
        better: share of the pairs in which the measure of `claim.better` is the lower.
        least: the fewest pairs with which a verdict is given.
        decide: what would decide it, or that it is decided.
        left_out: pairs without both measures.
        why: in how many of them each contestant's run diverged, failed or has no such measure, in words.
        speed: the measurement behind a verdict on speed.
    """

    claim: Claim
    word: str
    result: Paired
    ratios: np.ndarray
    better: float
    least: int
    decide: str
    left_out: int = 0
    why: str = ""
    speed: Speed | None = None


def claims(results: Results) -> list[Claim]:
    """The study's claims about its contestants; one about every other is one about each."""
    found = []
    for said in results.config["claims.list"]:
        a, b = words(said["a"]), words(said["b"])
        if not {a, b} <= {*results.contestants, EVERY_OTHER}:
            continue
        others = [other for other in results.contestants if other != a] if b == EVERY_OTHER else [b]
        for other in others:
            title = said["claim"] if b != EVERY_OTHER else f"{said['claim']} ({named(other)})"
            found.append(claim_of(said | {"claim": title}, a, other))
    return found


def claim_of(said: dict[str, Any], a: str, b: str) -> Claim:
    """A claim of the config about contestants a and b."""
    relation, by, measure = said["relation"], said["by"], said["measure"]
    top, bottom, better, stated = a, b, a, math.nan
    if relation == "lower":
        bounds = 0.0, 1 - by
    elif relation == "higher":
        bounds, better = (1 + by, math.inf), b
    elif relation == "within":
        bounds = 1 / (1 + by), 1 + by
    else:  # faster
        top, bottom = b, a
        bounds = (1 + by - said["margin"], 1 + by + said["margin"]) if said["margin"] else (1 + by, math.inf)
        stated = 1 + by
    low, high = bounds
    if math.isinf(high):
        needs = f"above {low:.4g}"
    else:
        needs = f"between {low:.4f} and {high:.4f}" if low else f"below {high:.4g}"
    if measure == SPEED:
        sides = (f"the {named(bottom)} is slower", f"the {named(bottom)} is faster")
    elif measure == "volatility":
        sides = (f"the {named(top)}'s loss is less volatile", f"the {named(top)}'s loss is more volatile")
    else:
        what = "loss" if measure == "final_loss" else measure.replace("_", " ")
        sides = (f"the {named(top)}'s {what} is lower", f"the {named(top)}'s {what} is higher")
    effect = f"{measure.replace('_', ' ')}, {named(top)} / {named(bottom)}"
    runs = None if measure == SPEED else measure
    return Claim(said["claim"], effect, bounds, needs, runs, top, bottom, better, sides, stated)


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
    if verdict.word != FAILS or math.isnan(claim.stated):
        return said
    if (result.effect > 1) != (claim.stated > 1):
        return f"{said}, where the claim's is {'faster' if claim.stated > 1 else 'slower'}, by {by(claim.stated)}"
    less = abs(math.log(result.effect)) < abs(math.log(claim.stated))
    return f"{said}, but {'by less than' if less else 'not by'} the claim's {by(claim.stated)}"


def judge(results: Results, runs: list[Result]) -> list[Verdict]:
    """The verdict on each claim; the claims of a setting are judged together, see `holm`.

    Args:
        results: the study.
        runs: its runs of one setting; those that have not ended take no part.

    Returns:
        In the order of `claims`; none if none of them has both its contestants among the runs.
    """
    runs = [run for run in runs if run.ended]
    there = {run.contestant for run in runs}
    if not any({claim.top, claim.bottom} <= there for claim in claims(results)):
        return []
    judges: list[Callable[[float], Verdict]] = [
        of_speed(claim, results.speed_of(runs[0]))
        if claim.measure is None
        else of_runs(claim, runs, least_pairs(results))
        for claim in claims(results)
    ]
    levels = holm(lambda i, confidence: judges[i](confidence).word != UNDECIDED, len(judges))
    verdicts = []
    for of, level in zip(judges, levels, strict=True):
        strict, shown = of(level), of(0.95)
        verdicts.append(shown._replace(word=strict.word, decide=strict.decide))
    return verdicts


def least_pairs(results: Results) -> int:
    """The fewest pairs of runs with which a verdict is given."""
    return max(results.config["claims.seeds"], FEWEST)


def of_claim(judged: dict[str, list[Verdict]], i: int) -> dict[str, Verdict]:
    """The verdicts on claim i, by setting's label; those on speed by what it was measured at."""
    verdicts = {label: row[i] for label, row in judged.items()}
    if next(iter(verdicts.values())).claim.measure:
        return verdicts
    return {verdict.speed.label if verdict.speed else "": verdict for verdict in verdicts.values()}


def pairs(runs: Iterable[Result], a: str, b: str) -> tuple[list[Result], list[Result]]:
    """The runs of two contestants of those seeds that both have, entry i of either from the same seed."""
    runs = list(runs)
    of_a, of_b = ({run.seed: run for run in runs if run.contestant == name} for name in (a, b))
    both = [seed for seed in of_a if seed in of_b]
    return [of_a[seed] for seed in both], [of_b[seed] for seed in both]


def values(runs: Iterable[Result], measure: str, ratio: bool = True) -> np.ndarray:
    """A measure of each run, [runs]; NaN for one that did not finish, or that has none of which to take a ratio."""
    found = np.array([run.measures[measure] if run.finished else math.nan for run in runs])
    return np.where(found > 0, found, math.nan) if ratio else found  # a loss that never moves has the volatility 0


def of_runs(claim: Claim, runs: list[Result], least: int) -> Callable[[float], Verdict]:
    """The verdict by an interval's confidence, from a measure of the runs, paired by seed.

    With fewer than `least` pairs none is given.
    """
    top, bottom = pairs(runs, claim.top, claim.bottom)
    of_top, of_bottom = (values(own, claim.measure or "") for own in (top, bottom))
    ratios = of_top / of_bottom
    lost = {name: [run.about["status"] for run, value in zip(own, of, strict=True) if math.isnan(value)]
            for name, own, of in ((claim.top, top, of_top), (claim.bottom, bottom, of_bottom))}  # fmt: skip

    def verdict(confidence: float) -> Verdict:
        result = statistics.paired(of_bottom, of_top, confidence)
        lower = result.probability_better
        word = statistics.verdict(result, claim.bounds) if result.n >= least else UNDECIDED
        return Verdict(
            claim, word, result, ratios[np.isfinite(ratios)], lower if claim.better == claim.top else 1 - lower,
            least, what_decides(claim, result, word, "pairs of runs", least), len(ratios) - result.n, why(lost),
        )  # fmt: skip

    return verdict


def why(lost: dict[str, list[str]]) -> str:
    """How the runs without a measure ended, in words, by contestant."""
    reasons = {DIVERGED: "diverged", FAILED: "failed", FINISHED: "has no such measure"}
    return "; ".join(
        ", ".join(f"{named(name)} {said if i == 0 else ''}".rstrip() + f" in {own.count(status)}"
                  for i, (name, own) in enumerate(lost.items()))
        for status, said in reasons.items() if any(status in own for own in lost.values())
    )  # fmt: skip


def of_speed(claim: Claim, speed: Speed | None) -> Callable[[float], Verdict]:
    """The verdict by an interval's confidence, from a measurement in `speed.json`."""

    def verdict(confidence: float) -> Verdict:
        result, ratios = speed.compared(claim.top, claim.bottom, confidence) if speed else (NOTHING, np.array([]))
        if speed is None or not result.n:
            return Verdict(claim, UNDECIDED, NOTHING, ratios, math.nan, 2, "speed was not measured")
        word, lower = statistics.verdict(result, claim.bounds), result.probability_better
        decide = what_decides(claim, result, word, "pairs of timings")
        better = lower if claim.better == claim.top else 1 - lower
        return Verdict(claim, word, result, ratios, better, 2, decide, speed=speed)

    return verdict


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
