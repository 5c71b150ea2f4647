"""What the report says, block by block."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from rnn_compare.console.terminal import duration
from rnn_compare.report.claims import of_claim, pairs, values
from rnn_compare.report.comparison import comparison
from rnn_compare.report.document import Block, Contents, Heading, Link, Picture, Table, Text
from rnn_compare.report.numbers import better, interval, named, number
from rnn_compare.report.reproduction import reproduction
from rnn_compare.report.results import Result, Results, parameters
from rnn_compare.report.verdicts import Judged, in_short, measured_on, tallies, verdicts
from rnn_compare.statistics.interval import mean_interval
from rnn_compare.statistics.measures import interquartile_mean, median
from rnn_compare.statistics.paired import paired

RATIOS = ("final_loss", "last_loss", "best_loss", "area", "held_out_loss", "volatility")
DIFFERENCES = ("spikes", "spike_size", "epochs_to_level")  # of measures that can be 0
PROBLEMS = 20  # that are listed
MEASURED = (
    "Final loss: the median of the last 10 epochs; volatility: the mean change of log loss per epoch, up or down, over "
    "the second half. Both are what the verdicts compare; lower is better."
)


def blocks(title: str, results: Results, judged: Judged, pictures: dict[str, Picture]) -> Sequence[Block]:
    """The whole report; its first block is the title."""
    body = [
        *problems(results),
        Heading("Verdicts"),
        *verdicts(results, judged),
        *shown("Loss curves", pictures, "loss", "loss_in_time"),
        *shown("Final loss and volatility", pictures, "distributions", "last_loss", "volatility"),
        *distributions(results),
        *shown("Pairs of runs", pictures, "differences"),
        *comparison(results),
        *([pictures["matrix"]] if "matrix" in pictures else []),
        *every_measure(results),
        *shown("What a network learned", pictures, "predictions", "held_out"),
        *policy(results),
        *errors(results),
        *speed(results),
        Heading("All runs"),
        all_runs(results),
        Text(MEASURED),
        Heading("How it was made"),
        *reproduction(results),
    ]
    titles = [block.text for block in body if isinstance(block, Heading) and block.level == 2]
    return [Heading(title, 1), Text(state(results)), Contents(titles), *body]


def shown(title: str, pictures: dict[str, Picture], *names: str) -> Sequence[Block]:
    """A heading and those of the pictures that there are; nothing if there are none."""
    found = [pictures[name] for name in names if name in pictures]
    return [Heading(title), *found] if found else []


def state(results: Results) -> str:
    """How far the study is, in words."""
    left = results.total - len(results.ended)
    lost = [run for run in results.ended if not run.finished]
    sentences = [f"{len(results.ended)} of {results.total} runs have ended."]
    if left:
        begun = f", {len(results.unfinished)} of them begun" if results.unfinished else ""
        what = "Not finished, or not readable" if results.problems else "Not finished"
        sentences.append(f"{what}: {left}{begun}; all that follows is provisional, verdicts too.")
    if lost:
        diverged = sum(run.status.startswith("diverged") for run in lost)
        sentences.append(f"{diverged} of them diverged and {len(lost) - diverged} failed.")
    return " ".join(sentences)


def problems(results: Results) -> Sequence[Block]:
    """The files that are missing or damaged, and what to do about each."""
    if not results.problems:
        return []
    sentences = [f"{problem}." for problem in results.problems[:PROBLEMS]]
    if (more := len(results.problems) - PROBLEMS) > 0:
        sentences.append(f"{more} more are not listed.")
    return [Heading("Missing or damaged files"), *map(Text, sentences)]


def every_measure(results: Results) -> Sequence[Block]:
    """Two contestants compared by every measure, in a study with one setting."""
    if len(results.contestants) != 2 or not results.single:
        return []
    first, second = results.contestants
    of_first, of_second = pairs(results.ended, first, second)
    if not of_first:
        return []
    rows: list[list[str]] = []
    for measure in RATIOS + DIFFERENCES:
        ratio = measure in RATIOS
        result = paired(values(of_first, measure, ratio), values(of_second, measure, ratio), ratio=ratio)
        how, equal = (f"{named(second)} / {named(first)}", 1) if ratio else (f"{named(second)} − {named(first)}", 0)
        name = measure.replace("_", " ").replace("held out", "held-out")
        rows.append([name, how, number(result.effect, [equal]), interval(result, [equal]),
                     str(result.n), better(result.n, result.probability_better), number(result.p_value)])  # fmt: skip
    return [
        Heading("Every measure"),
        Table(["measure", "compared by", "effect", "95% interval", "pairs", f"{named(second)} better", "Wilcoxon p"],
              rows),
        Text("Lower is better in each; pairs in which both runs finished and have the measure. Spikes: rises to more "
             "than 1.1 times the lowest loss so far; spike size: log(peak / lowest), the mean; epochs to level: until "
             "the loss is at most 1. Only verdicts were asked for beforehand. These are description: of so "
             "many comparisons, some stand out by chance."),
    ]  # fmt: skip


def distributions(results: Results) -> Sequence[Block]:
    """Final loss, volatility and held-out loss of each setting and cell, over the seeds that finished."""
    rows: list[list[str]] = []
    for name, cell, runs in groups(results):
        finished = [run for run in runs if run.finished]
        columns = [np.array([run.measures[name] for run in finished]) for name in
                   ("final_loss", "volatility", "spikes", "held_out_loss")]  # fmt: skip
        middles = [number(x) for values in columns for x in (median(values), interquartile_mean(values))]
        rows.append([name, cell, parameters(runs), f"{len(finished)} of {len(runs)}", *middles])
    labels = results.labels()
    for setting, runs in results.by_setting().items():
        for other, loss in results.without_learning([run for run in runs if run.finished]).items():
            rows.append([labels[setting], other, "–", "–", *["–"] * 6, number(loss), number(loss)])
    names = ("final loss", "volatility", "spikes", "held-out loss")
    head = [f"{name}, {middle}" for name in names for middle in ("median", "IQM")]
    if not rows:
        return []
    return [Table(["setting", results.kind, "parameters", "finished", *head], rows),
            Text("IQM: the interquartile mean, that without the lowest and the highest quarter. Guessing: the same "
                 "answer at every step, the best one.")]  # fmt: skip


def policy(results: Results) -> Sequence[Block]:
    """What the learned values are worth as a policy on unseen prices; nothing where no run says."""
    rows: list[list[str]] = []
    for name, cell, runs in groups(results):
        found = [run.about["policy"] for run in runs if run.finished and run.about.get("policy")]
        profit, trades, best = (
            np.array([float(said[key]) for said in found]) for key in ("profit", "trades", "best_profit")
        )
        if not len(profit):
            continue
        low, high = mean_interval(profit)
        ends = "no interval" if np.isnan(low) else f"{number(low)} to {number(high)}"
        earned = [profit.mean(), best.mean(), (best - profit).mean(), trades.mean()]
        mean, possible, regret, traded = (number(float(x)) for x in earned)
        share = f"{100 * float(profit.mean() / best.mean()):.0f}%"
        rows.append([name, cell, parameters(runs), str(len(profit)), mean, ends, possible, regret, share, traded])
    if not rows:
        return []
    head = [
        "setting",
        results.kind,
        "parameters",
        "runs",
        "profit",
        "95% interval",
        "best possible",
        "regret",
        "of the best",
        "trades",
    ]
    return [
        Heading("What it earns"),
        Table(head, rows),
        Text("On held-out prices, taking at every step the action that the network values most; per 1,000 steps of a "
             "sequence, in the price's unit, trade costs paid, nothing discounted; means over the seeds that finished. "
             "The best possible policy knows the future, and to never trade earns 0. Prices are made up, with waves "
             "that can be learnt: no market is so kind. Discounted values are learnt, so not even a perfect "
             "network need reach the best possible."),
    ]  # fmt: skip


def errors(results: Results) -> Sequence[Block]:
    """How far off the answers are, in the data's own units; nothing where no run says."""
    told = [run.about["errors"] for run in results.runs if run.about.get("errors")]
    if not told:
        return []
    names = list(dict.fromkeys(name for of in told for name in of))
    rows: list[list[str]] = []
    naive: dict[tuple[str, str], list[str]] = {}
    for setting, cell, runs in groups(results):
        said = [run.about for run in runs if run.finished and run.about.get("errors")]
        if not said:
            continue
        cells = []
        for name in names:
            found = np.array([about["errors"].get(name, math.nan) for about in said])
            low, high = mean_interval(found)
            cells.append(number(found.mean()) + ("" if np.isnan(low) else f" ({number(low)} to {number(high)})"))
        rows.append([setting, cell, parameters(runs), str(len(said)), *cells])
        for forecast, of in said[0].get("naive_errors", {}).items():
            naive[setting, forecast] = ["–", "–", *(number(of.get(name, math.nan)) for name in names)]
    rows += [[*of, *cells] for of, cells in naive.items()]
    return [
        Heading("In the data's own units"),
        Table(["setting", results.kind, "parameters", "runs", *names], rows),
        Text("The root of the mean squared error on the part that is judged, in the unit of the column: the mean over "
             "the seeds that finished, with a 95% interval where there are enough."),
    ]  # fmt: skip


