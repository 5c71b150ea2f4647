"""What the report says, block by block."""

import json
import math
import shlex
from collections.abc import Iterable, Sequence

import numpy as np

from rnn_compare.config import KEYS
from rnn_compare.report.claims import FAILS, HOLDS, UNDECIDED, Verdict, claims
from rnn_compare.report.document import Block, Card, Code, Heading, Link, Picture, Row, Table, Text
from rnn_compare.report.results import Result, Results, Setting, words
from rnn_compare.stats import Paired, interquartile_mean, median

Judged = dict[Setting, list[Verdict]]
MARKS = {HOLDS: "✓", FAILS: "✗", UNDECIDED: "?"}


def blocks(title: str, results: Results, judged: Judged, pictures: dict[str, Picture]) -> Sequence[Block]:
    """The whole report; its first block is the title."""
    return [
        Heading(title, 1),
        Text(state(results)),
        Heading("Verdicts"),
        *verdicts(results, judged),
        *shown("Loss curves", pictures, "loss"),
        *shown("Final loss and volatility", pictures, "distributions", "last_loss", "volatility"),
        distributions(results),
        *shown("Pairs of runs", pictures, "differences"),
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
    """The post's claims judged: a card each, or a table where there are several settings."""
    if not judged:
        return [Text("No claim of the post can be judged: that needs runs of both an LSTM and a GRU that differ in no "
                     "other axis.")]  # fmt: skip
    rule = Text(
        "The rule was fixed in the config: a claim holds if the 95% interval of its effect lies within what the claim "
        "says, does not hold if it lies outside, and is undecided otherwise, or with fewer than "
        f"{results.config['claims.seeds']} pairs of runs for a claim about loss or volatility. Runs are paired by "
        "their seed, which draws the same data for both cells."
    )
    first = next(iter(judged.values()))
    if len(judged) == 1:
        return [Row([card(verdict, results) for verdict in first]), rule]
    head = ["setting", *(f"{claim.title}{'' if claim.measure else ' *'}" for claim in claims(results))]
    labels = results.labels()
    rows: list[list[str]] = [[labels[setting], *map(in_short, row)] for setting, row in judged.items()]
    counts = [[row[i].word for row in judged.values()] for i in range(len(first))]
    totals = (
        f"“{verdict.claim.title}” {', '.join(f'{word} in {found.count(word)}' for word in MARKS)}."
        for verdict, found in zip(first, counts, strict=True)
        if verdict.claim.measure
    )
    return [
        Text(f"Of {len(judged)} settings: {' '.join(totals)} There is no verdict over all settings."),
        Table(head, rows),
        Text("In brackets: the effect, its 95% interval and the number of pairs. * Measured once, at the study's first "
             "setting, not in each."),
        Row([card(verdict, results) for verdict in first if verdict.claim.measure is None]),
        rule,
    ]  # fmt: skip


def in_short(verdict: Verdict) -> str:
    """A verdict in a table's cell."""
    found = f" ({effect(verdict.result)}, n = {verdict.result.n})" if verdict.result.n else ""
    return f"{MARKS[verdict.word]} {verdict.word}{found}"


def effect(result: Paired) -> str:
    """An effect and its interval."""
    interval = "no interval" if math.isnan(result.low) else f"{number(result.low)} to {number(result.high)}"
    return f"{number(result.effect)}, {interval}"


def card(verdict: Verdict, results: Results) -> Card:
    """A verdict with all that it rests on."""
    claim, result = verdict.claim, verdict.result
    facts = {claim.effect: number(result.effect), "the claim needs": claim.needs}
    facts["95% interval"] = f"{number(result.low)} to {number(result.high)}" if result.n > 1 else "none"
    facts["pairs"] = str(result.n)
    if verdict.left_out:
        facts["pairs"] += f"; {verdict.left_out} left out, where a run diverged, failed or has no such measure"
    facts["GRU better"] = f"in {100 * verdict.gru_better:.0f}% of the pairs" if result.n else "–"
    facts["p of no difference"] = f"{number(result.p_value)} (Wilcoxon)"
    facts["what would decide"] = verdict.decide
    if claim.measure is None:
        if results.speed:
            facts["measured on"] = ", ".join(str(results.speed.about.get(k)) for k in ("backend", "device"))
        facts["note"] = "the post's number is from its own GPU; ours is for this machine and backend"
    return Card(verdict.word, MARKS[verdict.word], claim.title, facts)


def distributions(results: Results) -> Table:
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
    return Table(["setting", "cell", "finished", *head], rows)


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
    if results.speed:
        about, result = results.speed.about, results.speed.result
        said.append(
            Text(f"Measured apart, epochs of the two cells in turn: LSTM / GRU {effect(result)} (95% interval), "
                 f"{result.n} pairs; median {number(float(np.median(about['lstm_seconds'])))} s per LSTM epoch and "
                 f"{number(float(np.median(about['gru_seconds'])))} s per GRU epoch, backend {about['backend']}, "
                 f"{about['device']}, {about['units']} units."))  # fmt: skip
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
    said += [Text("Whatever its file says by now, the config was base() with these flags:"), Code(overrides(results))]
    machine = [[key.replace("_", " "), words(value)] for key, value in (found | packages).items()]
    if machine:
        said.append(Table(["machine", "of the last start"], machine))
    meanings = {key: declared.meaning for key, declared in KEYS.items()} | {"sweep": "axes of the study"}
    config = [[key, json.dumps(results.config.get(key)), meaning] for key, meaning in meanings.items()]
    return [*said, Table(["key", "value", "meaning"], config)]


def overrides(results: Results) -> str:
    """The flags that make the base config this one."""
    changed = {key: value for key, value in results.config.items()
               if key in KEYS and value != json.loads(json.dumps(KEYS[key].default))}  # fmt: skip
    changed |= {f"sweep.{axis}": values for axis, values in results.config["sweep"].items()}
    flags = (shlex.quote(f"--config.{key}={literal(value)}") for key, value in changed.items())
    return " \\\n".join(flags) or "(none)"


def literal(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)


def summary(results: Results, judged: Judged) -> str:
    """A Markdown table with a row per run, and the verdicts where there is one setting."""
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
    if len(judged) != 1:
        return table
    lines = (f"{v.claim.title}: {in_short(v)}; {v.decide}" for v in next(iter(judged.values())))
    return table + "\n" + "".join(f"- {line}\n" for line in lines)


def number(x: float) -> str:
    """A number with four digits that matter, or a dash."""
    if math.isnan(x):
        return "–"
    return f"{x:.4g}" if abs(x) >= 1e-4 or x == 0 else f"{x:.2e}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} seconds"
