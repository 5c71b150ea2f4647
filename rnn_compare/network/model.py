"""One recurrent layer and a linear head for each position; the loss.

Axis sizes: T time, B batch, F features, H hidden units.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from rnn_compare.cells import CELLS, Params, RecurrentCell
from rnn_compare.cells.initializers import matrix
from rnn_compare.config import PAPER
from rnn_compare.network.readout import readout, squared_error
from rnn_compare.recurrence import pick, recurrence
from rnn_compare.tasks.price import ACTIONS


class Model(nn.Module):
    """A cell over time, then the heads `flat` (3 outputs), `short` (2) and `long` (2) on every hidden state.

    Parameters: the cell's under `recurrent`, and for each head `kernel` (H, outputs) and `bias` (outputs,), which
    start as in Keras' Dense layer, glorot uniform and zero.

    Attributes:
        cell: the recurrent cell.
        features: size of the input (F).
        backend: how the recurrence is computed.
    """

    cell: RecurrentCell
    features: int
    backend: str

    def setup(self) -> None:
        """Declares the parameters."""
        self.recurrent = self.param("recurrent", self._start)
        self.heads = [Head(self.cell.units, len(actions), name=name) for name, actions in ACTIONS.items()]

    def _start(self, key: jax.Array) -> Params:
        x = jnp.zeros((1, self.features))
        return self.cell.init(key, self.cell.initialize_carry(None, x.shape), x)["params"]

    def hidden(self, x: jax.Array) -> jax.Array:
        """Hidden states of every step, [T, B, F] -> [T, B, H]."""
        carry = self.cell.initialize_carry(None, x.shape[1:], x.dtype)
        return recurrence(self.cell, self.recurrent, x, carry, self.backend)[0]

    def head_parameters(self) -> tuple[jax.Array, jax.Array]:
        """All heads side by side, (H, 7) and (7,): one product, so that the hidden states are read once."""
        kernel, bias = (jnp.concatenate(part, axis=-1) for part in zip(*(h() for h in self.heads), strict=True))
        return kernel, bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """Action values of every step, [T, B, F] -> [T, B, 7], in the order of `tasks.price.ACTIONS`."""
        return readout(self.hidden(x), *self.head_parameters())

    def squared_error(self, x: jax.Array, targets: jax.Array) -> jax.Array:
        """Each output's mean squared error over T and B, [7]; targets [T, B, 7]."""
        return squared_error(self.hidden(x), *self.head_parameters(), targets, self.backend)


class Head(nn.Module):
    """The parameters of one linear head."""

    units: int
    outputs: int

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """The kernel (H, outputs) and the bias (outputs,)."""
        kernel = self.param("kernel", matrix("glorot_uniform"), (self.units, self.outputs))
        return kernel, self.param("bias", nn.initializers.zeros, (self.outputs,))


def make_model(config: ConfigDict) -> Model:
    """The model of a run's config, with the backend picked.

    Raises:
        ValueError: the config's backend cannot serve its cell here.
    """
    cell = make_cell(config.model)
    data = config.data
    picked = pick(config.train.backend, cell, data.window, data.length, data.sequences)
    return Model(cell, data.window, picked)


def make_cell(model: ConfigDict) -> RecurrentCell:
    """The cell of a config's section `model`; what is left to its paper is as its class says."""
    make = CELLS[model.cell]
    return make(**{key: model[key] for key in make(units=1).__dataclass_fields__ if model.get(key, PAPER) != PAPER})


def made_with(model: ConfigDict) -> dict[str, Any]:
    """What the cell of a config's section `model` starts with, and its own constants, by their keys there."""
    cell = make_cell(model)
    return {key: getattr(cell, key) for key in model if key != "units" and key in cell.__dataclass_fields__}


def losses(squared_errors: jax.Array) -> dict[str, jax.Array]:
    """Each head's mean squared error, and their sum as `loss` (Keras' rule for several outputs).

    Args:
        squared_errors: each output's, [7], in the order of `tasks.price.ACTIONS`.
    """
    parts, start = {}, 0
    for head, actions in ACTIONS.items():
        parts[f"loss/{head}"] = jnp.mean(squared_errors[start : start + len(actions)])
        start += len(actions)
    return {"loss": jnp.stack(list(parts.values())).sum(), **parts}


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
