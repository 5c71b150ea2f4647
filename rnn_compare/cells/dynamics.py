"""Cells that are a step of a differential equation: the state is moved a little, and not made anew."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import uniform

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, project, recur, split


class AntisymmetricRNNCell(RecurrentCell):
    """Antisymmetric RNN (Chang et al. 2019, arXiv 1902.09689), a step of Euler's method on a stable equation.

        A = U − Uᵀ − γI        h' = h + ε·tanh(x·W + h·A + b)

    U starts normal with the variance 1/H; the paper tunes it, and both constants.

    Attributes:
        epsilon: ε, the size of a step.
        gamma: γ, the strength of diffusion.
    """

    epsilon: float = 0.01
    gamma: float = 0.01

    recurrent_init: str = "lecun_normal"

    gates: ClassVar[tuple[str, ...]] = ("h",)
    recurrent = ("h",)
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h = carry + self.epsilon * jnp.tanh(project(params, x) + matmul(carry, self.antisymmetric(params)))
        return h, h

    @nn.nowrap
    def antisymmetric(self, params: Params) -> jax.Array:
        """A, (H, H)."""
        U = params["recurrent_kernel"]
        return U - U.T - self.gamma * jnp.eye(self.units, dtype=U.dtype)


class GatedAntisymmetricRNNCell(AntisymmetricRNNCell):
    """Antisymmetric RNN with a gate (Chang et al. 2019, arXiv 1902.09689), which takes the same product.

    z = σ(x·W_z + h·A + b_z)        h' = h + ε·z∘tanh(x·W_h + h·A + b_h)
    """

    gates = ("z", "h")
    admits = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_z, x_h = split(project(params, x), 2)
        product = matmul(carry, self.antisymmetric(params))
        h = carry + self.epsilon * nn.sigmoid(x_z + product) * jnp.tanh(x_h + product)
        return h, h


class CoRNNCell(RecurrentCell):
    """Coupled oscillatory RNN (Rusch & Mishra 2021, arXiv 2010.00951); the carry is (y, z), position and velocity.

        z' = z + Δt·(tanh(x·W + y·U_y + z·U_z + b) − γ·y − ε·z)        y' = y + Δt·z'

    The constants are those of the paper's sequential MNIST. All weights start uniform on ±1/√H (in its code, which
    makes one product of all, on ±1/√(F + 2H)).

    Attributes:
        dt: Δt, the size of a step.
        gamma: γ, the springs' stiffness.
        epsilon: ε, the damping.
    """

    dt: float = 0.042
    gamma: float = 2.7
    epsilon: float = 4.7

    kernel_init: str = "uniform_units_per_gate"
    recurrent_init: str = "uniform_units_per_gate"
    bias_init: str = "uniform_units"

    gates = ("z",)
    recurrent = ("y", "z")
    biases = 1
    states = 2

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        y, z = carry
        U_y, U_z = split(params["recurrent_kernel"], 2)
        force = jnp.tanh(project(params, x) + matmul(y, U_y) + matmul(z, U_z))
        z = z + self.dt * (force - self.gamma * y - self.epsilon * z)
        y = y + self.dt * z
        return (y, z), y


class UnICORNNCell(RecurrentCell):
    """Undamped independent controlled oscillatory RNN (Rusch & Mishra 2021, arXiv 2103.05487); the carry is (y, z).

        z' = z − Δt·σ(c)∘(tanh(w∘y + x·W + b) + α·y)        y' = y + Δt·σ(c)∘z'

    w starts uniform on [0, 1], and c, each unit's own time scale, on [−0.1, 0.1].

    Attributes:
        dt: Δt, the size of a step.
        alpha: α, the strength of the force that draws y back.
    """

    dt: float = 0.19
    alpha: float = 30.65

    recurrent_init: str = "unit_interval"

    gates = ("z",)
    recurrent = ()
    biases = 1
    states = 2

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        y, z = carry
        scale = self.dt * nn.sigmoid(params["control"])
        z = z - scale * (jnp.tanh(project(params, x) + params["recurrent_vector"] * y) + self.alpha * y)
        y = y + scale * z
        return (y, z), y

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `recurrent_vector` (H,), w, and `control` (H,), c."""
        vector = self.dense(self.recurrent_init, 1)
        return super().parameters(features) | {
            "recurrent_vector": lambda key: vector(key)[0],
            "control": lambda key: uniform(0.2)(key, (self.units,)) - 0.1,
        }


class LEMCell(RecurrentCell):
    """Long expressive memory (Rusch et al. 2022, arXiv 2110.04744); the carry is (y, z), fast and slow.

        Δ₁ = Δt·σ(x·W_1 + y·U_1 + b_1)        z' = (1 − Δ₂)∘z + Δ₂∘tanh(x·W_z + y·U_z + b_z)
        Δ₂ = Δt·σ(x·W_2 + y·U_2 + b_2)        y' = (1 − Δ₁)∘y + Δ₁∘tanh(x·W_y + z'·V + b_y)

    Which of the two steps is whose, and that y' takes the new z', is as in the paper's code, where all weights start
    uniform on ±1/√H.

    Attributes:
        dt: Δt, the largest step.
    """

    dt: float = 1.0

    kernel_init: str = "uniform_units_per_gate"
    recurrent_init: str = "uniform_units_per_gate"
    bias_init: str = "uniform_units"

    gates = ("1", "2", "z", "y")
    recurrent = ("1", "2", "z")
    biases = 1
    states = 2
    replaces = ("1", "2")

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        y, z = carry
        x_1, x_2, x_z, x_y = split(project(params, x), 4)
        y_1, y_2, y_z = split(recur(params, y), 3)
        fast, slow = self.dt * nn.sigmoid(x_1 + y_1), self.dt * nn.sigmoid(x_2 + y_2)
        z = (1 - slow) * z + slow * jnp.tanh(x_z + y_z)
        y = (1 - fast) * y + fast * jnp.tanh(x_y + matmul(z, params["slow_kernel"]))
        return (y, z), y

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `slow_kernel` (H, H), V."""
        return super().parameters(features) | {"slow_kernel": self.dense(self.recurrent_init, self.units)}
