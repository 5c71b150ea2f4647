"""On a machine with a GPU: whether a study is computed there, or on the machine's processor, whose kernels may win."""

import os
import sys
from pathlib import Path

import jax

from rnn_compare.console.terminal import say
from rnn_compare.network.model import inputs_of_layers, make_cell
from rnn_compare.recurrence import shapes
from rnn_compare.recurrence.gpu import race
from rnn_compare.study.cohorts import group, title
from rnn_compare.tasks import make_task
from rnn_compare.workdir.runs import Run


def on_the_faster(runs: list[Run], workdir: Path) -> None:
    """Holds the races of a study and says how they ended; starts the program again without the GPU if it loses.

    Does nothing without one. Runs that ask for a backend by name have chosen.

    Args:
        runs: those of the study.
        workdir: where the races are kept, so that a study goes on with what it began with.
    """
    if jax.default_backend() != "gpu" or any(run.config.train.backend != "auto" for run in runs):
        return
    race.beside[:] = [workdir / "races"]
    races = []
    for cohort in group(runs):
        of_layers = raced(cohort)
        races += of_layers
        for said in dict.fromkeys(map(str, of_layers)):
            say(f"{title(cohort)}: {said}")
    if not all("cpu" in ended.seconds for ended in races):
        return
    here, host = (
        sum(ended.seconds[ended.fastest(host=False) if on_gpu else "cpu"] / ended.steps for ended in races)
        for on_gpu in (True, False)
    )
    if host < here:
        name = jax.devices()[0].device_kind
        say(f"this machine's processor is {here / host:.2g} times as fast at this as {name}: going on without the GPU")
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"JAX_PLATFORMS": "cpu"})


def raced(cohort: list[Run]) -> list[race.Race]:
    """The race of each of a cohort's layers."""
    config = cohort[0].config
    task = make_task(config)
    cell = make_cell(config.model)
    races = []
    for size in inputs_of_layers(task.features, cell.units, config.model.layers):
        params, x, carry = shapes(cell, size, task.steps, config.data.sequences)
        races.append(race.race(cell.step, params, x, carry, len(cohort)))
    return races
