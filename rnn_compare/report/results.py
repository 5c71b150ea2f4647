"""What a workdir's files say, as values: runs, the measured speed, the study. Read by `rnn_compare.report.reading`."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rnn_compare.config import KEYS, base, compared_keys, contestant, contestants, set_value
from rnn_compare.config.checks import words
from rnn_compare.statistics.measures import measures, median
from rnn_compare.statistics.paired import NOTHING, Paired, paired
from rnn_compare.statistics.timing import ratio_of
from rnn_compare.tasks import TASKS, Task
from rnn_compare.workdir.runs import DEFAULTS, DIVERGED, FAILED, FINISHED, KERAS

UNFINISHED = "unfinished"  # a run that has not ended; there is no run.json that says so
SO_FAR = ("first_loss", "last_loss", "best_loss", "seconds_per_epoch", "seconds")  # what it is described by
# What the post's figure 3 is of; the other keys say how it is computed, logged and judged.
POST = [key for key in KEYS if key.split(".")[0] in ("data", "model", "optimizer") and key != "model.cell"]
POST.append("train.epochs")

Setting = tuple[tuple[str, str], ...]  # (key, value in words) of each axis besides what is compared


@dataclass(frozen=True)
class Result:
    """A run, as far as it came.

    Attributes:
        folder: where its files are.
        about: its `run.json`; for a run that has not ended, what its event files say of that.
        curves: name -> [epochs]; empty ones for a run that failed.
        compared: the keys that tell contestants apart.
    """

    folder: Path
    about: dict[str, Any]
    curves: dict[str, np.ndarray]
    compared: tuple[str, ...] = ("model.cell",)

    @property
    def name(self) -> str:
        """Its name."""
        return self.about["name"]

    @property
    def contestant(self) -> str:
        """What it competes as: its cell, or whatever the study compares."""
        return contestant(self.compared, self.about["config"])

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.about["seed"]

    @property
    def backend(self) -> str:
        """The backend that its config asks for."""
        return self.about["config"]["train.backend"]

    @property
    def setting(self) -> Setting:
        """Its axes besides what is compared: runs to be compared have it in common."""
        return tuple((key, words(value)) for key, value in self.about["axes"].items() if key not in self.compared)

    @property
    def finished(self) -> bool:
        """Whether it has ended and neither diverged nor failed."""
        return self.about["status"] == FINISHED

    @property
    def ended(self) -> bool:
        """Whether it finished, diverged or failed."""
        return self.about["status"] != UNFINISHED

    @property
    def status(self) -> str:
        """How it ended, in words."""
        if not self.ended:
            return f"unfinished, at epoch {len(self.curves['loss'])} of {self.about['config']['train.epochs']}"
        if self.about["status"] == DIVERGED:
            return f"diverged at epoch {self.about['diverged_at']}"
        if self.about["status"] == FAILED:
            return f"failed: {self.about.get('error', '')}".splitlines()[0]
        return "finished"

    @cached_property
    def measures(self) -> dict[str, float]:
        """Those of `measures.measures`, `first_loss`, `held_out_loss` and `seconds`, the time that its training took.

        Of a run that has not ended, all but those of `SO_FAR` are NaN.
        """
        loss, seconds = self.curves["loss"], self.curves["seconds_per_epoch"]
        found = measures(loss) | {
            "first_loss": float(loss[0]) if len(loss) else math.nan,
            "held_out_loss": (self.about.get("held_out") or {}).get("loss", math.nan),
            "seconds_per_epoch": float(np.median(seconds)) if len(seconds) else math.nan,
            "seconds": float(seconds.sum()),
        }
        return {name: value if self.ended or name in SO_FAR else math.nan for name, value in found.items()}


class Speed(NamedTuple):
    """A measurement in `speed.json`.

    Attributes:
        about: what `speed.measure` returns, the "train.backend", "limit" and "precision" that were asked for, and the
            "cpu", which earlier versions did not write.
        seconds: contestant -> seconds per epoch of its samples, [rounds].
    """

    about: dict[str, Any]
    seconds: dict[str, np.ndarray]

    @property
    def key(self) -> str:
        """What tells it from others of the study."""
        return json.dumps({"train.backend": self.about["train.backend"], "setting": self.about.get("setting", {})})

    @property
    def label(self) -> str:
        """The same in a few words."""
        return label(
            (("", self.about["train.backend"]), *((k, words(v)) for k, v in self.about.get("setting", {}).items()))
        )

    def serves(self, run: Result) -> bool:
        """Whether it was measured at a run's setting, as far as the speed depends on that."""
        wanted = {"train.backend": self.about["train.backend"], **self.about.get("setting", {})}
        return all(run.about["config"].get(key) == v for key, v in wanted.items() if key not in run.compared)

    def compared(self, top: str, bottom: str, confidence: float = 0.95) -> tuple[Paired, np.ndarray]:
        """One contestant's time over another's, and that of each round; nothing if either was not measured."""
        if not {top, bottom} <= self.seconds.keys():
            return NOTHING, np.array([])
        ratios = self.seconds[top] / self.seconds[bottom]
        result = paired(self.seconds[bottom], self.seconds[top])
        effect, low, high = ratio_of(self.seconds[top], self.seconds[bottom], confidence)
        return result._replace(effect=effect, low=low, high=high), ratios


