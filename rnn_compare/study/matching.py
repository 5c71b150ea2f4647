"""Cells matched in size: the number of units whose parameters come nearest to a number."""

import math
from functools import cache

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.network.model import Model, make_cell
from rnn_compare.tasks import make_task


def units_for(config: ConfigDict) -> int:
    """The units, one at least, with which a network has about `model.parameters`; of two as near the fewer."""
    task = make_task(config)
    like = Model(make_cell(config.model), task.features, "scan", task.heads, task.loss, config.model.layers)
    return _units_for(like, config.model.parameters)


@cache
def _units_for(like: Model, parameters: int) -> int:
    low, high = 1, 1
    while _count(like, high) < parameters:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _count(like, middle) < parameters else (low, middle)
    return min(low, high, key=lambda units: abs(_count(like, units) - parameters))


def _count(like: Model, units: int) -> int:
    """The parameters of the whole network, heads included; nothing is computed."""
    model = like.clone(cell=like.cell.clone(units=units))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 1, model.features))))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables))
