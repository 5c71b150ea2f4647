"""Cells with a gate in depth: highway layers within a step, or from the input to the output."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, project, recur, split


class IntersectionRNNCell(RecurrentCell):
    """Intersection RNN, +RNN (Collins et al. 2017, arXiv 1611.09913): a gate in depth beside the one in time.

        h' = σ(z_h)∘h + (1 − σ(z_h))∘tanh(z_c)        y = σ(z_y)∘(x·W_x + b_x) + (1 − σ(z_y))∘relu(z_d)

    z = x·W + h·U + b. The paper's x has the size of h; here a product brings it to that size.
    """

    gates = ("d", "c", "y", "h", "x")
    recurrent = ("d", "c", "y", "h")
    biases = 1
    keeps = ("h",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        *z, input_ = split(project(params, x), 5)
        d, c, g_y, g_h = (a + b for a, b in zip(z, split(recur(params, carry), 4), strict=True))
        g_y, g_h = nn.sigmoid(g_y), nn.sigmoid(g_h)
        return g_h * carry + (1 - g_h) * jnp.tanh(c), g_y * input_ + (1 - g_y) * nn.relu(d)


class RHNCell(RecurrentCell):
    """Recurrent highway network (Zilly et al. 2017, arXiv 1607.03474): `depth` highway layers in each step.

        h ← tanh(z_h)∘t + h∘(1 − t), t = σ(z_t), z = h·U_l + b_l, in the first layer + x·W

    The biases of t start at −2 in the paper's code, which `replaces` and `forget_2` give.

    Attributes:
        depth: L, the number of layers.
    """

    depth: int = 2

    bias_init: str = "forget_2"

    gates = ("h", "t")
    biases = 1
    replaces = ("t",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h = carry
        for layer in range(self.depth):
            z = matmul(h, params["recurrent_kernel"][layer]) + params["bias"][layer]
            new, t = split(z + matmul(x, params["kernel"]) if layer == 0 else z, 2)
            h = jnp.tanh(new) * nn.sigmoid(t) + h * (1 - nn.sigmoid(t))
        return h, h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """As usual, but that `recurrent_kernel` is (L, H, 2H) and `bias` (L, 2H)."""
        one = super().parameters(features)

        def each(start: Start) -> Start:
            return lambda key: jnp.stack([start(k) for k in jax.random.split(key, self.depth)])

        return one | {name: each(one[name]) for name in ("recurrent_kernel", "bias")}
