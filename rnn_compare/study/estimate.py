"""How long a study will take here: a few epochs of each cohort are timed, on made-up numbers of its shapes."""

from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.console.terminal import duration, say
from rnn_compare.network.model import make_model
from rnn_compare.study.cohorts import Cohort, title
from rnn_compare.tasks import make_task
from rnn_compare.training.program import parts, program, shapes

AFFORDABLE = 20.0  # seconds that an epoch may take, by a guess that is on the high side, to be timed at full length
DISPATCH = 1.0  # seconds that a timed dispatch takes, if an epoch takes less
SLOW = 1e10  # floating point operations per second that the kernels reach at the least
STEP = 5e-5  # seconds that a time step takes in a scan, at the least


def say_estimate(config: ConfigDict, cohorts: list[Cohort]) -> None:
    """Says how long each of a study's cohorts will train, and all of them."""
    total = 0.0
    for cohort in cohorts:
        seconds = seconds_per_epoch(cohort[0].config, len(cohort)) * whole_epochs(cohort[0].config)
        say(f"{title(cohort)}: about {duration(seconds)} of training here")
        total += seconds
    speed = f", and up to {duration(min(config.speed.limit, total))} to measure the speed" if config.speed.limit else ""
    say(f"in all about {duration(total)} of training{speed}")


def whole_epochs(config: ConfigDict) -> float:
    """How many epochs of whole sequences take as long as those of a run, some of which may be of first steps only."""
    every = make_task(config).steps
    return sum((end - begin) * (steps or every) / every for begin, end, steps in parts(config))


def seconds_per_epoch(config: ConfigDict, runs: int) -> float:
    """How long an epoch of so many stacked runs takes on this machine.

    Timed is an epoch of them all, at full length, by the program that will train them. Where that would take too long
    it is one run of as few steps as can be afforded, from which the rest is reckoned: time goes with both.
    """
    guess = guessed(config, runs)
    if guess <= AFFORDABLE:
        return timed(config, runs)
    length = max(1, int(config.data.length * min(1, AFFORDABLE / (guess / runs))))
    short = config.copy_and_resolve_references().unlock()
    short.data.length = max(length, config.data.window + 1)
    return timed(short, 1) * runs * config.data.length / short.data.length


def guessed(config: ConfigDict, runs: int) -> float:
    """Seconds that an epoch of so many runs takes, by the sizes alone."""
    T, B = make_task(config).steps, config.data.sequences
    kernels = sum(leaf.size for leaf in jax.tree.leaves(shapes(config, 1)[0].params))
    seconds = 6 * T * B * kernels / SLOW
    return runs * (seconds + T * STEP * (make_model(config).backend == "scan"))


def timed(config: ConfigDict, runs: int) -> float:
    """Seconds that an epoch of so many runs takes, once it is warm: of a dispatch as in training, if that is short."""
    train = program(config, runs)
    state, batch = jax.tree.map(_made_up, shapes(config, runs))
    epochs = seconds = 1.0
    for _ in range(3):  # the first one warms up; of a single epoch much is what the one before left in the caches
        start = perf_counter()
        state, _ = jax.block_until_ready(train(state, batch, int(epochs), runs))
        seconds = (perf_counter() - start) / int(epochs)
        epochs = min(max(1.0, DISPATCH / seconds), config.train.chunk, config.train.epochs)
    return seconds


def _made_up(leaf: Any) -> jax.Array:
    value = True if leaf.dtype == bool else 0 if jnp.issubdtype(leaf.dtype, jnp.integer) else 0.01
    return jnp.full(leaf.shape, value, leaf.dtype, device=leaf.sharding)
