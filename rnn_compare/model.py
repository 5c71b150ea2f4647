"""One recurrent layer and a linear head for each position; the loss.

Axis sizes: T time, B batch, F features, H hidden units.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from rnn_compare.cells import CELLS, RecurrentCell, matmul
from rnn_compare.data import ACTIONS
from rnn_compare.initializers import INITIALIZERS
from rnn_compare.recurrence import recurrence


class Model(nn.Module):
    """A cell over time, then the heads `flat` (3 outputs), `short` (2) and `long` (2) on every hidden state.

    Parameters: the cell's under `recurrent`, and for each head `kernel` (H, outputs) and `bias` (outputs,), which
    start as in Keras' Dense layer, glorot uniform and zero.

    Attributes:
        cell: the recurrent cell, unbound.
        backend: how the recurrence is computed.
    """

    cell: RecurrentCell
    backend: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Action values of every step, [T, B, F] -> [T, B, 7], in the order of `data.ACTIONS`."""
        # A clone without parent: the cell's parameters are held here and handed to the backend as they are.
        cell = self.cell.clone(parent=None)
        carry = cell.initialize_carry(x.shape[1], x.dtype)
        params = self.param("recurrent", lambda key: cell.init(key, carry, x[0])["params"])
        hidden, _ = recurrence(cell, params, x, carry, self.backend)
        heads = [Head(len(actions), name=name)(cell.units) for name, actions in ACTIONS.items()]
        kernel, bias = (jnp.concatenate(part, axis=-1) for part in zip(*heads, strict=True))
        return matmul(hidden, kernel) + bias  # one product for all heads: the hidden states are read once


class Head(nn.Module):
    """The parameters of one linear head."""

    outputs: int

    @nn.compact
    def __call__(self, units: int) -> tuple[jax.Array, jax.Array]:
        """The kernel (H, outputs) and the bias (outputs,)."""
        kernel = self.param("kernel", INITIALIZERS["glorot_uniform"], (units, self.outputs))
        return kernel, self.param("bias", nn.initializers.zeros, (self.outputs,))


def make_model(config: ConfigDict, backend: str) -> Model:
    """The model of a run's config, with a backend already picked."""
    cell = CELLS[config.model.cell](
        features=config.data.window,
        units=config.model.units,
        kernel_init=INITIALIZERS[config.model.kernel_init],
        recurrent_init=INITIALIZERS[config.model.recurrent_init],
    )
    return Model(cell, backend)


def losses(predictions: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    """Each head's mean squared error, and their sum as `loss` (Keras' rule for several outputs).

    Args:
        predictions: [T, B, 7].
        targets: [T, B, 7].
    """
    per_output = jnp.mean(jnp.square(predictions - targets), axis=(0, 1))
    parts, start = {}, 0
    for head, actions in ACTIONS.items():
        parts[f"loss/{head}"] = jnp.mean(per_output[start : start + len(actions)])
        start += len(actions)
    return {"loss": jnp.stack(list(parts.values())).sum(), **parts}


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
