"""What the report says, block by block."""

import json
import math
import shlex
from collections.abc import Iterable, Sequence

import numpy as np

from rnn_compare.config import KEYS
from rnn_compare.report.claims import Verdict, of_claim, pairs, values
from rnn_compare.report.document import Block, Card, Code, Heading, Link, Picture, Row, Table, Text
from rnn_compare.report.results import Result, Results, Speed, words
from rnn_compare.statistics.measures import interquartile_mean, median
from rnn_compare.statistics.paired import FAILS, HOLDS, UNDECIDED, Paired, paired

Judged = dict[str, list[Verdict]]  # a setting's label -> the verdict on each claim
MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}
RATIOS = ("final_loss", "last_loss", "best_loss", "area", "held_out_loss", "volatility")
DIFFERENCES = ("spikes", "spike_size", "epochs_to_level")  # of measures that can be 0


def blocks(title: str, results: Results, judged: Judged, pictures: dict[str, Picture]) -> Sequence[Block]:
    """The whole report; its first block is the title."""
    return [
        Heading(title, 1),
        Text(state(results)),
        Heading("Verdicts"),
        *verdicts(results, judged),
        *shown("Loss curves", pictures, "loss"),
        *shown("Final loss and volatility", pictures, "distributions", "last_loss", "volatility"),
        *distributions(results),
        *shown("Pairs of runs", pictures, "differences"),
        *every_measure(results, judged),
        *shown("What a network learned", pictures, "predictions", "held_out"),
        Heading("Speed"),
        *speed(results),
        Heading("All runs"),
        all_runs(results),
        Heading("How it was made"),
        *reproduction(results),
    ]


def shown(title: str, pictures: dict[str, Picture], *names: str) -> Sequence[Block]:
    """A heading and those of the pictures that there are; nothing if there are none."""
    found = [pictures[name] for name in names if name in pictures]
    return [Heading(title), *found] if found else []


def state(results: Results) -> str:
    """How far the study is, in words."""
    left = results.total - len(results.runs)
    lost = [run for run in results.runs if not run.finished]
    sentences = [f"{len(results.runs)} of {results.total} runs have ended."]
    if left:
        sentences.append(f"Not finished: {left}; all that follows is provisional, verdicts too.")
    if lost:
        diverged = sum(run.status.startswith("diverged") for run in lost)
        sentences.append(f"{diverged} of them diverged and {len(lost) - diverged} failed.")
    return " ".join(sentences)


def verdicts(results: Results, judged: Judged) -> Sequence[Block]:
    """The post's claims judged: a card each, or a table each where there are several settings."""
    if not judged:
        return [Text("No claim of the post can be judged: that needs runs of both an LSTM and a GRU that differ in no "
                     "other axis.")]  # fmt: skip
    rule = Text(
        "The rule was fixed in the config: a claim holds if the 95% interval of its effect lies within what the claim "
        "says, does not hold if it lies outside, and is undecided otherwise, or with fewer than "
        f"{results.config['claims.seeds']} pairs of runs for a claim about loss or volatility. Runs are paired by "
        "their seed, which draws the same data for both cells. Pairs with a run that diverged or failed are left out, "
        "which is not at random. To add seeds until a verdict comes makes a wrong one more likely. With ten pairs, 92 "
        "to 94 in a hundred such intervals hold the true effect (simulated)."
    )
    first = next(iter(judged.values()))
    if single(results):
        return [Row([card(verdict) for verdict in first]), rule]
    said: list[Block] = [
        Text(f"Of {len(judged)} settings: {' '.join(f'“{title}” {counts}.' for title, counts in tallies(judged))} "
             "There is no verdict over all settings.")]  # fmt: skip
    for i, verdict in enumerate(first):
        found = of_claim(judged, i)
        if verdict.claim.measure:
            said += [Heading(verdict.claim.title, 3), verdict_table(found)]
        else:
            said += [Text("Speed is measured at the first setting with each backend, not in each setting."),
                     Row([card(verdict) for verdict in found.values()])]  # fmt: skip
    return [*said, rule]


def single(results: Results) -> bool:
    """Whether the runs are all of one setting."""
    return len(results.by_setting()) == 1


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
        rows.append([label, f"{MARKS[verdict.word]} {verdict.word}", number(result.effect, claim.bounds),
                     interval(result, claim.bounds), str(result.n),
                     f"{verdict.left_out} ({verdict.why})" if verdict.left_out else "0",
                     better(result.n, verdict.gru_better), number(result.p_value), verdict.decide])  # fmt: skip
    return Table(["setting", "verdict", claim.effect, "95% interval", "pairs", "left out", "GRU better", "Wilcoxon p",
                  "what would decide"], rows)  # fmt: skip


