"""The GRU, in both of its forms."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, matmul, project, recur


class GRUCell(RecurrentCell):
    """Gated recurrent unit (Cho et al. 2014), gates z (update), r (reset), h (candidate); the carry is h.

    With subscripts for the gates' parts of x·W + b and of the recurrent parameters:

        reset after the product (CuDNN):   h̃ = tanh(x_h + r∘(h·U_h + b_Rh))
        reset before it (the 2014 paper):  h̃ = tanh(x_h + (r∘h)·U_h + b_Rh)
        both:                              h' = z∘h + (1 − z)∘h̃

    Attributes:
        reset_after: which of the two forms.
    """

    reset_after: bool = True

    gates = ("z", "r", "h")
    keeps = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h = carry
        x_z, x_r, x_h = jnp.split(project(params, x), 3, axis=-1)
        if self.reset_after:
            h_z, h_r, h_h = jnp.split(recur(params, h), 3, axis=-1)
            inner = nn.sigmoid(x_r + h_r) * h_h
        else:
            U_z, U_r, U_h = jnp.split(params["recurrent_kernel"], 3, axis=-1)
            b_z, b_r, b_h = jnp.split(params["recurrent_bias"], 3)
            h_z, h_r = matmul(h, U_z) + b_z, matmul(h, U_r) + b_r
            inner = matmul(nn.sigmoid(x_r + h_r) * h, U_h) + b_h
        z = nn.sigmoid(x_z + h_z)
        h = z * h + (1 - z) * jnp.tanh(x_h + inner)
        return h, h
