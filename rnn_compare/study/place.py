"""On a machine with a GPU: whether a study is computed there, or on the machine's processor, whose kernels may win."""

import os
import sys

import jax

from rnn_compare.console.terminal import say
from rnn_compare.network.model import make_cell
from rnn_compare.recurrence import shapes
from rnn_compare.recurrence.gpu.race import Race, race
from rnn_compare.study.cohorts import group
from rnn_compare.workdir.runs import Run


def on_the_faster(runs: list[Run]) -> None:
    """Starts the program again without the GPU if the processor is faster; does nothing elsewhere, or if it is not.

    Runs that ask for a backend by name have chosen.
    """
    if jax.default_backend() != "gpu" or any(run.config.train.backend != "auto" for run in runs):
        return
    races = [raced(cohort) for cohort in group(runs)]
    if not all("cpu" in race.seconds for race in races):
        return
    here, host = (
        sum(race.seconds[race.fastest(host=False) if on_gpu else "cpu"] / race.steps for race in races)
        for on_gpu in (True, False)
    )
    if host < here:
        name = jax.devices()[0].device_kind
        say(f"this machine's processor is {here / host:.2g} times as fast at this as {name}: going on without the GPU")
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"JAX_PLATFORMS": "cpu"})


def raced(cohort: list[Run]) -> Race:
    """The race of a cohort's recurrence."""
    config, data = cohort[0].config, cohort[0].config.data
    cell = make_cell(config.model)
    params, x, carry = shapes(cell, data.window, data.length, data.sequences)
    return race(cell.step, params, x, carry, len(cohort))
