"""For people's own analysis: `results.csv`, a row a run, and `report.json`, what the report says in numbers."""

import csv
import io
import json
import math
from typing import Any

from rnn_compare.report.claims import Verdict
from rnn_compare.report.comparison import of_setting
from rnn_compare.report.results import Result, Results
from rnn_compare.statistics.paired import Paired

MEASURES = ("final_loss", "last_loss", "best_loss", "held_out_loss", "area", "epochs_to_level", "volatility", "spikes",
            "spike_size", "seconds_per_epoch", "seconds")  # fmt: skip


def rows(results: Results) -> str:
    """Tidy CSV: of each run its name, contestant, setting's axes, seed, status, parameters and measures.

    What a run does not have is empty.
    """
    axes = list(dict.fromkeys(key for run in results.runs for key in run.about["axes"]))
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(["run", "contestant", *axes, "seed", "status", "parameters", *MEASURES])
    for run in results.runs:
        place = [json.dumps(value) if isinstance(value, list) else value for value in map(run.about["axes"].get, axes)]
        measured = [_known(run.measures[name]) for name in MEASURES]
        table.writerow(
            [run.name, run.contestant, *place, run.seed, _status(run), run.about.get("parameters"), *measured]
        )
    return file.getvalue()


def summary(results: Results, judged: dict[str, list[Verdict]]) -> str:
    """The verdicts, the comparison of all contestants and the speeds, as JSON; no number is null."""
    labels = results.labels()
    rankings = {labels[setting]: ranking for setting, runs in results.by_setting().items()
                if (ranking := of_setting(results, runs))}  # fmt: skip
    order = {name: i for i, name in enumerate(results.contestants)}  # each pair once: the other way round is 1 / effect
    content = {
        "measure": results.config["compare.measure"],
        "contestants": results.contestants,
        "verdicts": {
            label: [
                {"claim": v.claim.title, "verdict": v.word, "effect_is": v.claim.effect, "needs": v.claim.needs,
                 "left_out": v.left_out, **_comparison(v.result)}
                for v in verdicts
            ]
            for label, verdicts in judged.items()
        },
        "ranking": {
            label: [
                {"contestant": name, "mean_rank": mean, "place": list(ranking.ranks[name])}
                for name, mean in ranking.mean_ranks.items()
            ]
            for label, ranking in rankings.items()
        },
        "pairs": {
            label: [
                {"a": a, "b": b, "effect_is": "a / b", "a_is_lower": p.lower, "a_is_higher": p.higher, "alike": p.alike,
                 **_comparison(p.result)}
                for (a, b), p in ranking.pairs.items() if order[a] < order[b]
            ]
            for label, ranking in rankings.items()
        },
        "speed": [speed.about for speed in results.speeds],
    }  # fmt: skip
    return json.dumps(content, indent=1) + "\n"


def _comparison(result: Paired) -> dict[str, Any]:
    numbers = {"pairs": result.n, "effect": result.effect, "low": result.low, "high": result.high,
               "probability_a_lower": result.probability_better, "wilcoxon_p": result.p_value}  # fmt: skip
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _known(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _status(run: Result) -> str:
    return run.status.split(" at ")[0].split(":")[0].split(",")[0]
