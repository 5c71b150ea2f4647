"""A study: a config expanded into runs, the runs grouped into cohorts, the cohorts trained into a workdir.

The workdir holds `config.json` (the resolved config), one folder per run, and what `rnn_compare.report` makes of them.
A run's folder holds `run.json` (what it is and how it ended), `curves.npz`, `params.npz` and its TensorBoard events;
it has ended once `run.json` is there, and a study started again leaves ended runs alone.
"""

import hashlib
import json
import os
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from rnn_compare import launch, report
from rnn_compare.config import KEYS, UserError, leaves, set_value, settings
from rnn_compare.logs import Progress, RunLog, say, write_study_log
from rnn_compare.model import make_model
from rnn_compare.stats import measures
from rnn_compare.train import Chunk, Cohort, memory_needed

LONGEST_NAME = 255  # bytes in the name of a file or folder, on nearly all file systems

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"


@dataclass(frozen=True)
class Run:
    """One setting and one seed.

    Attributes:
        name: the name of its folder and of its curves in TensorBoard.
        axes: dotted key -> value, for the keys that the study varies.
        seed: what its data and its weights are drawn from.
        config: the study's config at this setting, without `seeds` and `sweep`.
    """

    name: str
    axes: dict[str, Any]
    seed: int
    config: ConfigDict


def expand(config: ConfigDict) -> list[Run]:
    """All runs of a validated config: the product of its axes, times its seeds."""
    runs = []
    for setting in settings(config.sweep):
        for seed in range(config.seeds):
            resolved = ConfigDict(type_safe=False)
            for key, value in leaves(config):
                if key not in ("seeds", "sweep"):
                    set_value(resolved, key, setting.get(key, value))
            runs.append(Run(run_name(resolved.model.cell, setting, seed), setting, seed, resolved.lock()))
    return runs


def run_name(cell: str, axes: dict[str, Any], seed: int) -> str:
    """A readable name: the cell, then each axis' value, numbers behind their key, then the seed.

    Where that is too long for a folder, a digest stands for its end.
    """
    words = [cell]
    for key, value in axes.items():
        if key != "model.cell":
            words.append(value if isinstance(value, str) else f"{key.rsplit('.', 1)[-1]}={_plain(value)}")
    name, end = "-".join(words), f"-s{seed}"
    if len((name + end).encode()) > LONGEST_NAME:
        end = f"-{hashlib.sha256(name.encode()).hexdigest()[:12]}{end}"
        name = name.encode()[: LONGEST_NAME - len(end)].decode(errors="ignore")
    return name + end


def _plain(value: Any) -> str:
    return "+".join(map(_plain, value)) if isinstance(value, tuple) else repr(value).removesuffix(".0")


