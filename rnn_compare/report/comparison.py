"""All contestants of a study compared with each other, in tables."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from rnn_compare.report.claims import least_pairs, values
from rnn_compare.report.document import Block, Heading, Table, Text
from rnn_compare.report.numbers import interval, number
from rnn_compare.report.results import Result, Results, parameters
from rnn_compare.statistics.measures import interquartile_mean, median
from rnn_compare.statistics.ranking import Ranking, compare, critical_difference, mean_ranks

MATRIX = 12  # contestants of which a table shows each against each


def of_setting(results: Results, runs: list[Result]) -> Ranking | None:
    """The contestants of one setting compared; None if fewer than two have runs that have ended."""
    measures = measures_of(results, runs)
    return compare(measures, least_pairs(results), results.config["compare.margin"]) if len(measures) > 1 else None


def in_order(results: Results) -> list[str]:
    """The contestants by their mean ranks over seeds and settings, the best first; those without runs come last."""
    places = [mean_ranks(measures_of(results, runs)) for runs in results.by_setting().values()]
    last = float(len(results.contestants) + 1)
    return sorted(results.contestants, key=lambda name: sum(ranks.get(name, last) for ranks in places))


def measures_of(results: Results, runs: list[Result]) -> dict[str, np.ndarray]:
    """Contestant -> what contestants are ranked by, for each seed, of the runs of a setting that have ended."""
    there: dict[str, dict[int, Result]] = {}
    for run in runs:
        if run.ended:
            there.setdefault(run.contestant, {})[run.seed] = run
    names = [name for name in results.contestants if name in there]
    seeds = sorted({seed for own in there.values() for seed in own})
    measure = results.config["compare.measure"]
    return {
        name: np.concatenate([values([own[s]], measure) if s in own else [np.nan] for s in seeds])
        for name in names
        for own in [there[name]]
    }


def comparison(results: Results) -> Sequence[Block]:
    """Ranking and matrix of a setting; of several settings each one's ranking, then their mean ranks."""
    labels = results.labels()
    found = {labels[setting]: ranking for setting, runs in results.by_setting().items()
             if (ranking := of_setting(results, runs))}  # fmt: skip
    if not found:
        return []
    measure, margin = results.config["compare.measure"].replace("_", " "), results.config["compare.margin"]
    said: list[Block] = [Heading("All compared with each other")]
    if results.single:
        (ranking,) = found.values()
        said += [ranks(results, ranking), *([matrix(results, ranking)] if len(ranking.ranks) <= MATRIX else [])]
    else:
        said += [per_setting(found), *over_settings(results, found)]
    explained = Text(
        f"By {measure}, lower is better. Places are those that the pairs leave open: pairs are decided together, by "
        f"{decided_by(list(found.values()))}, so that in 95 of 100 studies none of a setting's is decided "
        "wrongly, and the places hold the true ones as often. As good as equal (≈): surely within "
        f"{100 * margin:g}% of each other. With fewer than {least_pairs(results)} pairs of runs nothing is decided. A "
        "run that diverged or failed ranks last of its seed and is in no ratio. Intervals are of 95% each."
    )
    return [*said, explained]


def decided_by(rankings: list[Ranking]) -> str:
    """The test by which pairs were decided, in words."""
    if difference := max((ranking.difference or 0 for ranking in rankings), default=0):
        return (
            f"mean ranks over the seeds, which differ beyond chance where they differ by {number(difference)} or more "
            "(Nemenyi's critical difference; of so many contestants so few seeds decide no pair alone)"
        )
    return "Wilcoxon's signed-rank test and Holm's rule"


def place(ranks: tuple[int, int]) -> str:
    """The places that a contestant may have, in words."""
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]} to {ranks[1]}"


def ranks(results: Results, ranking: Ranking) -> Table:
    """A row per contestant, the best first."""
    rows = []
    for name, mean_rank in ranking.mean_ranks.items():
        runs = [run for run in results.ended if run.contestant == name]
        of = values(runs, results.config["compare.measure"])
        alike = [other for other in ranking.mean_ranks if other != name and ranking.pairs[name, other].alike]
        rows.append([name, place(ranking.ranks[name]), number(mean_rank), parameters(runs),
                     f"{int(np.isfinite(of).sum())} of {len(runs)}", number(median(of)), number(interquartile_mean(of)),
                     ", ".join(alike) or "–"])  # fmt: skip
    return Table([results.kind, "place", "mean rank", "parameters", "finished", "median", "IQM", "as good as equal to"],
                 rows)  # fmt: skip


def matrix(results: Results, ranking: Ranking) -> Table:
    """Each against each: the row's measure over the column's, its interval, and how often the row is the lower."""
    names = list(ranking.mean_ranks)
    rows = []
    for first in names:
        cells = [first]
        for second in names:
            if first == second:
                cells.append("")
                continue
            pair = ranking.pairs[first, second]
            mark = "lower" if pair.lower else "higher" if pair.higher else "≈" if pair.alike else "open"
            better = f"{100 * pair.result.probability_better:.0f}%" if pair.result.n else "–"
            cells.append(f"{number(pair.result.effect, [1])} ({interval(pair.result, [1])}), {mark}, lower in {better}")
        rows.append(cells)
    return Table([f"row / column, by {results.config['compare.measure'].replace('_', ' ')}", *names], rows)


def per_setting(found: dict[str, Ranking]) -> Table:
    """A row per setting: the contestants in their order, each with the places that it may have."""
    rows = [[label, *(f"{name} ({place(ranking.ranks[name])})" for name in ranking.mean_ranks)]
            for label, ranking in found.items()]  # fmt: skip
    most = max(map(len, rows))
    return Table(["setting", *(f"{i}." for i in range(1, most))], [row + ["–"] * (most - len(row)) for row in rows])


def over_settings(results: Results, found: dict[str, Ranking]) -> Sequence[Block]:
    """Mean ranks over the settings that all contestants were compared in."""
    names = results.contestants
    whole = [ranking for ranking in found.values() if set(ranking.mean_ranks) == set(names)]
    if len(whole) < 2:
        return []
    table = rankdata([[ranking.mean_ranks[name] for name in names] for ranking in whole], axis=1)
    means = dict(sorted(zip(names, table.mean(axis=0), strict=True), key=lambda item: item[1]))
    difference = critical_difference(len(names), len(whole))
    return [
        Table([results.kind, "mean rank over settings"], [[name, number(float(mean))] for name, mean in means.items()]),
        Text(f"Mean ranks over {len(whole)} settings that differ by {number(difference)} or more differ beyond chance "
             "(Nemenyi's critical difference, 5% for all pairs together), if settings were independent: those that "
             "share seeds are not quite. The settings themselves stand above, since a mean hides them."),
    ]  # fmt: skip
