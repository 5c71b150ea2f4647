"""Recurrent layers and the linear heads of a task; the loss.

Axis sizes: T time, B batch, F features, H hidden units, O outputs of all heads, S steps that are judged.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from rnn_compare.cells import CELLS, Params, RecurrentCell
from rnn_compare.cells.initializers import matrix
from rnn_compare.config import PAPER
from rnn_compare.network.readout import readout, squared_error
from rnn_compare.recurrence import pick, recurrence
from rnn_compare.tasks import make_task
from rnn_compare.tasks.task import CROSS_ENTROPY, KNOWN_SQUARED_ERROR


class Model(nn.Module):
    """A cell over time, in one layer or several, then a task's heads on every hidden state of the last.

    Parameters: the cell's under `recurrent`, those of further layers under `recurrent_2` and so on, and for each head
    `kernel` (H, outputs) and `bias` (outputs,), which start as in Keras' Dense layer, glorot uniform and zero.

    Attributes:
        cell: the recurrent cell.
        features: size of the input (F).
        backend: how the recurrence is computed.
        outputs: the heads' names, and how many outputs each has.
        loss: as in `tasks.task.Task`.
        layers: how many layers; each has parameters of its own, and takes the hidden states of the one before.
    """

    cell: RecurrentCell
    features: int
    backend: str
    outputs: tuple[tuple[str, int], ...]
    loss: str
    layers: int = 1

    def setup(self) -> None:
        """Declares the parameters."""
        inputs = inputs_of_layers(self.features, self.cell.units, self.layers)
        names = "recurrent", *(f"recurrent_{n}" for n in range(2, self.layers + 1))
        self.recurrent = [self.param(name, self._start, size) for name, size in zip(names, inputs, strict=True)]
        self.heads = [Head(self.cell.units, count, name=name) for name, count in self.outputs]

    def _start(self, key: jax.Array, features: int) -> Params:
        x = jnp.zeros((1, features))
        return self.cell.init(key, self.cell.initialize_carry(None, x.shape), x)["params"]

    @nn.nowrap
    def carry(self, sequences: int, dtype: Any = jnp.float32) -> tuple[Any, ...]:
        """Each layer's carry before the first step, of arrays [B, H]."""
        return (self.cell.initialize_carry(None, (sequences, 1), dtype),) * self.layers

    def hidden(self, x: jax.Array) -> jax.Array:
        """The last layer's states of every step, [T, B, F] -> [T, B, H]."""
        return self.hidden_onward(x, self.carry(x.shape[1], x.dtype))[0]

    def hidden_onward(self, x: jax.Array, carry: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
        """The same, [T, B, H], of sequences that begin with a carry of each layer, and the carries at their end."""
        ends = []
        for params, begin in zip(self.recurrent, carry, strict=True):
            x, end = recurrence(self.cell, params, x, begin, self.backend)
            ends.append(end)
        return x, tuple(ends)

    def head_parameters(self) -> tuple[jax.Array, jax.Array]:
        """All heads side by side, (H, O) and (O,): one product, so that the hidden states are read once."""
        kernel, bias = (jnp.concatenate(part, axis=-1) for part in zip(*(h() for h in self.heads), strict=True))
        return kernel, bias

    def __call__(self, x: jax.Array) -> jax.Array:
        """The outputs of every step, [T, B, F] -> [T, B, O], heads in their order."""
        return readout(self.hidden(x), *self.head_parameters())

    def errors(self, x: jax.Array, targets: jax.Array) -> jax.Array:
        """What `losses` are made of, means over the last S steps and B.

        Args:
            x: [T, B, F].
            targets: as in `tasks.task.Batch`.

        Returns:
            Each output's mean squared error [O]; or the mean cross-entropy in nats and the share of wrong answers [2].
        """
        return self.errors_of(self.hidden(x), targets)

    def errors_onward(self, x: jax.Array, targets: jax.Array, carry: tuple) -> tuple[jax.Array, tuple]:
        """The errors of a part of sequences that begins with a carry of each layer, and the carries at its end."""
        hidden, ends = self.hidden_onward(x, carry)
        return self.errors_of(hidden, targets), ends

    def errors_of(self, hidden: jax.Array, targets: jax.Array) -> jax.Array:
        """The same of hidden states, [T, B, H]."""
        if len(targets) < len(hidden):
            hidden = hidden[-len(targets) :]
        if self.loss == CROSS_ENTROPY:
            values = readout(hidden, *self.head_parameters())
            entropy = optax.softmax_cross_entropy_with_integer_labels(values, targets)
            wrong = jnp.argmax(values, axis=-1) != targets
            return jnp.stack([jnp.mean(entropy), jnp.mean(wrong.astype(entropy.dtype))])
        if self.loss == KNOWN_SQUARED_ERROR:
            known = ~jnp.isnan(targets)
            errors = jnp.where(known, readout(hidden, *self.head_parameters()) - targets, 0)
            return jnp.sum(errors**2, axis=(0, 1)) / jnp.maximum(jnp.sum(known, axis=(0, 1)), 1)
        return squared_error(hidden, *self.head_parameters(), targets, self.backend)

    def losses(self, errors: jax.Array) -> dict[str, jax.Array]:
        """What is logged of `errors`: `loss`, and each head's, whose sum it is (Keras' rule for several outputs)."""
        if self.loss == CROSS_ENTROPY:
            return {"loss": errors[0], "error_rate": errors[1]}
        parts, start = {}, 0
        for head, count in self.outputs:
            parts[f"loss/{head}"] = jnp.mean(errors[start : start + count])
            start += count
        return {"loss": jnp.stack(list(parts.values())).sum(), **(parts if len(parts) > 1 else {})}

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of what an update logs."""
        parts = [f"loss/{head}" for head, _ in self.outputs] if len(self.outputs) > 1 else []
        return ("loss", *(["error_rate"] if self.loss == CROSS_ENTROPY else parts), "grad_norm")


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
    cell, task = make_cell(config.model), make_task(config)
    steps = config.train.bptt or task.steps
    inputs = inputs_of_layers(task.features, cell.units, config.model.layers)
    picked = {pick(config.train.backend, cell, size, steps, config.data.sequences) for size in inputs}
    backend = "scan" if "scan" in picked else picked.pop()
    return Model(cell, task.features, backend, task.heads, task.loss, config.model.layers)


def inputs_of_layers(features: int, units: int, layers: int) -> tuple[int, ...]:
    """The size of each layer's input, the first one's and those of the layers above it."""
    return features, *(units,) * (layers - 1)


def make_cell(model: ConfigDict) -> RecurrentCell:
    """The cell of a config's section `model`; what is left to its paper is as its class says."""
    make = CELLS[model.cell]
    return make(**{key: model[key] for key in make(units=1).__dataclass_fields__ if model.get(key, PAPER) != PAPER})


def made_with(model: ConfigDict) -> dict[str, Any]:
    """What the cell of a config's section `model` starts with, and its own constants, by their keys there."""
    cell = make_cell(model)
    return {key: getattr(cell, key) for key in model if key != "units" and key in cell.__dataclass_fields__}


def count_parameters(params: Any) -> int:
    """How many numbers a tree of parameters holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
