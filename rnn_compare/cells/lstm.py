"""The LSTM."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, project, recur


class LSTMCell(RecurrentCell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    With z = x·W + b + h·U + b_R split into the gates i, f, c, o:

        c' = σ(f)∘c + σ(i)∘tanh(z_c)        h' = σ(o)∘tanh(c')

    The carry is (c, h). The forget gate's recurrent bias starts at one by default (Keras' `unit_forget_bias`).
    """

    gates = ("i", "f", "c", "o")
    states, keeps, admits, opens = 2, ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        i, f, g, o = jnp.split(project(params, x) + recur(params, h), 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h
