"""A study: a config expanded into runs, the runs grouped into cohorts, the cohorts trained into a workdir.

The workdir holds `config.json` (the resolved config), one folder per run, and what `rnn_compare.report` makes of them.
A run's folder holds `run.json` (what it is and how it ended), `curves.npz`, `params.npz` and its TensorBoard events;
it is finished once `run.json` is there, and a study started again leaves finished runs alone.
"""

import json
import os
import tempfile
import time
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
from rnn_compare.train import Chunk, Cohort

FINISHED, DIVERGED = "finished", "diverged"


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
    """A readable name: the cell, then each axis' value, numbers behind their key, then the seed."""
    words = [cell]
    for key, value in axes.items():
        if key != "model.cell":
            words.append(value if isinstance(value, str) else f"{key.rsplit('.', 1)[-1]}={_plain(value)}")
    return "-".join([*words, f"s{seed}"])


def _plain(value: Any) -> str:
    return "+".join(map(_plain, value)) if isinstance(value, tuple) else repr(value).removesuffix(".0")


def cohorts(runs: list[Run]) -> list[list[Run]]:
    """The runs grouped by all that a compiled program depends on, in order of first appearance."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        shape = tuple((key, value) for key, value in leaves(run.config) if not KEYS[key].stacks)
        groups.setdefault(shape, []).append(run)
    return list(groups.values())


def describe(cohort: list[Run]) -> Iterator[str]:
    """What a cohort is going to do, in lines for a person."""
    config = cohort[0].config
    backend = make_model(config).backend
    T, B, F, H = config.data.length, config.data.sequences, config.data.window, config.model.units
    yield f"{', '.join(run.name for run in cohort[:6])}{' …' if len(cohort) > 6 else ''}"
    yield (
        f"  {len(cohort)} stacked run{'s'[: len(cohort) > 1]} × {config.train.epochs} epochs; inputs [{T}, {B}, {F}]"
        f" → {config.model.cell} [{T}, {B}, {H}] → 7 action values; backend {backend}"
    )


def check_workdir(workdir: Path, config: ConfigDict) -> None:
    """Complains about a workdir that cannot be written or holds another config's results. Writes nothing.

    Raises:
        UserError: in one sentence.
    """
    there = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--workdir={workdir}: {there} is a file, so no folder can be made there")
    try:
        tempfile.TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {there} cannot be written to ({error.strerror})") from None
    try:
        old = json.loads((workdir / "config.json").read_text())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise UserError(f"--workdir={workdir}: its config.json cannot be read ({error})") from None
    new = as_json(config)
    keys = [key for key in (old | new) if old.get(key) != new.get(key) and key not in ("seeds", "sweep")]
    if keys:
        differences = ", ".join(f"{key} is {old.get(key)} there and {new.get(key)} here" for key in keys)
        raise UserError(f"--workdir={workdir} holds results of another config ({differences}): choose another workdir")


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as flat JSON values, dotted key -> value."""
    return json.loads(json.dumps(dict(leaves(config))))


def execute(config: ConfigDict, workdir: Path, dry_run: bool, launcher: str = "local") -> bool:
    """Runs a study: says what it is going to do, does it, reports.

    Args:
        config: a validated config.
        workdir: where the results go.
        dry_run: only say.
        launcher: where the cohorts are trained, a name in `launch.LAUNCHERS`.

    Returns:
        Whether every run finished with finite losses.

    Raises:
        UserError: the workdir or the launcher cannot serve.
    """
    run_cohorts = launch.pick(launcher)
    check_workdir(workdir, config)
    runs = expand(config)
    todo = cohorts([run for run in runs if not (workdir / run.name / "run.json").exists()])
    device = jax.devices()[0]
    say(f"{workdir}: {len(runs)} runs, {len(runs) - sum(map(len, todo))} of them finished earlier")
    say(f"device: {device.platform} ({device.device_kind}), {os.cpu_count()} CPU cores, JAX {jax.__version__}")
    try:
        for cohort in todo:
            say(*describe(cohort))
    except ValueError as error:
        raise UserError(f"config.train.backend: {error}") from None
    if dry_run:
        return True
    workdir.mkdir(parents=True, exist_ok=True)
    write_atomically(workdir / "config.json", json.dumps(as_json(config), indent=2) + "\n")
    run_cohorts(todo, workdir, train)
    done = [run.name for run in runs if (workdir / run.name / "run.json").exists()]
    if done:
        table = report.write(workdir, done)
        write_study_log(workdir, as_json(config), workdir / "loss.png", table)
        say(table)
    if failed := [run.name for run in runs if run.name not in done]:
        say(f"{len(failed)} of {len(runs)} runs failed ({', '.join(failed)}): the same command tries them again")
    return not failed and all(read_run(workdir / name)["status"] == FINISHED for name in done)


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
    with Progress(title, epochs) as progress:
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
        log.close()
        folder = workdir / run.name
        np.savez(folder / "curves.npz", **{name: curve[:, r] for name, curve in curves.items()})
        np.savez(folder / "params.npz", **flat_params(chunk, r))
        result = {
            "name": run.name,
            "status": DIVERGED if r in diverged else FINISHED,
            "diverged_at": diverged.get(r),
            "seed": run.seed,
            "axes": run.axes,
            "parameters": cohort.parameters,
            "config": as_json(run.config),
        }
        write_atomically(folder / "run.json", json.dumps(result, indent=2) + "\n")


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