def cohorts(runs: list[Run]) -> list[list[Run]]:
    """The runs grouped by all that a compiled program depends on, in order of first appearance."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        shape = tuple((key, value) for key, value in leaves(run.config) if not KEYS[key].stacks)
        groups.setdefault(shape, []).append(run)
    return list(groups.values())


def split(cohort: list[Run], budget: int) -> list[list[Run]]:
    """Cuts a cohort into equal parts that fit into a budget of bytes, by what the compiled program says it needs."""
    if len(cohort) < 3:
        return [cohort]
    two, three = (memory_needed(cohort[0].config, runs) for runs in (2, 3))
    most = max(1, 2 + (budget - two) // (three - two))
    parts = -(-len(cohort) // most)
    return [cohort[i * len(cohort) // parts : (i + 1) * len(cohort) // parts] for i in range(parts)]


def memory_budget(config: ConfigDict) -> int:
    """Bytes that a cohort may take: `train.memory`, or half of the device's memory."""
    if config.train.memory:
        return int(config.train.memory * 1e9)
    stats = jax.devices()[0].memory_stats()  # None on a CPU
    return (stats["bytes_limit"] if stats else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // 2


def describe(cohort: list[Run]) -> Iterator[str]:
    """What a cohort is going to do, in lines for a person."""
    config, R = cohort[0].config, len(cohort)
    T, B, F, H = config.data.length, config.data.sequences, config.data.window, config.model.units
    memory = memory_needed(config, R) / 1e9
    yield f"{', '.join(run.name for run in cohort[:6])}{' …' if R > 6 else ''}"
    yield (
        f"  {R} stacked run{'s'[: R > 1]} × {config.train.epochs} epochs; inputs [{T}, {B}, {F}] → {config.model.cell} "
        f"[{T}, {B}, {H}] → 7 action values; backend {make_model(config).backend}, {memory:.2g} GB"
    )


def seconds_per_epoch(config: ConfigDict) -> float:
    """How long one run takes for an epoch on this machine, measured."""
    cohort = Cohort([(config, 0)])
    cohort.compile()
    jax.block_until_ready(cohort.advance(1))
    start = time.perf_counter()
    jax.block_until_ready(cohort.advance(1))
    return time.perf_counter() - start


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Complains about a workdir that cannot be written or holds another config's results. Writes nothing.

    Raises:
        UserError: in one sentence.
    """
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in workdir.parts):
        raise UserError(f"--workdir={workdir}: a folder's name has at most {LONGEST_NAME} bytes")
    there = next(path for path in (workdir, *workdir.absolute().parents) if os.path.lexists(path))
    if not there.is_dir():
        raise UserError(f"--workdir={workdir}: {there} is a file, so no folder can be made there")
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {there} cannot be written to ({error.strerror})") from None
    try:
        old = dict(json.loads((workdir / "config.json").read_text()))
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--workdir={workdir}: its config.json cannot be read ({error})") from None
    new = as_json(config)
    keys = [key for key in (old | new) if old.get(key) != new.get(key) and key not in ("seeds", "sweep")]
    if keys:
        differences = ", ".join(f"{key} is {old.get(key)} there and {new.get(key)} here" for key in keys)
        raise UserError(f"--workdir={workdir} holds results of another config ({differences}): choose another workdir")


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as flat JSON values, dotted key -> value."""
    return json.loads(json.dumps(dict(leaves(config))))


def execute(
    config: ConfigDict, workdir: Path, dry_run: bool, launcher: str = "local", retry_failed: bool = False
) -> bool:
    """Runs a study: says what it is going to do, does it, reports.

    Args:
        config: a validated config.
        workdir: where the results go.
        dry_run: only say.
        launcher: where the cohorts are trained, a name in `launch.LAUNCHERS`.
        retry_failed: train runs again that failed earlier.

    Returns:
        Whether every run finished with finite losses.

    Raises:
        UserError: the workdir or the launcher cannot serve.
    """
    run_cohorts = launch.pick(launcher)
    check_workdir(workdir, config)
    runs = expand(config)
    todo = cohorts([run for run in runs if not ended(run, workdir, retry_failed)])
    device = jax.devices()[0]
    say(f"{workdir}: {len(runs)} runs, {len(runs) - sum(map(len, todo))} of them finished earlier")
    say(f"device: {device.platform} ({device.device_kind}), {os.cpu_count()} CPU cores, JAX {jax.__version__}")
    try:
        for cohort in todo:
            make_model(cohort[0].config)
    except ValueError as error:
        raise UserError(f"config.train.backend: {error}") from None
    todo = [part for cohort in todo for part in split(cohort, memory_budget(config))]
    for cohort in todo:
        say(*describe(cohort))
        if dry_run:
            seconds = seconds_per_epoch(cohort[0].config) * len(cohort) * cohort[0].config.train.epochs
            say(f"  about {seconds / 60:.1f} minutes here, by the second epoch of one run")
    if dry_run:
        return True
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "config.json", json.dumps(as_json(config), indent=2) + "\n")
    run_cohorts(todo, workdir, attempt)
    done = [run for run in runs if (workdir / run.name / "run.json").exists()]
    if done:
        table, figures = report.write(workdir, [run.name for run in done])
        axes = {name: list(dict.fromkeys(run.axes[name] for run in runs)) for name in runs[0].axes}
        axes["seed"] = list(range(config.seeds))
        write_study_log(workdir, as_json(config), axes, list(measures(np.array([]))), table, figures)
        say(table)
    if lost := len(runs) - len(done):
        say(f"{lost} of {len(runs)} runs have not ended: the same command tries them again")
    return not lost and all(read_run(workdir / run.name)["status"] == FINISHED for run in runs)