def in_short(verdict: Verdict) -> str:
    """A verdict in a line."""
    result, bounds = verdict.result, verdict.claim.bounds
    found = f" ({number(result.effect, bounds)}, {interval(result, bounds)}, n = {result.n})" if result.n else ""
    on = f"; {measured_on(verdict.speed)}" if verdict.speed else ""
    return f"{MARKS[verdict.word]} {verdict.word}{found}; {verdict.decide}{on}"


def measured_on(speed: Speed) -> str:
    """What a measurement of the speed was made on."""
    return f"backend {speed.about['backend']}, device {speed.about['device']}"


def interval(result: Paired, borders: Iterable[float]) -> str:
    """An effect's interval, on the same side of each border as it is."""
    if math.isnan(result.low):
        return "no interval"
    return f"{number(result.low, borders)} to {number(result.high, borders)}"


def better(n: int, share: float) -> str:
    """The share of n pairs in which the GRU is better."""
    return f"{100 * share:.0f}%" if n else "–"


def card(verdict: Verdict) -> Card:
    """A verdict with all that it rests on."""
    claim, result = verdict.claim, verdict.result
    facts = {
        claim.effect: number(result.effect, claim.bounds),
        "the claim needs": claim.needs,
        "95% interval": interval(result, claim.bounds),
        "pairs": f"{result.n}; {verdict.left_out} left out ({verdict.why})" if verdict.left_out else str(result.n),
        "GRU better": f"in {better(result.n, verdict.gru_better)} of the pairs" if result.n else "–",
        "Wilcoxon p": number(result.p_value),
        "what would decide": verdict.decide,
    }
    if verdict.speed:
        facts["measured on"] = measured_on(verdict.speed)
    if claim.measure is None:
        facts["note"] = "the post's number is from its own GPU; ours is for this machine and backend"
    return Card(verdict.word, MARKS[verdict.word], claim.title, facts)


