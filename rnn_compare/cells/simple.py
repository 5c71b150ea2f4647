"""One layer of units that feed back, and what keeps such a layer from forgetting: no gates, or one for all units."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, project, recur, split


class RNNCell(RecurrentCell):
    """The plain recurrent network (Elman 1990): h' = φ(x·W + h·U + b).

    With φ = relu and the identity as U it is the IRNN (Le, Jaitly & Hinton 2015, arXiv 1504.00941).

    Attributes:
        activation: φ, the name of a function in `jax.nn`.
    """

    activation: str = "tanh"

    gates = ("h",)
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h = getattr(nn, self.activation)(project(params, x) + recur(params, carry))
        return h, h


class IndRNNCell(RecurrentCell):
    """Independently recurrent network (Li et al. 2018, arXiv 1803.04831): h' = relu(x·W + u∘h + b).

    Each unit sees itself alone. The paper draws u from [0, ᵀ√2], which for long sequences is [0, 1], and keeps it
    there: with a bound, u is cut to ±bound before it is used.

    Attributes:
        bound: the largest |u|; 0 for none.
    """

    recurrent_init: str = "unit_interval"
    bound: float = 0.0

    gates = ("h",)
    recurrent = ()
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        u = params["recurrent_vector"]
        if self.bound:
            u = jnp.clip(u, -self.bound, self.bound)
        h = nn.relu(project(params, x) + u * carry)
        return h, h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `recurrent_vector` (H,), u."""
        vector = self.dense(self.recurrent_init, 1)
        return super().parameters(features) | {"recurrent_vector": lambda key: vector(key)[0]}


class SCRNCell(RecurrentCell):
    """Structurally constrained recurrent network (Mikolov et al. 2015, arXiv 1412.7753); the carry is (h, s).

        s' = (1 − α)·x·W_s + α·s        h' = σ(x·W_h + s'·P + h·U)        y = h'·V + s'·V_s

    The paper's output layer takes y as it is, and has no biases.

    Attributes:
        alpha: α, how slow the context s is.
    """

    alpha: float = 0.95

    gates = ("s", "h")
    recurrent = ("h",)
    biases = 0
    states = 2

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h, s = carry
        x_s, x_h = split(matmul(x, params["kernel"]), 2)
        s = (1 - self.alpha) * x_s + self.alpha * s
        s_h, s_y = split(matmul(s, params["context_kernel"]), 2)
        h = nn.sigmoid(x_h + s_h + recur(params, h))
        return (h, s), matmul(h, params["output_kernel"]) + s_y

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `context_kernel` (H, 2H), P and V_s, and `output_kernel` (H, H), V."""
        return super().parameters(features) | {
            "context_kernel": self.dense(self.kernel_init, self.units, 2),
            "output_kernel": self.dense(self.kernel_init, self.units),
        }


class FastRNNCell(RecurrentCell):
    """FastRNN (Kusupati et al. 2018, arXiv 1901.02358): a residual connection with two trained weights, α and β.

        h' = σ(α)·tanh(x·W + h·U + b) + σ(β)·h

    They start at −3 and 3, as in the paper's own code.
    """

    gates = ("h",)
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        new = jnp.tanh(project(params, x) + recur(params, carry))
        h = nn.sigmoid(params["alpha"]) * new + nn.sigmoid(params["beta"]) * carry
        return h, h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones the scalars `alpha` and `beta`."""
        return super().parameters(features) | {"alpha": scalar(-3.0), "beta": scalar(3.0)}


class FastGRNNCell(RecurrentCell):
    """FastGRNN (Kusupati et al. 2018, arXiv 1901.02358): gate and candidate share both matrices.

        s = x·W + h·U        z = σ(s + b_z)        h' = (σ(ζ)·(1 − z) + σ(ν))∘tanh(s + b_h) + z∘h

    ζ and ν are trained, and start at 1 and −4, as in the paper's own code.
    """

    gates = ("z", "h")
    recurrent = ("s",)
    biases = 1
    keeps = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        b_z, b_h = split(params["bias"], 2)
        s = matmul(x, params["kernel"]) + recur(params, carry)
        z = nn.sigmoid(s + b_z)
        new = (nn.sigmoid(params["zeta"]) * (1 - z) + nn.sigmoid(params["nu"])) * jnp.tanh(s + b_h)
        h = new + z * carry
        return h, h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """`kernel` is (F, H), for both gates; besides the usual ones the scalars `zeta` and `nu`."""
        return super().parameters(features) | {
            "kernel": self.dense(self.kernel_init, features),
            "zeta": scalar(1.0),
            "nu": scalar(-4.0),
        }


def scalar(value: float) -> Start:
    """The start of a single number."""
    return lambda key: jnp.float32(value)
