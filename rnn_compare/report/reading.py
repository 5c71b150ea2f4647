"""A workdir read back: the study's config, its runs, the measured speed.

A file that is missing or damaged costs what it holds and is said in a sentence with the remedy; only without the
study's config there is nothing to report. Nothing is ever unpickled.
"""

import json
import math
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from rnn_compare.config import KEYS, UserError, base, compared_keys, set_value, settings, validate
from rnn_compare.report.results import UNFINISHED, Result, Results, Speed
from rnn_compare.workdir.runs import DIVERGED, FAILED, FINISHED, as_json, complete, different_run
from rnn_compare.workdir.tensorboard import read_events

T = TypeVar("T")
POLICY = "profit", "trades", "best_profit"
AGAIN = "give the same command to train it again"


def load(workdir: Path) -> Results:
    """Reads a workdir; runs that have not been begun are only counted.

    Raises:
        UserError: it is no workdir, or the study's config cannot be read.
    """
    config = read_config(workdir)
    wanted = list(settings(config["sweep"]))
    order = {place(setting): i for i, setting in enumerate(wanted)}
    problems: list[str] = []

    def tried(reader: Callable[[Path], T], path: Path) -> T | None:
        """What the reader makes of a path; None if it complains, which is noted."""
        try:
            return reader(path)
        except UserError as error:
            problems.append(str(error))
            return None

    def belongs(run: Result) -> bool:
        """Not if it was left by a study of other axes, of more values of an axis, or of more seeds."""
        expected, config_then = config | run.about["axes"], run.about["config"]
        keys = config_then.keys() & KEYS.keys() - {"seeds"}
        if expected["model.parameters"]:
            keys -= {"model.units"}  # they were chosen, by the parameters
        alike = not different_run({key: expected[key] for key in keys}, {key: config_then[key] for key in keys})
        return alike and place(run.about["axes"]) in order and run.seed < config["seeds"]

    axes = list(wanted[0])
    keys = compared_keys(config)
    found = [tried(lambda folder: read_run(folder, axes, keys), folder) for folder in run_folders(workdir)]
    # A run is its config and seed: an earlier version trained it again where a new axis gave it another name.
    runs = list({(place(run.about["axes"]), run.seed): run for run in found if run and belongs(run)}.values())
    runs.sort(key=lambda run: (order[place(run.about["axes"])], run.seed))
    for run in runs:
        predictions = run.folder / "predictions.npz"
        if run.about["status"] in (FINISHED, DIVERGED) and not predictions.exists():
            problems.append(f"{predictions} is missing, and with it what this network predicts: {anew(run.folder)}")
    shown = ((run, tried(read_predictions, run.folder)) for run in first_of_each_contestant(runs))
    return Results(
        config=config,
        runs=runs,
        total=len(order) * config["seeds"],
        environment=tried(read_environment, workdir / "environment.json") or {},
        speeds=tried(read_speeds, workdir / "speed.json") or [],
        predictions=[(run, stretch) for run, stretch in shown if stretch],
        problems=problems,
    )


def run_folders(workdir: Path) -> list[Path]:
    """The folders of runs that have ended or have event files."""
    files = [*workdir.glob("*/run.json"), *workdir.glob("*/curves.npz"), *workdir.glob("*/events.out.tfevents.*")]
    return sorted({path.parent for path in files if path.parent.name != "study"})


def read_config(workdir: Path) -> dict[str, Any]:
    """The study's config, dotted key -> value as JSON; keys that it does not have yet are at their defaults.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = workdir / "config.json"
    remedy = "move it away and give the command of the study again, which writes it anew and keeps the runs"
    if not path.exists():
        if not (folders := run_folders(workdir)):
            raise UserError(f"--workdir={workdir} holds no study: it has no config.json")
        raise UserError(
            f"{path} is missing, though there are folders of runs such as {folders[0].name}: "
            "put it back, or give the command of the study again, which writes it anew and keeps the runs"
        )

    def written() -> dict[str, Any]:
        content = dict(json.loads(path.read_text()))
        content["seeds"], content["sweep"]
        if None in content.values():
            raise ValueError("it has a null")
        return content

    content, config = complete(read(path, written, remedy)), base()
    try:
        for key, value in content.items():
            if key in KEYS or key == "sweep":
                set_value(config, key, value)
        return as_json(validate(config, registered=False))
    except UserError as error:
        raise UserError(f"{path} cannot be used ({error}): {remedy}") from None


def read_run(folder: Path, axes: list[str], compared: tuple[str, ...]) -> Result:
    """A run, with its place on these axes: it may have been trained when the study had others.

    Raises:
        UserError: a file of it is missing or damaged.
    """
    path = folder / "run.json"
    if not path.exists() and (events := next(folder.glob("events.out.tfevents.*"), None)):
        return read(events, lambda: unfinished(folder, axes, compared), anew(folder))

    def about() -> dict[str, Any]:
        content = dict(json.loads(path.read_text()))
        if content["status"] not in (FINISHED, DIVERGED, FAILED):
            raise ValueError("its status is none")
        float((content.get("held_out") or {}).get("loss", math.nan))
        for key in POLICY if content.get("policy") else ():
            float(content["policy"][key])
        for of in (content.get("errors") or {}, *(content.get("naive_errors") or {}).values()):
            [float(error) for error in of.values()]
        if chosen := content.get("chosen"):
            int(chosen["epoch"])
        return placed(content, axes)

    run = read(path, about, anew(folder))
    if run["status"] == FAILED:
        return Result(folder, run, {"loss": np.array([]), "seconds_per_epoch": np.array([])}, compared)
    curves = read_arrays(folder / "curves.npz", {"loss": 1, "seconds_per_epoch": 1})
    return Result(folder, run, curves, compared)


def unfinished(folder: Path, axes: list[str], compared: tuple[str, ...]) -> Result:
    """A run that has not ended, as far as its event files show it."""
    config, curves = read_events(folder, ["loss", "seconds_per_epoch"])
    about = {"name": folder.name, "status": UNFINISHED, "seed": config.pop("seed"), "config": config}
    return Result(folder, placed(about, axes), curves, compared)


def placed(about: dict[str, Any], axes: list[str]) -> dict[str, Any]:
    """A run's description with its place on the axes.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    config = dict(about["config"])
    if None in config.values():
        raise ValueError("its config has a null")
    if not (isinstance(about["name"], str) and type(about["seed"]) is int and isinstance(config["model.cell"], str)):
        raise ValueError("its name, seed or cell is none")
    config = complete(config, about.get("axes", axes))
    return about | {"config": config, "axes": {key: config[key] for key in axes}}


