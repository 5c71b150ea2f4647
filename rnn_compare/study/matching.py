"""Cells matched in size: the number of units whose parameters come nearest to a number."""

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from rnn_compare.cells import CELLS
from rnn_compare.config import base
from rnn_compare.network.model import make_model


def units_for(cell: str, window: int, parameters: int) -> int:
    """The units, one at least, with which a network has about so many parameters; of two as near the fewer."""
    return _units_for(CELLS[cell], cell, window, parameters)


@cache
def _units_for(_: Any, cell: str, window: int, parameters: int) -> int:
    low, high = 1, 1
    while _count(cell, window, high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _count(cell, window, middle) < parameters else (low, middle)
    return min(low, high, key=lambda units: abs(_count(cell, window, units) - parameters))


def _count(cell: str, window: int, units: int) -> int:
    """The parameters of the whole network, heads included; nothing is computed."""
    config = base()
    config.model.cell, config.model.units, config.data.window, config.train.backend = cell, units, window, "scan"
    model = make_model(config)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, window))))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
