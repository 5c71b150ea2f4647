"""A study: a config expanded into runs, the runs grouped into cohorts, the cohorts trained into a workdir.

The workdir holds `config.json` (the resolved config), `environment.json` (the command, machine and versions of the
last start), one folder per run, `checkpoints/` while cohorts are on their way, `speed.json` (what `training.speed`
measured), and what `rnn_compare.report` makes of the runs. A study started again leaves ended runs alone and goes on
with the others.
"""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from rnn_compare import report
from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.study import launch
from rnn_compare.study.board import Board, Row
from rnn_compare.study.cohorts import title
from rnn_compare.study.estimate import say_estimate
from rnn_compare.study.expansion import expand
from rnn_compare.study.fit import attempt
from rnn_compare.study.machine import environment
from rnn_compare.study.place import on_the_faster
from rnn_compare.study.planning import check_models, plan
from rnn_compare.study.source import Source
from rnn_compare.study.timing import write_speed
from rnn_compare.workdir import lock
from rnn_compare.workdir.checkpoint import begun, forget_ended
from rnn_compare.workdir.files import remove_parts, write_atomically
from rnn_compare.workdir.opening import FORMAT, check_workdir
from rnn_compare.workdir.runs import FINISHED, Run, adopted, as_json, read, tally
from rnn_compare.workdir.tensorboard import SMOOTHING, write_study_log


def execute(
    config: ConfigDict,
    workdir: Path,
    dry_run: bool,
    launcher: str = "local",
    retry_failed: bool = False,
    source: Callable[[], Source] = Source,
) -> bool:
    """Runs a study: says what it is going to do, does it, reports.

    Args:
        config: a validated config.
        workdir: where the results go.
        dry_run: only say.
        launcher: where the cohorts are trained, a name in `launch.LAUNCHERS`.
        retry_failed: train runs again that failed earlier.
        source: reads the config file, for workers that shall know the names that it registers.

    Returns:
        Whether every run finished with finite losses.

    Raises:
        UserError: the workdir or the launcher cannot serve.
    """
    check_workdir(workdir, config)
    runs = adopted(expand(config), workdir, begun(workdir).values())
    with launch.launched(launcher, source) as place:
        place.call(check_models, runs)
        if launcher == "local":
            on_the_faster(runs, workdir)
        if dry_run:
            place.call(say_estimate, config, plan(runs, workdir, retry_failed, place.call))
            return True
        try:
            work(config, runs, workdir, place, retry_failed)
        except OSError as error:
            what = f"{error}; what is complete there stays, and the same command goes on from it"
            raise UserError(f"--workdir={workdir}: {what}") from None
    if lost := sum(not (workdir / run.name / "run.json").exists() for run in runs):
        say(f"{lost} of {len(runs)} runs have not ended: the same command tries them again")
    return not lost and all(read(workdir / run.name)["status"] == FINISHED for run in runs)


def work(config: ConfigDict, runs: list[Run], workdir: Path, place: launch.Launcher, retry_failed: bool) -> None:
    """Trains what is left to train, and reports.

    Raises:
        UserError, OSError: something cannot be read or written.
        Interrupted: a signal asked to stop.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with lock.held(workdir), interrupt.listening():
        check_workdir(workdir, config)  # again: another process may have held the lock until now
        remove_parts(workdir)
        todo = plan(runs, workdir, retry_failed, place.call)
        write_atomically(workdir / "config.json", json.dumps({"format": FORMAT, **as_json(config)}, indent=2) + "\n")
        write_atomically(workdir / "environment.json", json.dumps(environment(), indent=2) + "\n")
        rows = [Row(title(cohort), len(cohort), cohort[0].config.train.epochs) for cohort in todo]
        with Board(rows, lambda: tally(runs, workdir)) as board:
            place.train(todo, workdir, attempt, board)
        forget_ended(workdir)
        write_speed(config, runs, workdir, place.call)
        write_report(config, runs, workdir)


def write_report(config: ConfigDict, runs: list[Run], workdir: Path) -> None:
    """Tables and figures of the runs that have ended, on the terminal, in the workdir and in TensorBoard."""
    if any((workdir / run.name / "run.json").exists() for run in runs):
        table, figures = report.write(workdir)
        axes = {name: list(dict.fromkeys(run.axes[name] for run in runs)) for name in runs[0].axes}
        axes["seed"] = list(range(config.seeds))
        write_study_log(workdir, as_json(config), axes, table, figures)
        say(table, SMOOTHING)
        say(f"report:  {workdir / 'report.html'}", f"curves:  tensorboard --logdir {shlex.quote(str(workdir))}")