def first_of_each_contestant(runs: Iterable[Result]) -> list[Result]:
    """Of each contestant the run of the first setting and lowest seed: a choice that has seen no result."""
    finished = [run for run in runs if run.finished]
    if not finished:
        return []
    first = min(finished, key=lambda run: run.seed)
    return [run for run in finished if (run.seed, run.setting) == (first.seed, first.setting)]


def read_predictions(folder: Path) -> dict[str, np.ndarray] | None:
    """A run's stretch of held-out data, see `held_out.HeldOut`; None if it is missing.

    Raises:
        UserError: it is damaged.
    """
    path = folder / "predictions.npz"
    return read_arrays(path, {"predictions": 2, "targets": 2, "change": 1}) if path.exists() else None


def read_environment(path: Path) -> dict[str, Any]:
    """What `environment.json` says; nothing if there is no such file.

    Raises:
        UserError: it is damaged.
    """

    def environment() -> dict[str, Any]:
        content = dict(json.loads(path.read_text()))
        dict(content.get("packages", {})), str.splitlines(content.get("command", ""))
        return content

    return read(path, environment, "remove it, and the next start writes it anew") if path.exists() else {}


def read_speeds(path: Path) -> list[Speed]:
    """The measurements in `speed.json`; none if there is no such file.

    Raises:
        UserError: it is damaged.
    """

    def speeds() -> list[Speed]:
        content = json.loads(path.read_text())
        if not isinstance(content, list):
            raise ValueError("it is no list of measurements")
        return [speed_of(about) for about in content]

    return read(path, speeds, "remove it, and the speed is measured again") if path.exists() else []


def speed_of(about: dict[str, Any]) -> Speed:
    """A measurement; version 0.1 measured an LSTM and a GRU alone."""
    about["backend"], about["device"], about["train.backend"]
    seconds = (
        about["seconds_of"] if "seconds_of" in about else {cell: about[f"{cell}_seconds"] for cell in ("lstm", "gru")}
    )
    arrays = {name: np.array(samples, float) for name, samples in seconds.items()}
    if len({array.shape for array in arrays.values()}) != 1 or not all((array > 0).all() for array in arrays.values()):
        raise ValueError("its samples are not of one number, or not times")
    return Speed(about, arrays)


def read_arrays(path: Path, axes: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of a run's .npz file.

    Args:
        path: the file.
        axes: name -> how many axes it has, of those that must be there; arrays of as many are of one shape, and all
            have the first axis in common.

    Raises:
        UserError: it is missing or damaged.
    """

    def arrays() -> dict[str, np.ndarray]:
        zipfile.ZipFile(path).close()  # whose complaints, unlike NumPy's, advise nobody to unpickle
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except ValueError:
            raise ValueError("it holds something else than arrays of numbers") from None
        shapes = {name: found[name].shape for name in axes}
        of_one = len({shape[0] for shape in shapes.values()}) == 1 and len(set(shapes.values())) == len(
            set(axes.values())
        )
        alike = of_one and all(len(shapes[name]) == count for name, count in axes.items())
        if not alike or any(array.dtype.kind not in "fiu" for array in found.values()):
            raise ValueError("its arrays are not of the kind that was written")
        return found

    return read(path, arrays, anew(path.parent))


def anew(folder: Path) -> str:
    """What to do about a run that cannot be read."""
    return f"move {folder} away and {AGAIN}"


def read(path: Path, reader: Callable[[], T], remedy: str) -> T:
    """What the reader makes of a file.

    Raises:
        UserError: the file is missing or damaged; says what to do about it.
    """
    try:
        return reader()
    except FileNotFoundError:
        what = "is missing"
    except KeyError as error:
        what = f"cannot be read (it has no {error})"
    except Exception as error:  # what a damaged file makes a reader raise has no end
        what = f"cannot be read ({' '.join(str(error).split()) or type(error).__name__})"
    raise UserError(f"{path} {what}: {remedy}")


def place(axes: dict[str, Any]) -> str:
    """A setting's name, the same for that of the config and that of a `run.json`."""
    return json.dumps(axes, sort_keys=True)
