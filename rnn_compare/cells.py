"""Recurrent cells: one step each, with the parameters of Keras' CuDNN layers.

Every cell has four parameters, whose last axis holds the cell's n gates side by side, in the order of `gates`:

    kernel            (F, nH)   applied to the input
    recurrent_kernel  (H, nH)   applied to the previous hidden state
    bias              (nH,)     added to the input's part
    recurrent_bias    (nH,)     added to the hidden state's part

A cell says what happens in one step, and which part of it does not depend on the step before (`project`). Time is
the business of `rnn_compare.recurrence`. To add a cell, subclass `RecurrentCell` and give it a line in `CELLS`.

Axis sizes: B batch, F features, H hidden units, n gates.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.lax import Precision

from rnn_compare.initializers import BIASES, matrix

Carry = Any  # (c, h) for the LSTM, h for the GRU; every array [B, H]


# On a GPU the default precision of a float32 product is TF32, whose rounding would drown the differences between
# cells; products are float32 everywhere.
matmul = partial(jnp.matmul, precision=Precision.HIGHEST)


class RecurrentCell(nn.Module):
    """What the cells share: their parameters and the input's part of a step.

    Attributes:
        features: size of the input (F).
        units: size of the hidden state (H).
        kernel_init: name of the (F, nH) kernel's initializer, one of `initializers.INITIALIZERS`.
        recurrent_init: name of the (H, nH) recurrent kernel's.
        bias_init: name of the recurrent bias' initializer, one of `initializers.BIASES`; the other bias starts at zero.
        gates: names of the n gates, in the order of the parameters' last axis.
    """

    features: int
    units: int
    kernel_init: str = "glorot_uniform"
    recurrent_init: str = "orthogonal"
    bias_init: str = "unit_forget"

    gates: ClassVar[tuple[str, ...]]

    def setup(self) -> None:
        """Declares the four parameters."""
        n, width = len(self.gates), len(self.gates) * self.units
        bias = BIASES[self.bias_init]
        self.kernel = self.param("kernel", matrix(self.kernel_init, n), (self.features, width))
        self.recurrent_kernel = self.param("recurrent_kernel", matrix(self.recurrent_init, n), (self.units, width))
        self.bias = self.param("bias", nn.initializers.zeros, (width,))
        self.recurrent_bias = self.param("recurrent_bias", lambda key: bias(key, self.gates, self.units).reshape(width))

    def project(self, x: jax.Array) -> jax.Array:
        """The input's part of the gates, [..., F] -> [..., nH]; any number of time steps at once."""
        return matmul(x, self.kernel) + self.bias

    def step(self, carry: Carry, projected: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step: the carry and the projected input [B, nH] -> the new carry and hidden state [B, H]."""
        raise NotImplementedError

    def initialize_carry(self, batch: int, dtype: Any = jnp.float32) -> Carry:
        """The carry before the first step: zeros."""
        return jnp.zeros((batch, self.units), dtype)

    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step from the input itself, x [B, F]."""
        return self.step(carry, self.project(x))


class LSTMCell(RecurrentCell):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber 1997; Gers et al. 2000).

    With z = x·W + b + h·U + b_R split into the gates i, f, c, o:

        c' = σ(f)∘c + σ(i)∘tanh(z_c)        h' = σ(o)∘tanh(c')

    The carry is (c, h). The forget gate's recurrent bias starts at one by default (Keras' `unit_forget_bias`).
    """

    gates = ("i", "f", "c", "o")

    def step(self, carry: Carry, projected: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        z = projected + matmul(h, self.recurrent_kernel) + self.recurrent_bias
        i, f, g, o = jnp.split(z, 4, axis=-1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    def initialize_carry(self, batch: int, dtype: Any = jnp.float32) -> Carry:
        """(c, h), both zero."""
        return (jnp.zeros((batch, self.units), dtype),) * 2


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

    def step(self, carry: Carry, projected: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h, H = carry, self.units
        x_zr, x_h = projected[..., : 2 * H], projected[..., 2 * H :]
        U_zr, U_h = self.recurrent_kernel[:, : 2 * H], self.recurrent_kernel[:, 2 * H :]
        b_zr, b_h = self.recurrent_bias[: 2 * H], self.recurrent_bias[2 * H :]
        z, r = jnp.split(nn.sigmoid(x_zr + matmul(h, U_zr) + b_zr), 2, axis=-1)
        recurrent = r * (matmul(h, U_h) + b_h) if self.reset_after else matmul(r * h, U_h) + b_h
        h = z * h + (1 - z) * jnp.tanh(x_h + recurrent)
        return h, h


CELLS: dict[str, Callable[..., RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_before": partial(GRUCell, reset_after=False),
}