def every_measure(results: Results, judged: Judged) -> Sequence[Block]:
    """Both cells compared by every measure, in a study with one setting."""
    if not (judged and single(results)):
        return []
    lstm, gru = pairs(results.runs)
    rows: list[list[str]] = []
    for measure in RATIOS + DIFFERENCES:
        ratio = measure in RATIOS
        result = paired(values(lstm, measure, ratio), values(gru, measure, ratio), ratio=ratio)
        how, equal = ("GRU / LSTM", 1) if ratio else ("GRU − LSTM", 0)
        name = measure.replace("_", " ").replace("held out", "held-out")
        rows.append([name, how, number(result.effect, [equal]), interval(result, [equal]),
                     str(result.n), better(result.n, result.probability_better), number(result.p_value)])  # fmt: skip
    return [
        Heading("Every measure"),
        Table(["measure", "compared by", "effect", "95% interval", "pairs", "GRU better", "Wilcoxon p"], rows),
        Text("Lower is better in each; pairs in which both runs finished and have the measure. Spikes: rises to more "
             "than 1.1 times the lowest loss so far; spike size: log(peak / lowest), the mean; epochs to level: until "
             "the loss is at most 1. Only the verdicts above were asked for beforehand. These are description: of so "
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
        rows.append([name, cell, f"{len(finished)} of {len(runs)}", *middles])
    names = ("final loss", "volatility", "spikes", "held-out loss")
    head = [f"{name}, {middle}" for name in names for middle in ("median", "IQM")]
    return [Table(["setting", "cell", "finished", *head], rows),
            Text("IQM: the interquartile mean, that without the lowest and the highest quarter.")]  # fmt: skip


def speed(results: Results) -> Sequence[Block]:
    """How long training took."""
    rows: list[list[str]] = []
    for name, cell, runs in groups(results):
        times = np.array([run.measures["seconds_per_epoch"] for run in runs])
        total = sum(run.measures["seconds"] for run in runs)
        rows.append([name, cell, str(len(runs)), number(median(times)), number(total)])
    said: list[Block] = [
        Table(["setting", "cell", "runs", "s per epoch and run, median", "training time, s, sum over runs"], rows),
        Text(f"All training together took {duration(sum(run.measures['seconds'] for run in results.runs))}. These "
             "seconds are those of stacked runs, a cohort after another, and no measurement of which cell is faster."),
    ]  # fmt: skip
    for found in results.speeds.values():
        about, result = found.about, found.result
        said.append(
            Text(f"Measured apart, epochs of the two cells in turn: LSTM / GRU {number(result.effect)} "
                 f"({interval(result, [1])}, 95% interval), "
                 f"{result.n} pairs; median {number(float(np.median(about['lstm_seconds'])))} s per LSTM epoch and "
                 f"{number(float(np.median(about['gru_seconds'])))} s per GRU epoch, {measured_on(found)}, "
                 f"{about['units']} units."))  # fmt: skip
    return said


def groups(results: Results) -> Iterable[tuple[str, str, list[Result]]]:
    """The label of each setting, each cell, and their runs."""
    labels = results.labels()
    for setting, runs in results.by_setting().items():
        for cell in dict.fromkeys(run.cell for run in runs):
            yield labels[setting], cell, [run for run in runs if run.cell == cell]


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
        rows.append([Link(run.name, f"{folder}/"), run.status, parameters, *numbers,
                     Link("run.json", f"{folder}/run.json")])  # fmt: skip
    return Table(head, rows)


def reproduction(results: Results) -> Sequence[Block]:
    """The command, the machine, the versions and the config."""
    found = dict(results.environment)
    command, packages = found.pop("command", None), found.pop("packages", {})
    said: list[Block] = []
    if command:
        said += [Text("The command that the study was last started with:"), Code(command)]
    again = "python -m rnn_compare.main --config=again.py"
    said += [Text("To run it again, whatever its config file says by now: save this line as again.py,"),
             Code("from rnn_compare.config import base as get_config"),
             Text("which is a config file with every key at its default, and give the keys that differ as flags:"),
             Code(" \\\n    ".join([again, *overrides(results)]))]  # fmt: skip
    named = {key.replace("_", " "): value for key, value in found.items()} | packages
    machine = [[name, words(value)] for name, value in named.items()]
    if machine:
        said.append(Table(["machine", "of the last start"], machine))
    meanings = {key: declared.meaning for key, declared in KEYS.items()} | {"sweep": "axes of the study"}
    config = [[key, json.dumps(results.config.get(key)), meaning] for key, meaning in meanings.items()]
    return [*said, Table(["key", "value", "meaning"], config)]


def overrides(results: Results) -> list[str]:
    """The flags that make the base config this one, quoted for a shell."""
    changed = {key: value for key, value in results.config.items()
               if key in KEYS and value != json.loads(json.dumps(KEYS[key].default))}  # fmt: skip
    changed |= {f"sweep.{axis}": values for axis, values in results.config["sweep"].items()}
    return [shlex.quote(f"--config.{key}={literal(value)}") for key, value in changed.items()]


def literal(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def summary(results: Results, judged: Judged) -> str:
    """A Markdown table with a row per run, and the verdicts; of several settings, how many have which."""
    head = [
        "run",
        "parameters",
        "first loss",
        "last loss",
        "best loss",
        "held-out loss",
        "volatility",
        "s/epoch",
        "status",
    ]
    rows: list[list[str | Link]] = []
    for run in results.runs:
        losses = [f"{run.measures[name]:.4f}" for name in ("first_loss", "last_loss", "best_loss", "held_out_loss")]
        volatility, seconds = f"{run.measures['volatility']:.5f}", f"{run.measures['seconds_per_epoch']:.3f}"
        rows.append([run.name, str(run.about.get("parameters") or "-"), *losses, volatility, seconds, run.status])
    table = Table(head, rows).markdown() + "\n"
    if not judged:
        return table
    several = not single(results)
    lines = [f"{title}: {counts} of {len(judged)} settings" for title, counts in tallies(judged)] if several else []
    for i, verdict in enumerate(next(iter(judged.values()))):
        if not (several and verdict.claim.measure):
            lines += [f"{v.claim.title}: {in_short(v)}" for v in of_claim(judged, i).values()]
    return table + "\n" + "".join(f"- {line}\n" for line in lines)


def number(x: float, borders: Iterable[float] = ()) -> str:
    """A number with four digits that matter, or as many more as keep it on its side of the borders; a dash for NaN."""
    if math.isnan(x):
        return "–"
    for digits in range(4, 18):
        text = f"{x:.{digits}g}" if abs(x) >= 1e-4 or x == 0 else f"{x:.{digits - 2}e}"
        if all((float(text) < border, float(text) > border) == (x < border, x > border) for border in borders):
            break
    return text


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
