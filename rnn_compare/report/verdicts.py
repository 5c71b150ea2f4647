"""The verdicts in words: in a line, on a card, in a table."""

from collections.abc import Iterable, Sequence

from rnn_compare.report.claims import Verdict, direction, least_pairs, of_claim
from rnn_compare.report.document import Block, Card, Heading, Row, Table, Text
from rnn_compare.report.numbers import better, interval, named, number
from rnn_compare.report.results import Results, Speed
from rnn_compare.statistics.interval import FEWEST
from rnn_compare.statistics.paired import FAILS, HOLDS, UNDECIDED

Judged = dict[str, list[Verdict]]  # a setting's label -> the verdict on each claim
TRUST = (
    "In simulations, 92 to 98 in a hundred such intervals held the true effect. Where it lay on the border of a claim, "
    "2 to 7 in a hundred studies of 10 pairs gave a verdict all the same, and 4 to 10 if those without one were looked "
    f"at again with 14. Of fewer than {FEWEST} pairs of runs, or where nearly all are alike, there is no interval: "
    "none of a length worth having would hold the effect so often."
)
MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}


def verdicts(results: Results, judged: Judged) -> Sequence[Block]:
    """The claims judged: a card each, or a table each where there are several settings; nothing without claims."""
    if not judged:
        if not results.config["claims.list"]:
            return [Text("The study states no claims (claims.list), so there are no verdicts.")]
        return [Text("No claim can be judged: that needs runs of both its contestants that have ended and differ in no "
                     "other axis.")]  # fmt: skip
    first = next(iter(judged.values()))
    rule = Text(
        "The rule was fixed in the config: a claim holds if the interval of its effect lies within what it says, "
        "does not hold if it lies outside, and is undecided otherwise, or with fewer than "
        f"{least_pairs(results)} pairs of runs for a claim about runs. {together(len(first))}Runs are paired by their "
        "seed, which draws the same data for all contestants. Pairs with a run that diverged or failed are left out, "
        "which is not at random. To add seeds, or to raise speed.limit, until a verdict comes makes a wrong one more "
        f"likely. {TRUST}"
    )
    if results.single:
        return [Row([card(verdict) for verdict in first]), rule]
    said: list[Block] = [
        Text(f"Of {len(judged)} settings: {' '.join(f'“{title}” {counts}.' for title, counts in tallies(judged))} "
             "There is no verdict over all settings.")]  # fmt: skip
    for i, verdict in enumerate(first):
        found = of_claim(judged, i)
        if verdict.claim.measure:
            said += [Heading(verdict.claim.title, 3), verdict_table(found)]
        else:
            said += [Text("Speed is measured at each setting that changes it, such as units, window and backend."),
                     Row([card(verdict) for verdict in found.values()])]  # fmt: skip
    return [*said, rule]


def together(count: int) -> str:
    """How so many claims of a setting are judged together."""
    if count < 2:
        return ""
    return (
        f"The {count} claims of a setting are judged together: the intervals shown are of 95% each, those that decide "
        "are longer by as much as keeps the chance that any verdict is wrong at 5% (Holm's rule). "
    )


def tallies(judged: Judged) -> Iterable[tuple[str, str]]:
    """Each claim about runs, and in how many settings it has which verdict."""
    for i, verdict in enumerate(next(iter(judged.values()))):
        if verdict.claim.measure:
            found = [row[i].word for row in judged.values()]
            yield verdict.claim.title, ", ".join(f"{word} in {found.count(word)}" for word in MARKS)


def verdict_table(verdicts: dict[str, Verdict]) -> Table:
    """The verdicts on a claim, a row per setting."""
    claim = next(iter(verdicts.values())).claim
    rows: list[list[str]] = []
    for label, verdict in verdicts.items():
        result = verdict.result
        rows.append([label, f"{MARKS[verdict.word]} {verdict.word}", direction(verdict),
                     number(result.effect, claim.bounds), interval(result, claim.bounds), claim.needs, str(result.n),
                     f"{verdict.left_out} ({verdict.why})" if verdict.left_out else "0",
                     better(result.n, verdict.better), number(result.p_value), verdict.decide])  # fmt: skip
    return Table(["setting", "verdict", "in words", claim.effect, "95% interval", "the claim needs", "pairs",
                  "left out", f"{named(claim.better)} better", "Wilcoxon p", "what would decide"], rows)  # fmt: skip


def in_short(verdict: Verdict) -> str:
    """A verdict in a line."""
    result, bounds = verdict.result, verdict.claim.bounds
    found = f"{number(result.effect, bounds)}, {interval(result, bounds)}, n = {result.n}; " if result.n else ""
    on = f"; {measured_on(verdict.speed)}" if verdict.speed else ""
    said = f"; {direction(verdict)}" if result.n else ""
    return (f"{MARKS[verdict.word]} {verdict.word} ({found}the claim needs {verdict.claim.needs}){said}; "
            f"{verdict.decide}{on}")  # fmt: skip


def measured_on(speed: Speed) -> str:
    """What a measurement of the speed was made on; versions before noted less of the machine."""
    about = speed.about
    processor = f", processor {about['cpu']}" if "cpu" in about else ""
    machine = f", {about['cores']} cores of it, on {about['host']}" if "host" in about else ""
    return f"backend {about['backend']}, device {about['device']}{processor}{machine}"


def card(verdict: Verdict) -> Card:
    """A verdict with all that it rests on."""
    claim, result = verdict.claim, verdict.result
    facts = {
        "in words": direction(verdict),
        claim.effect: number(result.effect, claim.bounds),
        "95% interval": interval(result, claim.bounds),
        "the claim needs": claim.needs,
        "pairs": f"{result.n}; {verdict.left_out} left out ({verdict.why})" if verdict.left_out else str(result.n),
        f"{named(claim.better)} better": f"in {better(result.n, verdict.better)} of the pairs" if result.n else "–",
        "Wilcoxon p": number(result.p_value),
        "what would decide": verdict.decide,
    }
    if verdict.speed:
        facts["measured on"] = measured_on(verdict.speed)
    if claim.measure is None:
        facts["note"] = "for this machine and backend; on others it is another"
    return Card(verdict.word, MARKS[verdict.word], claim.title, facts)
