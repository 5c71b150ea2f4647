"""A study: a config expanded into runs, the runs grouped into cohorts, the cohorts trained into a workdir.

The workdir holds `config.json` (the resolved config), `environment.json` (the command, machine and versions of the
last start), one folder per run, `checkpoints/` while cohorts are on their way, `speed.json` (what `rnn_compare.speed`
measured), and what `rnn_compare.report` makes of the runs. A study started again leaves ended runs alone and goes on
with the others.
"""

import contextlib
import hashlib
import json
import os
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare import interrupt, launch, lock, report, speed
from rnn_compare.checkpoint import begun, forget_ended
from rnn_compare.config import KEYS, LARGEST, UserError, leaves, set_value, settings
from rnn_compare.environment import environment
from rnn_compare.fit import attempt
from rnn_compare.logs import Board, Row, say, write_study_log
from rnn_compare.model import make_model
from rnn_compare.report.results import read_speeds
from rnn_compare.runs import (
    FINISHED,
    Run,
    as_json,
    different,
    ended,
    identity,
    over,
    read,
    remove_parts,
    tally,
    write_atomically,
)
from rnn_compare.stats import measures
from rnn_compare.train import Cohort, memory_needed

FORMAT = 1  # of a workdir
LONGEST_NAME = 255  # bytes in the name of a file or folder, on nearly all file systems


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


def cohorts(runs: list[Run], begun: Iterable[dict[str, str]] = ()) -> list[list[Run]]:
    """The runs grouped by all that a compiled program depends on, in order of first appearance.

    Runs that were `begun` together, name -> hash, stay together and apart from others: they go on from an epoch of
    their own.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        shape = tuple((key, value) for key, value in leaves(run.config) if not KEYS[key].stacks)
        named = ((i, hashes[run.name]) for i, hashes in enumerate(begun) if run.name in hashes)
        before = next((i for i, hash in named if hash == identity(run)), None)
        groups.setdefault((before, shape), []).append(run)
    return list(groups.values())


def split(cohort: list[Run], budget: int) -> list[list[Run]]:
    """Cuts a cohort into parts, each of which gives every local device as many runs and fits into its memory.

    Args:
        cohort: the runs.
        budget: bytes on each device, which are compared with what the compiled program says it needs.

    Returns:
        Parts of nearly one size; runs that are too few for all devices are a last one.
    """
    config, devices = cohort[0].config, len(jax.local_devices())
    rest = len(cohort) % devices
    if rest and len(cohort) > devices:
        return [*split(cohort[:-rest], budget), cohort[-rest:]]
    if len(cohort) > 2 * devices:
        two, three = (memory_needed(config, devices * runs) for runs in (2, 3))
        most = 2 + (budget - two) // (three - two)
    else:
        most = 2 if memory_needed(config, len(cohort)) <= budget else 1
    most = min(max(most, 1) * devices, most_open_files())
    parts, each = -(-len(cohort) // most), max(1, len(cohort) // devices)
    cuts = [i * each // parts * devices for i in range(parts)] + [len(cohort)]
    return [cohort[start:end] for start, end in pairwise(cuts)]


def most_open_files() -> int:
    """How many runs can have their event files open at once, less some for all else; raises the limit if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(1, soft - 200) if soft != resource.RLIM_INFINITY else LARGEST


def device_memory() -> int:
    """Bytes of the first device's memory, or of what this process may have of the machine's."""
    if stats := jax.devices()[0].memory_stats():  # None on a CPU
        return stats["bytes_limit"]
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))  # of a container
    except (OSError, ValueError):
        return machine


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
    if (format := old.pop("format", FORMAT)) != FORMAT:
        raise UserError(
            f"--workdir={workdir} is of format {format} and this version works with format {FORMAT}: "
            "choose another workdir, or the version that made it"
        )
    new = as_json(config)
    if keys := [key for key in different(old, new) if key not in ("seeds", "sweep")]:
        differences = ", ".join(f"{key} is {old.get(key)} there and {new.get(key)} here" for key in keys)
        raise UserError(f"--workdir={workdir} holds results of another config ({differences}): choose another workdir")


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
    try:
        for cohort in cohorts(runs):
            make_model(cohort[0].config)
    except ValueError as error:
        raise UserError(f"config.train.backend: {error}") from None
    if dry_run:
        total = 0.0
        for cohort in plan(runs, workdir, retry_failed):
            seconds = seconds_per_epoch(cohort[0].config) * len(cohort) * cohort[0].config.train.epochs
            say(f"{launch.title(cohort)}: about {seconds / 60:.1f} minutes here, by the second epoch of one run")
            total += seconds
        say(f"in all about {total / 60:.1f} minutes")
        return True
    try:
        work(config, runs, workdir, run_cohorts, retry_failed)
    except OSError as error:
        what = f"{error}; what is complete there stays, and the same command goes on from it"
        raise UserError(f"--workdir={workdir}: {what}") from None
    if lost := sum(not (workdir / run.name / "run.json").exists() for run in runs):
        say(f"{lost} of {len(runs)} runs have not ended: the same command tries them again")
    return not lost and all(read(workdir / run.name)["status"] == FINISHED for run in runs)


