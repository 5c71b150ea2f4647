"""What a loss curve is described by, and the middle of a measure over seeds."""

import math

import numpy as np
from scipy.stats import trim_mean


def measures(loss: np.ndarray, level: float = 1.0) -> dict[str, float]:
    """What a run is compared by; of each measure, lower is better.

    A run that diverged is described by the epochs before: whoever compares it with others must know that it did.

    Args:
        loss: loss per epoch, [epochs], positive; what is not finite is left out.
        level: the loss that `epochs_to_level` waits for.

    Returns:
        `final_loss`, the median of the last 10 epochs; `last_loss`, that of the last epoch alone; `best_loss`; `area`;
        `epochs_to_level`; `volatility`; `spikes`, how many; `spike_size`, their mean size as a log ratio, 0 without
        spikes. NaN where there is too little to say it from.
    """
    epochs = epochs_to_level(loss, level)
    loss = loss[np.isfinite(loss)].astype(float)
    if not len(loss):
        return dict.fromkeys(measures(np.ones(1)), math.nan)
    sizes = spikes(loss)
    return {
        "final_loss": float(np.median(loss[-10:])),
        "last_loss": float(loss[-1]),
        "best_loss": float(loss.min()),
        "area": area(loss),
        "epochs_to_level": epochs,
        "volatility": volatility(loss),
        "spikes": float(len(sizes)),
        "spike_size": float(sizes.mean()) if len(sizes) else 0.0,
    }


def area(loss: np.ndarray) -> float:
    """Area under a loss curve, [epochs], by the trapezoid rule, per epoch: its mean height; NaN for fewer than two."""
    return float(np.trapezoid(loss)) / (len(loss) - 1) if len(loss) > 1 else math.nan


def epochs_to_level(loss: np.ndarray, level: float) -> float:
    """The first epoch, counted from 0, whose loss is at `level` or under it; NaN if there is none.

    Args:
        loss: loss per epoch, [epochs]; what is not finite is never under a level.
        level: in the loss's unit.
    """
    reached = np.flatnonzero(loss <= level)
    return float(reached[0]) if len(reached) else math.nan


def volatility(loss: np.ndarray) -> float:
    """How restless a loss curve is: mean |Δ log loss| per epoch over its second half.

    Logarithms make it a relative change, so that a lower curve is not calmer for being low.

    Args:
        loss: loss per epoch, [epochs], positive.

    Returns:
        The mean, or NaN for fewer than two epochs in the second half.
    """
    half = loss[len(loss) // 2 :]
    return float(np.mean(np.abs(np.diff(np.log(half))))) if len(half) > 1 else math.nan


def spikes(loss: np.ndarray, factor: float = 1.1) -> np.ndarray:
    """The spikes of a loss curve: stretches of epochs that lie more than `factor` times above the lowest loss so far.

    A stretch is one spike until the loss falls back under that bound. The whole curve counts, not its second half as in
    `volatility`: the descent at the beginning is not above its own lowest loss, and a spike is an event at any time.

    Args:
        loss: loss per epoch, [epochs], positive.
        factor: how far above the lowest loss so far a spike begins.

    Returns:
        Each spike's size, log(peak / lowest loss before it), [spikes].
    """
    log = np.log(loss)
    excess = log - np.minimum.accumulate(log)
    edges = np.flatnonzero(np.diff(excess > math.log(factor), prepend=False, append=False))
    return np.array([excess[start:end].max() for start, end in edges.reshape(-1, 2)])


def median(values: np.ndarray) -> float:
    """The median over seeds, [seeds], of those that are not NaN; NaN if there is none."""
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else math.nan


def interquartile_mean(values: np.ndarray) -> float:
    """The mean over seeds without the lowest and the highest quarter.

    Outliers move it as little as they move the median, and it varies less from one set of seeds to another (Agarwal et
    al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021).

    Args:
        values: a measure of each seed, [seeds]; NaNs are left out.

    Returns:
        The mean of what remains when ⌊seeds / 4⌋ are cut off at either end; NaN without seeds.
    """
    values = values[~np.isnan(values)]
    return float(trim_mean(values, 0.25)) if len(values) else math.nan