def train(runs: list[Run], workdir: Path) -> None:
    """Trains one cohort and leaves each run's folder complete."""
    start = time.perf_counter()
    config = runs[0].config
    epochs, histogram_every = config.train.epochs, config.log.histogram_every
    say("preparing data, initial weights and the program (the first time on a machine, 10 to 20 s)")
    cohort = Cohort([(run.config, run.seed) for run in runs])
    cohort.compile()
    prepared = time.perf_counter() - start
    say(f"prepared in {prepared:.1f} s; {cohort.parameters} parameters each")
    logs = [RunLog(workdir / run.name, {"seed": run.seed, **as_json(run.config)}) for run in runs]
    chunks: list[dict[str, Any]] = []
    diverged: dict[int, int] = {}  # the run's place in the cohort -> epoch
    title = runs[0].name if len(runs) == 1 else f"{runs[0].name} … {runs[-1].name}"
    with Progress(title, epochs, len(runs), tally(workdir)) as progress:
        clock = time.perf_counter()
        for chunk in cohort.fit(stop_every=histogram_every):
            loss = chunk.metrics["loss"]
            done = chunk.start + len(loss)
            seconds = (time.perf_counter() - clock) / len(loss) / len(runs)
            clock = time.perf_counter()
            chunks.append({**chunk.metrics, "seconds_per_epoch": np.full_like(loss, seconds)})
            for r in np.flatnonzero(np.isnan(loss[-1])).tolist():
                if r not in diverged:
                    diverged[r] = chunk.start + int(np.argmax(np.isnan(loss[:, r])))
                    say(f"{runs[r].name} diverged: its loss or gradient is not finite at epoch {diverged[r]}")
            for r, log in enumerate(logs):
                log.scalars(chunk.start, {name: values[:, r] for name, values in chunks[-1].items()})
                if done % histogram_every == 0 or done == epochs:
                    log.histograms(done, flat_params(chunk, r))
            progress.update(done, loss[-1])
            if len(diverged) == len(runs):
                break
    curves: dict[str, Any] = {name: np.concatenate([part[name] for part in chunks]) for name in chunks[0]}
    for r, (run, log) in enumerate(zip(runs, logs, strict=True)):
        log.end(done, {**run.axes, "seed": run.seed}, measures(curves["loss"][:, r]), finished=r not in diverged)
        folder = workdir / run.name
        np.savez(folder / "curves.npz", **{name: curve[:, r] for name, curve in curves.items()})
        np.savez(folder / "params.npz", **flat_params(chunk, r))
        ended = {"status": DIVERGED if r in diverged else FINISHED, "diverged_at": diverged.get(r)}
        write_run(run, workdir, **ended, parameters=cohort.parameters)


def tally(workdir: Path) -> str:
    """How many runs have ended in a workdir, in words."""
    statuses = [json.loads(path.read_text())["status"] for path in workdir.glob("*/run.json")]
    return f"{statuses.count(FINISHED)} finished, {statuses.count(DIVERGED)} diverged, {statuses.count(FAILED)} failed"


def attempt(runs: list[Run], workdir: Path) -> None:
    """Trains one cohort; what goes wrong is said and kept in its runs' folders, and other cohorts can go on."""
    try:
        train(runs, workdir)
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        say(f"{runs[0].name}{' …' if len(runs) > 1 else ''} failed: {what.splitlines()[0]} (see its run.json)")
        for run in runs:
            trace = traceback.format_exc()
            write_run(run, workdir, status=FAILED, diverged_at=None, parameters=None, error=what, traceback=trace)


def write_run(run: Run, workdir: Path, **ended: Any) -> None:
    """Writes `run.json`, which makes a run count as ended; `hash` ties its name to its config and seed."""
    config = as_json(run.config)
    digest = hashlib.sha256(json.dumps([config, run.seed], sort_keys=True).encode()).hexdigest()[:12]
    result = {"name": run.name, "hash": digest, "seed": run.seed, "axes": run.axes, **ended, "config": config}
    (workdir / run.name).mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / run.name / "run.json", json.dumps(result, indent=2) + "\n")


def ended(run: Run, workdir: Path, retry_failed: bool) -> bool:
    """Whether a run need not be trained (again).

    Raises:
        UserError: its folder holds a run of another config.
    """
    try:
        result = read_run(workdir / run.name)
        old, status = dict(result["config"]), result["status"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--workdir={workdir}: {run.name}/run.json cannot be read ({error})") from None
    new = as_json(run.config)
    if keys := [key for key in new if old.get(key) != new[key]]:
        raise UserError(f"--workdir={workdir}: {run.name} was run with another {keys[0]}: choose another workdir")
    return not (retry_failed and status == FAILED)


def flat_params(chunk: Chunk, r: int) -> dict[str, Any]:
    """The parameters of the cohort's run number r after a chunk, "recurrent/kernel" and so on."""
    return flatten_dict(jax.tree.map(lambda leaf: leaf[r], chunk.params), sep="/")


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` says of a finished run."""
    return json.loads((folder / "run.json").read_text())


def write_atomically(path: Path, text: str) -> None:
    """Writes a file that is there either whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.replace(path)