def speed(results: Results) -> Sequence[Block]:
    """How long training took; nothing before a run has ended."""
    rows: list[list[str]] = []
    for name, cell, runs in groups(results):
        times = np.array([run.measures["seconds_per_epoch"] for run in runs])
        total = sum(run.measures["seconds"] for run in runs)
        rows.append([name, cell, parameters(runs), str(len(runs)), number(median(times)), number(total)])
    if not rows:
        return []
    said: list[Block] = [
        Heading("Speed"),
        Table(["setting", results.kind, "parameters", "runs", "s per epoch and run, median",
               "training time, s, sum over runs"],
              rows),
        Text(f"All training together took {duration(sum(run.measures['seconds'] for run in results.ended))}. These "
             "seconds are those of stacked runs, a cohort after another, and no measurement of which is faster."),
    ]  # fmt: skip
    for found in results.speeds:
        first, *_ = found.seconds
        rows = []
        for name, seconds in found.seconds.items():
            result, _ = found.compared(name, first)
            against = ["1", "–"] if name == first else [number(result.effect, [1]), interval(result, [1])]
            reached = [run.measures["epochs_to_level"] for run in results.ended
                       if run.contestant == name and found.serves(run) and run.finished]  # fmt: skip
            to_level = float(np.median(seconds)) * median(np.array(reached))
            within = (
                f"{number(to_level)} ({int(np.isfinite(reached).sum())} of {len(reached)} runs)" if reached else "–"
            )
            rows.append([name, number(float(np.median(seconds))), *against, str(len(seconds)), within])
        head = [results.kind, "s per epoch, median", f"its time / {named(first)}'s", "95% interval", "rounds",
                "s to a loss of 1, median of those that reach it"]  # fmt: skip
        said += [
            Text(f"Measured apart, epochs of all in turn: {found.label}; {measured_on(found)}."),
            Table(head, rows),
        ]
    return said


