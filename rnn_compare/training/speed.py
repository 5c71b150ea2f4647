"""How many GRU epochs an LSTM epoch takes: both are timed for themselves, warm and in turn.

Never from the clock of training, during which files are written and the two cells have their turns minutes apart.
"""

import math
from time import perf_counter
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.stats import mstats

from rnn_compare.console import interrupt
from rnn_compare.network.model import make_model
from rnn_compare.statistics.measures import interquartile_mean
from rnn_compare.training.trainer import Trainer

SAMPLE = 0.02  # seconds that a sample takes at least: a thousand times what a clock or a thread's waking adds
FEWEST = 20  # pairs before the first look at the interval, whose width says little of fewer
GROWTH = 1.2  # by which the pairs grow from one look to the next


def measure(lstm: ConfigDict, gru: ConfigDict, precision: float, limit: float) -> dict[str, Any]:
    """Times the two cells' epochs in pairs, in which either is the first at random.

    So a drift cancels, and no load that comes and goes can keep in step with the cells: by turns, one that slowed down
    every fourth sample met the same cell each time, and no interval held the ratio.

    A sample is one dispatch of `train.chunk` epochs, as in training, or as many as take `SAMPLE` seconds. Of single
    epochs the first after the other cell is a slow one, which training has not: on post8 such pairs gave 1.13 with the
    LSTM first and 1.36 with the GRU first, dispatches of ten 1.11 and 1.12 (2 cores, shared with others).

    It ends when the interval of the ratio is narrow or the time is over. To look at the interval until it is narrow
    stops at a width, which does not say on which side the ratio lies, so it favours no verdict; looks are few, because
    each is one more chance to be narrow by luck. In simulations of normal noise, outliers and bursts, 93 to 95 in a
    hundred of the intervals at which it ended held the ratio.

    Args:
        lstm: the config of a run.
        gru: the same with the other cell.
        precision: half the interval's width, relative to the ratio, at which to end.
        limit: seconds after which to end, at least two pairs and the compile not counted.

    Returns:
        `backend`, `device` and `units`, what was measured; `pairs`, how many; `lstm_seconds` and `gru_seconds`, per
        epoch, [pairs]; `ratio`, `low` and `high` of `ratio_of`; `seconds` that it took, the compile not counted.

    Raises:
        Interrupted: a signal asked to stop.
    """
    configs = lstm, gru
    trainers = [Trainer([(config, 0)]) for config in configs]
    for trainer in trainers:
        trainer.compile()

    def sample(cell: int, epochs: int) -> float:
        interrupt.check()
        return seconds_per_epoch(trainers[cell], epochs, chunk)

    start = perf_counter()
    epochs = chunk = min(lstm.train.chunk, lstm.train.epochs)
    for cell in (0, 1):
        sample(cell, epochs)  # the first of a program is a slow one
    while min(sample(0, epochs), sample(1, epochs)) * epochs < SAMPLE:
        epochs *= 2
    seconds: tuple[list[float], list[float]] = [], []
    rng = np.random.default_rng(0)
    look = FEWEST
    while True:
        pairs = len(seconds[0])
        late = pairs > 1 and perf_counter() - start >= limit
        if late or pairs >= look:
            ratio, low, high = ratio_of(*map(np.array, seconds))
            if late or (high - low) / 2 / ratio <= precision:
                break
            look = math.ceil(GROWTH * pairs)
        for cell in rng.permutation(2).tolist():
            seconds[cell].append(sample(cell, epochs))
    return {
        "backend": make_model(lstm).backend,
        "device": jax.devices()[0].device_kind,
        "units": lstm.model.units,
        "pairs": pairs,
        "lstm_seconds": seconds[0],
        "gru_seconds": seconds[1],
        "ratio": ratio,
        "low": low,
        "high": high,
        "seconds": perf_counter() - start,
    }


def seconds_per_epoch(trainer: Trainer, epochs: int, chunk: int) -> float:
    """How long each of so many epochs takes, in dispatches of `chunk` at most."""
    start = perf_counter()
    for done in range(0, epochs, chunk):
        curves = trainer.advance(min(chunk, epochs - done))
    jax.block_until_ready(curves)
    return (perf_counter() - start) / epochs


def ratio_of(lstm: np.ndarray, gru: np.ndarray) -> tuple[float, float, float]:
    """The LSTM's time over the GRU's.

    On a shared machine some samples take twice as long as the others. So the ratio is the interquartile mean of the
    pairs' log ratios, which a quarter of outliers on either side does not move, and of which less is lost to the noise
    of the others than of the median. Its interval is Student's with the winsorized variance (Tukey and McLaughlin,
    Sankhyā 1963), which needs no resampling. Of few pairs of normal noise, too, 92 in a hundred or more hold the ratio.

    Args:
        lstm: seconds of the LSTM's samples, [pairs], two at least.
        gru: those of the GRU's, [pairs].

    Returns:
        The ratio, over 1 where the GRU is faster, and the ends of its 95% interval.
    """
    logs = np.log(lstm / gru)
    ends = mstats.trimmed_mean_ci(logs, limits=(0.25, 0.25), alpha=0.05)
    ratio, low, high = np.exp([interquartile_mean(logs), *ends])
    return float(ratio), float(low), float(high)
