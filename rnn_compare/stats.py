"""Statistics of loss curves."""

import numpy as np


def measures(loss: np.ndarray) -> dict[str, float]:
    """What a run is compared by.

    Args:
        loss: loss per epoch, [epochs]; what is not finite is left out.

    Returns:
        `last_loss`, `best_loss` and `volatility`; NaN where nothing is left to take them from.
    """
    loss = loss[np.isfinite(loss)]
    last, best = (float(loss[-1]), float(loss.min())) if len(loss) else (float("nan"),) * 2
    return {"last_loss": last, "best_loss": best, "volatility": volatility(loss)}


def volatility(loss: np.ndarray) -> float:
    """How restless a loss curve is: mean |Δ log loss| per epoch over its second half.

    Logarithms make it a relative change, so that a lower curve is not calmer for being low.

    Args:
        loss: loss per epoch, [epochs], positive.

    Returns:
        The mean, or NaN for fewer than two epochs in the second half.
    """
    half = loss[len(loss) // 2 :]
    return float(np.mean(np.abs(np.diff(np.log(half))))) if len(half) > 1 else float("nan")
