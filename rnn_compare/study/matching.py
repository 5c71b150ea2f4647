"""Cells matched in size: the number of units whose parameters come nearest to a number."""

import math
from functools import cache

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.cells import RecurrentCell
from rnn_compare.network.model import Model, make_cell


def units_for(model: ConfigDict, window: int) -> int:
    """The units, one at least, with which a network has about `model.parameters`; of two as near the fewer."""
    return _units_for(make_cell(model), window, model.parameters)


@cache
def _units_for(cell: RecurrentCell, window: int, parameters: int) -> int:
    low, high = 1, 1
    while _count(cell, window, high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _count(cell, window, middle) < parameters else (low, middle)
    return min(low, high, key=lambda units: abs(_count(cell, window, units) - parameters))


def _count(cell: RecurrentCell, window: int, units: int) -> int:
    """The parameters of the whole network, heads included; nothing is computed."""
    model = Model(cell.clone(units=units), window, "scan")
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, window))))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
