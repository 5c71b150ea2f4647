"""What a workdir holds, read from its files: the study's config, the runs that have ended, the measured speed."""

import json
import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from rnn_compare.config import KEYS, UserError, settings
from rnn_compare.statistics.measures import measures
from rnn_compare.statistics.paired import Paired, paired
from rnn_compare.workdir.runs import DIVERGED, FAILED, FINISHED, different

T = TypeVar("T")
Setting = tuple[tuple[str, str], ...]  # (key, value in words) of each axis besides the cell


@dataclass(frozen=True)
class Result:
    """A run that has ended.

    Attributes:
        folder: where its files are.
        about: its `run.json`.
        curves: name -> [epochs]; empty ones for a run that failed.
    """

    folder: Path
    about: dict[str, Any]
    curves: dict[str, np.ndarray]

    @property
    def name(self) -> str:
        """Its name."""
        return self.about["name"]

    @property
    def cell(self) -> str:
        """Its recurrent cell."""
        return self.about["config"]["model.cell"]

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
        """Its axes besides the cell: runs to be compared have it in common."""
        return tuple((key, words(value)) for key, value in self.about["axes"].items() if key != "model.cell")

    @property
    def finished(self) -> bool:
        """Whether it neither diverged nor failed."""
        return self.about["status"] == FINISHED

    @property
    def status(self) -> str:
        """How it ended, in words."""
        if self.about["status"] == DIVERGED:
            return f"diverged at epoch {self.about['diverged_at']}"
        if self.about["status"] == FAILED:
            return f"failed: {self.about.get('error', '')}".splitlines()[0]
        return "finished"

    @cached_property
    def measures(self) -> dict[str, float]:
        """Those of `stats.measures`, `first_loss`, `held_out_loss` and `seconds`, the time that its training took."""
        loss, seconds = self.curves["loss"], self.curves["seconds_per_epoch"]
        return measures(loss) | {
            "first_loss": float(loss[0]) if len(loss) else math.nan,
            "held_out_loss": (self.about.get("held_out") or {}).get("loss", math.nan),
            "seconds_per_epoch": float(np.median(seconds)) if len(seconds) else math.nan,
            "seconds": float(seconds.sum()),
        }

    def predictions(self) -> dict[str, np.ndarray] | None:
        """Its stretch of held-out data, see `held_out.HeldOut`; None where an older version has left none.

        Raises:
            UserError: it cannot be read.
        """
        path = self.folder / "predictions.npz"
        return read(path, lambda: dict(np.load(path))) if path.exists() else None


class Speed(NamedTuple):
    """A measurement in `speed.json`.

    Attributes:
        about: what `speed.measure` returns, and the "train.backend", "limit" and "precision" that were asked for.
        result: the GRU's seconds (a) paired with the LSTM's (b): the effect is LSTM / GRU.
        ratios: the effect of each pair.
    """

    about: dict[str, Any]
    result: Paired
    ratios: np.ndarray


class Results(NamedTuple):
    """A workdir's content.

    Attributes:
        config: dotted key -> value.
        runs: those that have ended, in the order of the study's axes, then of the seeds.
        total: how many runs the study has.
        environment: what `environment.json` says; empty where an older version has left none.
        speeds: `train.backend` -> the measurement with it.
    """

    config: dict[str, Any]
    runs: list[Result]
    total: int
    environment: dict[str, Any]
    speeds: dict[str, Speed]

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


def load(workdir: Path) -> Results:
    """Reads a workdir; runs that have not ended yet are only counted.

    Raises:
        UserError: it is no workdir, or a file cannot be read; says which.
    """
    path = workdir / "config.json"
    if not path.exists():
        raise UserError(f"--workdir={workdir} holds no study: it has no config.json")
    config = {key: KEYS[key].default for key in KEYS} | read(path, lambda: dict(json.loads(path.read_text())))
    wanted = read(path, lambda: list(settings(config["sweep"])))
    order = {place(setting): i for i, setting in enumerate(wanted)}
    found = (read_run(path.parent, list(wanted[0])) for path in sorted(workdir.glob("*/run.json")))

    def belongs(run: Result) -> bool:
        """Not if it was left by a study of other axes, of more values of an axis, or of more seeds."""
        expected, config_then = config | run.about["axes"], run.about["config"]
        keys = config_then.keys() & KEYS.keys() - {"seeds"}
        alike = not different({key: expected[key] for key in keys}, {key: config_then[key] for key in keys})
        return alike and place(run.about["axes"]) in order and run.seed < config["seeds"]

    runs = [run for run in found if belongs(run)]
    runs.sort(key=lambda run: (order[place(run.about["axes"])], run.seed))
    environment = workdir / "environment.json"
    return Results(
        config=config,
        runs=runs,
        total=len(order) * config["seeds"],
        environment=read(environment, lambda: dict(json.loads(environment.read_text())))
        if environment.exists()
        else {},
        speeds=read_speeds(workdir / "speed.json"),
    )


def read_run(folder: Path, axes: list[str]) -> Result:
    """A run that has ended, with its place on these axes: it may have been trained when the study had others.

    Raises:
        UserError: one of its files cannot be read.
    """
    path, curves = folder / "run.json", folder / "curves.npz"

    def about() -> dict[str, Any]:
        content = json.loads(path.read_text())
        content["config"]["model.cell"], content["config"]["train.backend"]
        content["name"], content["seed"], content["status"]
        return content | {"axes": {key: content["config"][key] for key in axes}}

    run = read(path, about)
    if run["status"] == FAILED:
        return Result(folder, run, {"loss": np.array([]), "seconds_per_epoch": np.array([])})
    return Result(folder, run, read(curves, lambda: dict(np.load(curves))))


def read_speeds(path: Path) -> dict[str, Speed]:
    """The measurements in `speed.json` by their `train.backend`; none if there is no such file.

    Raises:
        UserError: it cannot be read.
    """

    def speeds() -> dict[str, Speed]:
        content = json.loads(path.read_text())
        if not isinstance(content, list):
            raise ValueError("it is no list of measurements: remove it, and they are made again")
        return {about["train.backend"]: speed_of(about) for about in content}

    return read(path, speeds) if path.exists() else {}


def speed_of(about: dict[str, Any]) -> Speed:
    """A measurement; its effect and interval are its own, the rest follows from its pairs."""
    about["backend"], about["device"], about["units"]
    gru, lstm = np.array(about["gru_seconds"], float), np.array(about["lstm_seconds"], float)
    effect, low, high = (float(about[key]) for key in ("ratio", "low", "high"))
    return Speed(about, paired(gru, lstm)._replace(effect=effect, low=low, high=high), lstm / gru)


def read(path: Path, reader: Callable[[], T]) -> T:
    """What the reader makes of a file.

    Raises:
        UserError: the file is missing, or damaged in one of the ways that files are.
    """
    try:
        return reader()
    except KeyError as error:
        raise UserError(f"{path} cannot be read (it has no {error})") from None
    except (OSError, ValueError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read ({error})") from None


def place(axes: dict[str, Any]) -> str:
    """A setting's name, the same for that of the config and that of a `run.json`."""
    return json.dumps(axes, sort_keys=True)


def words(value: Any) -> str:
    """A config's value as a person writes it."""
    if isinstance(value, list | tuple):
        return " + ".join(map(words, value))
    return value if isinstance(value, str) else str(value).removesuffix(".0")


def label(setting: Setting) -> str:
    """A setting in a few words; keys without their section."""
    return ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in setting)