class Results(NamedTuple):
    """A workdir's content.

    Attributes:
        config: dotted key -> value.
        runs: those that have ended or have event files, in the order of the study's axes, then of the seeds.
        total: how many runs the study has.
        environment: what `environment.json` says; empty where there is none.
        speeds: the measurements, one for each setting that changes the speed.
        predictions: what networks predict on held-out data, see `held_out.HeldOut`, each with its run: of each
            contestant the run of the first setting and lowest seed that finished, a choice that has seen no result.
        problems: a sentence for each file that is missing or damaged, with the remedy.
    """

    config: dict[str, Any]
    runs: list[Result]
    total: int
    environment: dict[str, Any]
    speeds: list[Speed]
    predictions: list[tuple[Result, dict[str, np.ndarray]]]
    problems: list[str]

    @property
    def kind(self) -> str:
        """What contestants are, in a word."""
        return "cell" if compared_keys(self.config) == ("model.cell",) else "contestant"

    @property
    def task(self) -> Task | type[Task]:
        """What is learnt; its class where what it reads is gone, and any task's where it is not registered here."""
        kind = TASKS.get(self.config["task.name"], Task)
        config = base()
        for key, value in self.config.items():
            set_value(config, key, value)
        try:
            return kind.of(config)
        except (ValueError, NotImplementedError):
            return kind

    def without_learning(self, runs: list[Result]) -> dict[str, float]:
        """What others lose on the held-out data of these runs, medians: naive forecasts, and who only guesses."""
        said = [{**(run.about.get("naive") or {}), "guessing": run.about.get("guess", math.nan)} for run in runs]
        names = dict.fromkeys(name for losses in said for name in losses)
        found = {name: median(np.array([losses.get(name, math.nan) for losses in said])) for name in names}
        return {name: loss for name, loss in found.items() if not math.isnan(loss)}

    @property
    def contestants(self) -> list[str]:
        """All that the study compares, in the order of its axes."""
        return contestants(self.config)

    def speed_of(self, run: Result) -> Speed | None:
        """The measurement at a run's setting, if there is one."""
        return next((speed for speed in self.speeds if speed.serves(run)), None)

    def epoch_seconds(self, run: Result) -> float:
        """The seconds that an epoch of a run's kind takes, in turn with the others; NaN where that was not measured."""
        found = self.speed_of(run)
        return (
            float(np.median(found.seconds[run.contestant])) if found and run.contestant in found.seconds else math.nan
        )

    @property
    def ended(self) -> list[Result]:
        """The runs that have ended."""
        return [run for run in self.runs if run.ended]

    @property
    def unfinished(self) -> list[Result]:
        """The runs that are on their way, or were stopped there."""
        return [run for run in self.runs if not run.ended]

    def by_setting(self) -> dict[Setting, list[Result]]:
        """The runs of each setting."""
        groups: dict[Setting, list[Result]] = {}
        for run in self.runs:
            groups.setdefault(run.setting, []).append(run)
        return groups

    def labels(self) -> dict[Setting, str]:
        """Each setting in a few words behind its number; "all" where there is one without axes."""
        found = list(self.by_setting())
        return {setting: f"#{i} {label(setting)}" if len(found) > 1 else label(setting) or "all"
                for i, setting in enumerate(found, 1)}  # fmt: skip

    @property
    def single(self) -> bool:
        """Whether the runs are all of one setting."""
        return len(self.by_setting()) == 1

    def is_the_posts(self) -> bool:
        """Whether there is one setting, and it is that of the post's figure 3."""
        if not self.single or compared_keys(self.config) != ("model.cell",):
            return False
        config = self.runs[0].about["config"]
        return all(config.get(key) in (DEFAULTS[key], KERAS.get(key)) for key in POST)


def parameters(runs: Iterable[Result]) -> str:
    """How many parameters these runs have."""
    return " or ".join(dict.fromkeys(str(run.about.get("parameters") or "–") for run in runs))


def label(setting: Setting) -> str:
    """A setting in a few words; keys without their section."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {value}".strip() for key, value in setting)
