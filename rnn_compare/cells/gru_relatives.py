"""Cells that, as the first GRU, gate the state before it meets its matrix; the carry is h alone."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, project, recur, split


class MGUCell(RecurrentCell):
    """Minimal gated unit (Zhou et al. 2016, arXiv 1603.09420): one gate forgets and lets in.

    f = σ(x·W_f + h·U_f + b_f)        h' = (1 − f)∘h + f∘tanh(x·W_h + (f∘h)·U_h + b_h)
    """

    gates = ("f", "h")
    biases = 1
    replaces = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_f, x_h = split(project(params, x), 2)
        U_f, U_h = split(params["recurrent_kernel"], 2)
        f = nn.sigmoid(x_f + matmul(carry, U_f))
        h = (1 - f) * carry + f * jnp.tanh(x_h + matmul(f * carry, U_h))
        return h, h


class MUT1Cell(RecurrentCell):
    """The first of three cells that a search found (Jozefowicz et al. 2015).

    z = σ(x·W_z + b_z)        r = σ(x·W_r + h·U_r + b_r)        h' = z∘tanh((r∘h)·U_h + tanh(x·W_h) + b_h) + (1 − z)∘h

    The paper's tanh(x) takes the input itself, which must then have the size of h; the product is the usual reading.
    """

    gates = ("z", "r", "h")
    recurrent = ("r", "h")
    biases = 1
    replaces = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_z, x_r, x_h = split(matmul(x, params["kernel"]), 3)
        b_z, b_r, b_h = split(params["bias"], 3)
        U_r, U_h = split(params["recurrent_kernel"], 2)
        z, r = nn.sigmoid(x_z + b_z), nn.sigmoid(x_r + matmul(carry, U_r) + b_r)
        h = z * jnp.tanh(matmul(r * carry, U_h) + jnp.tanh(x_h) + b_h) + (1 - z) * carry
        return h, h


class MUT2Cell(RecurrentCell):
    """The second of the three (Jozefowicz et al. 2015): as MUT3, but that z takes the state as it is.

    In the paper r's part of the input is x itself, which must then have the size of h; here it is a product.
    """

    gates = ("z", "r", "h")
    biases = 1
    replaces = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        return self.update(params, carry, x, carry)

    @nn.nowrap
    def update(self, params: Params, h: jax.Array, x: jax.Array, seen: jax.Array) -> tuple[Carry, jax.Array]:
        """The new state, where z = σ(x·W_z + s·U_z + b_z) goes by what it sees, s.

        r = σ(x·W_r + h·U_r + b_r)        h' = z∘tanh((r∘h)·U_h + x·W_h + b_h) + (1 − z)∘h
        """
        x_z, x_r, x_h = split(project(params, x), 3)
        U_z, U_r, U_h = split(params["recurrent_kernel"], 3)
        z, r = nn.sigmoid(x_z + matmul(seen, U_z)), nn.sigmoid(x_r + matmul(h, U_r))
        h = z * jnp.tanh(matmul(r * h, U_h) + x_h) + (1 - z) * h
        return h, h


class MUT3Cell(MUT2Cell):
    """The third of the three (Jozefowicz et al. 2015): z sees tanh(h).

    z = σ(x·W_z + tanh(h)·U_z + b_z), r = σ(x·W_r + h·U_r + b_r), h' = z∘tanh((r∘h)·U_h + x·W_h + b_h) + (1 − z)∘h
    """

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        return self.update(params, carry, x, jnp.tanh(carry))


class SGUCell(RecurrentCell):
    """Simple gated unit (Gao & Glowacka 2016, PMLR 63): an input gate that multiplies, and an output that does.

        g = tanh((x_g∘h)·U_g)        z = σ̂(x_z + h·U_z)        h' = (1 − z)∘h + z∘softplus(g∘h)

    x_g and x_z are the blocks of x·W + b; σ̂ is the hard sigmoid, max(0, min(1, a/6 + 1/2)).
    """

    gates = ("g", "z")
    biases = 1
    replaces = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_g, x_z = split(project(params, x), 2)
        U_g, U_z = split(params["recurrent_kernel"], 2)
        z = nn.hard_sigmoid(x_z + matmul(carry, U_z))
        h = (1 - z) * carry + z * self.output(params, jnp.tanh(matmul(x_g * carry, U_g)) * carry)
        return h, h

    @nn.nowrap
    def output(self, params: Params, gated: jax.Array) -> jax.Array:
        """The candidate, of g∘h."""
        return nn.softplus(gated)


class DSGUCell(SGUCell):
    """Deep simple gated unit (Gao & Glowacka 2016, PMLR 63): as the SGU, with the candidate σ((g∘h)·U_o)."""

    @nn.nowrap
    def output(self, params: Params, gated: jax.Array) -> jax.Array:
        """The candidate, of g∘h."""
        return nn.sigmoid(matmul(gated, params["output_kernel"]))

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `output_kernel` (H, H), U_o."""
        return super().parameters(features) | {"output_kernel": self.dense(self.recurrent_init, self.units)}


class MiRUCell(RecurrentCell):
    """Minion recurrent unit (MiRU), a GRU whose gates are numbers: h' = α·h + (1 − α)·tanh(x·W + (β·h)·U + b).

    Attributes:
        alpha: α, what takes the update gate's place.
        beta: β, what takes the reset gate's.
    """

    alpha: float = 0.5
    beta: float = 0.5

    gates = ("h",)
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        new = jnp.tanh(project(params, x) + recur(params, self.beta * carry))
        h = self.alpha * carry + (1 - self.alpha) * new
        return h, h
