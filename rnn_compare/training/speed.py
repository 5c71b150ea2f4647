"""How long an epoch of each contestant takes: each is timed for itself, warm and in turn.

Never from the clock of training, during which files are written and contestants have their turns minutes apart.
"""

import math
from time import perf_counter
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.console import interrupt
from rnn_compare.network.model import make_model
from rnn_compare.statistics.timing import ratio_of
from rnn_compare.training.trainer import Trainer

SAMPLE = 0.02  # seconds that a sample takes at least: a thousand times what a clock or a thread's waking adds
FEWEST = 20  # rounds before the first look at the intervals, whose width says little of fewer
GROWTH = 1.2  # by which the rounds grow from one look to the next


def measure(contestants: dict[str, ConfigDict], precision: float, limit: float) -> dict[str, Any]:
    """Times the contestants' epochs in rounds, in each of which they follow each other at random.

    So a drift cancels, and no load that comes and goes can keep in step with one of them: by turns, one that slowed
    down every fourth sample met the same cell each time, and no interval held the ratio.

    A sample is one dispatch of `train.chunk` epochs, as in training, or as many as take `SAMPLE` seconds. Of single
    epochs the first after another cell is a slow one, which training has not: on post8 such pairs gave 1.13 with the
    LSTM first and 1.36 with the GRU first, dispatches of ten 1.11 and 1.12 (2 cores, shared with others).

    It ends when the interval of each one's ratio to the first is narrow or the time is over. To look at intervals until
    they are narrow stops at a width, which does not say on which side a ratio lies, so it favours no verdict; looks are
    few, because each is one more chance to be narrow by luck. In simulations of normal noise, outliers and bursts, 93
    to 95 in a hundred of the intervals at which it ended held the ratio.

    Args:
        contestants: the config of a run of each, two or more.
        precision: half an interval's width, relative to the ratio, at which to end.
        limit: seconds after which to end, at least two rounds and the compile not counted.

    Returns:
        `backend` (or several, in words) and `device`, what was measured; `pairs`, how many rounds; `seconds_of`, each
        one's seconds per epoch, [rounds]; `seconds` that it took, the compile not counted.

    Raises:
        Interrupted: a signal asked to stop.
    """
    trainers = {name: Trainer([(whole(config), 0)]) for name, config in contestants.items()}
    for trainer in trainers.values():
        trainer.compile()

    def sample(name: str, epochs: int) -> float:
        interrupt.check()
        return seconds_per_epoch(trainers[name], epochs, chunk)

    start = perf_counter()
    first, *others = contestants
    train = contestants[first].train
    epochs = chunk = min(train.chunk, train.epochs)
    for name in contestants:
        sample(name, epochs)  # the first of a program is a slow one
    while min(sample(name, epochs) for name in contestants) * epochs < SAMPLE:
        epochs *= 2
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    rng = np.random.default_rng(0)
    look = FEWEST
    while True:
        rounds = len(seconds[first])
        late = rounds > 1 and perf_counter() - start >= limit
        if late or rounds >= look:
            found = [ratio_of(np.array(seconds[first]), np.array(seconds[name])) for name in others]
            if late or all((high - low) / 2 / ratio <= precision for ratio, low, high in found):
                break
            look = math.ceil(GROWTH * rounds)
        for i in rng.permutation(len(contestants)).tolist():
            name = list(contestants)[i]
            seconds[name].append(sample(name, epochs))
    return {
        "backend": " and ".join(dict.fromkeys(make_model(config).backend for config in contestants.values())),
        "device": jax.devices()[0].device_kind,
        "pairs": rounds,
        "seconds_of": seconds,
        "seconds": perf_counter() - start,
    }


def whole(config: ConfigDict) -> ConfigDict:
    """The config with whole sequences from the first epoch on: what an epoch takes is that of these."""
    config = config.copy_and_resolve_references().unlock()
    config.train.lengths = ()
    return config


def seconds_per_epoch(trainer: Trainer, epochs: int, chunk: int) -> float:
    """How long each of so many epochs takes, in dispatches of `chunk` at most."""
    start = perf_counter()
    for done in range(0, epochs, chunk):
        curves = trainer.advance(min(chunk, epochs - done))
    jax.block_until_ready(curves)
    return (perf_counter() - start) / epochs
