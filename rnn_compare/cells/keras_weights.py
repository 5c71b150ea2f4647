"""Weights of a cell to and from the weight lists of Keras 3's LSTM and GRU layers.

Both keep gates in the same order as we do. They differ in the biases: a Keras LSTM, and a GRU with
`reset_after=False`, has the sum of the two halves in one vector; a GRU with `reset_after=True` stacks them.
"""

from collections.abc import Sequence

import numpy as np


def to_keras(params: dict[str, np.ndarray], stacked_bias: bool) -> list[np.ndarray]:
    """The list for `layer.set_weights`: kernel (F, nH), recurrent kernel (H, nH), bias.

    Args:
        params: a cell's four parameters.
        stacked_bias: True for `GRU(reset_after=True)`, bias (2, nH); False for the others, bias (nH,).
    """
    halves = np.stack([params["bias"], params["recurrent_bias"]])
    bias = halves if stacked_bias else halves.sum(axis=0)
    return [np.asarray(params["kernel"]), np.asarray(params["recurrent_kernel"]), bias]


def from_keras(weights: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """A cell's parameters from `layer.get_weights()`; a single bias vector becomes the input half."""
    kernel, recurrent_kernel, bias = map(np.asarray, weights)
    if bias.ndim == 1:
        bias = np.stack([bias, np.zeros_like(bias)])
    return {
        "kernel": kernel,
        "recurrent_kernel": recurrent_kernel,
        "bias": bias[0],
        "recurrent_bias": bias[1],
    }