def work(config: ConfigDict, runs: list[Run], workdir: Path, run_cohorts: launch.Launcher, retry_failed: bool) -> None:
    """Trains what is left to train, and reports.

    Raises:
        UserError, OSError: something cannot be read or written.
        Interrupted: a signal asked to stop.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.held(workdir), interrupt.listening():
        check_workdir(workdir, config)  # again: another process may have held the lock until now
        remove_parts(workdir)
        todo = plan(runs, workdir, retry_failed)
        write_atomically(workdir / "config.json", json.dumps({"format": FORMAT, **as_json(config)}, indent=2) + "\n")
        write_atomically(workdir / "environment.json", json.dumps(environment(), indent=2) + "\n")
        rows = [Row(launch.title(cohort), len(cohort), cohort[0].config.train.epochs) for cohort in todo]
        with Board(rows, lambda: tally(runs, workdir)) as board:
            run_cohorts(todo, workdir, attempt, board)
        forget_ended(workdir)
        write_speed(config, runs, workdir)
        write_report(config, runs, workdir)


def plan(runs: list[Run], workdir: Path, retry_failed: bool) -> list[list[Run]]:
    """The cohorts that are still to be trained; says what they are.

    Raises:
        UserError: the workdir holds runs of another config, or one that cannot be read; or a run is too large.
    """
    left = [run for run in runs if not ended(run, workdir, retry_failed)]
    say(f"{workdir}: {len(runs)} runs, {len(runs) - len(left)} of them ended earlier")
    if failed := sum(not over(workdir / run.name) for run in runs) - len(left):
        say(f"{failed} of those failed: --retry_failed tries them again")
    device = jax.devices()[0]
    say(f"device: {device.platform} ({device.device_kind}), {os.cpu_count()} CPU cores, JAX {jax.__version__}")
    todo = []
    for cohort in cohorts(left, list(begun(workdir).values())):
        interrupt.check()
        config = cohort[0].config
        for part in split(cohort, int(config.train.memory * 1e9) or device_memory() // 2):
            if (memory := memory_needed(config, len(part))) > device_memory():
                raise UserError(
                    f"config.data.length={config.data.length} with config.data.sequences={config.data.sequences} and "
                    f"config.model.units={config.model.units} needs {memory / 1e9:.3g} GB of memory, and there are "
                    f"{device_memory() / 1e9:.3g}: a smaller number would do"
                )
            say(*describe(part))
            todo.append(part)
    return todo


def write_speed(config: ConfigDict, runs: list[Run], workdir: Path) -> None:
    """Measures the two cells' speed with each `train.backend`, at the study's first setting with it, if asked for.

    What was measured with the same limit and precision is kept. A cell of which no run could be trained is not tried.

    Raises:
        UserError: `speed.json` cannot be read.
    """
    path, asked = workdir / "speed.json", {"limit": config.speed.limit, "precision": config.speed.precision}
    if not config.speed.limit:
        return
    measured = {backend: found.about for backend, found in read_speeds(path).items()}
    trained = [run.config for run in runs if ended(run, workdir, retry_failed=True)]
    for backend in dict.fromkeys(run.config.train.backend for run in runs):
        cells = {c.model.cell for c in trained if c.train.backend == backend}
        if asked.items() <= measured.get(backend, {}).items() or not cells >= {"lstm", "gru"}:
            continue
        say(f"measuring the cells' speed with backend {backend}, at most {config.speed.limit:g} s")
        first = next(run.config for run in runs if run.config.train.backend == backend)
        try:
            result = speed.measure(with_cell(first, "lstm"), with_cell(first, "gru"), **asked)
        except jax.errors.JaxRuntimeError as error:  # out of memory, for one: the runs shall be reported all the same
            say(f"the speed could not be measured: {str(error).splitlines()[0]}")
            continue
        measured[backend] = {"train.backend": backend, **asked, **result}
        write_atomically(path, json.dumps(list(measured.values())) + "\n")
        say(
            f"an LSTM epoch takes {result['ratio']:.3g} ({result['low']:.3g} to {result['high']:.3g}) times a GRU "
            f"epoch, {result['pairs']} pairs"
        )


def with_cell(config: ConfigDict, cell: str) -> ConfigDict:
    """A run's config with another cell."""
    other = config.copy_and_resolve_references().unlock()
    other.model.cell = cell
    return other.lock()


def write_report(config: ConfigDict, runs: list[Run], workdir: Path) -> None:
    """Tables and figures of the runs that have ended, on the terminal, in the workdir and in TensorBoard."""
    if any((workdir / run.name / "run.json").exists() for run in runs):
        table, figures = report.write(workdir)
        axes = {name: list(dict.fromkeys(run.axes[name] for run in runs)) for name in runs[0].axes}
        axes["seed"] = list(range(config.seeds))
        write_study_log(workdir, as_json(config), axes, [*measures(np.array([])), "held_out_loss"], table, figures)
        say(table)