def groups(results: Results) -> Iterable[tuple[str, str, list[Result]]]:
    """The label of each setting, each cell, and those of their runs that have ended."""
    labels = results.labels()
    for setting, runs in results.by_setting().items():
        for cell in dict.fromkeys(run.contestant for run in runs if run.ended):
            yield labels[setting], cell, [run for run in runs if run.ended and run.contestant == cell]


def all_runs(results: Results) -> Table:
    """A row per run, with links to its files."""
    head = ["run", "status", "parameters", "final loss", "last loss", "held-out loss", "best loss", "volatility",
            "spikes", "s/epoch", "files"]  # fmt: skip
    rows: list[list[str | Link]] = []
    for run in results.runs:
        names = ("final_loss", "last_loss", "held_out_loss", "best_loss", "volatility", "spikes", "seconds_per_epoch")
        numbers = [number(run.measures[name]) for name in names]
        folder = run.folder.name
        parameters = str(run.about.get("parameters") or "–")
        file = Link("run.json", f"{folder}/run.json") if run.ended else "–"
        chosen = f", parameters of epoch {run.about['chosen']['epoch']}" if run.about.get("chosen") else ""
        rows.append([Link(run.name, f"{folder}/"), run.status + chosen, parameters, *numbers, file])
    return Table(head, rows)


def summary(results: Results, judged: Judged) -> str:
    """A Markdown table with a row per run, and the verdicts; of several settings, how many have which."""
    names = ("final_loss", "last_loss", "best_loss", "held_out_loss", "volatility", "seconds_per_epoch")
    head = ["run", "parameters", "final loss", "last loss", "best loss", "held-out loss", "volatility", "s/epoch",
            "status"]  # fmt: skip
    rows = [[run.name, str(run.about.get("parameters") or "–"), *(number(run.measures[name]) for name in names),
             run.status] for run in results.runs]  # fmt: skip
    labels = results.labels()
    for setting, runs in results.by_setting().items():
        for other, loss in results.without_learning([run for run in runs if run.finished]).items():
            name = other if results.single else f"{other}, {labels[setting]}"
            rows.append([name, "–", "–", "–", "–", number(loss), "–", "–", "needs no learning"])
    parts: list[Block] = [Table(head, rows), Text(MEASURED)] if rows else [Text(state(results))]
    said = [f"- {Text(problem).markdown()}" for problem in results.problems[:PROBLEMS]]
    if judged:
        if not results.single:
            said += [f"- {title}: {counts} of {len(judged)} settings" for title, counts in tallies(judged)]
        for i, verdict in enumerate(next(iter(judged.values()))):
            if results.single or verdict.claim.measure is None:
                said += [f"- {v.claim.title}: {in_short(v)}" for v in of_claim(judged, i).values()]
    text = "\n\n".join(part.markdown() for part in parts)
    return f"{text}\n\n" + "".join(f"{line}\n" for line in said)
