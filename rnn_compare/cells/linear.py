"""Cells in which the state meets no matrix: each unit sees itself alone, and most of them are linear in it."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, per_unit, project, split


def positive(x: jax.Array) -> jax.Array:
    """Of x the positive function x + ½ from 0 up, below it σ(x) (Feng et al. 2024, appendix B)."""
    return jnp.where(x >= 0, x + 0.5, nn.sigmoid(x))


class MinGRUCell(RecurrentCell):
    """minGRU (Feng et al. 2024, arXiv 2410.01201): h' = (1 − z)∘h + z∘g(x·W_h + b_h), z = σ(x·W_z + b_z).

    g is `positive`.
    """

    gates = ("z", "h")
    recurrent = ()
    biases = 1
    replaces = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        z, new = split(project(params, x), 2)
        h = (1 - nn.sigmoid(z)) * carry + nn.sigmoid(z) * positive(new)
        return h, h


class MinLSTMCell(RecurrentCell):
    """minLSTM (Feng et al. 2024, arXiv 2410.01201): h' = (f∘h + i∘g(x·W_h + b_h)) / (f + i).

    f = σ(x·W_f + b_f), i = σ(x·W_i + b_i); g is `positive`.
    """

    gates = ("h", "f", "i")
    recurrent = ()
    biases = 1
    keeps, admits = ("f",), ("i",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        new, f, i = split(project(params, x), 3)
        f, i = nn.sigmoid(f), nn.sigmoid(i)
        h = f / (f + i) * carry + i / (f + i) * positive(new)
        return h, h


class SRUCell(RecurrentCell):
    """Simple recurrent unit (Lei et al. 2018, arXiv 1709.02755); the carry is c.

        f = σ(x·W_f + v_f∘c + b_f)        c' = f∘c + (1 − f)∘(x·W_c)
        r = σ(x·W_r + v_r∘c + b_r)        h = r∘c' + (1 − r)∘(x·W_x)

    The paper's highway takes x as it is where its size is that of c; here, and in its code elsewhere, x·W_x.
    """

    gates = ("f", "r")
    recurrent = ()
    biases = 1
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        v_f, v_r = split(params["recurrent_vector"], 2)
        x_f, x_r = split(project(params, x), 2)
        f, r = nn.sigmoid(x_f + v_f * carry), nn.sigmoid(x_r + v_r * carry)
        new, through = split(matmul(x, params["content_kernel"]), 2)
        c = f * carry + (1 - f) * new
        return c, r * c + (1 - r) * through

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `content_kernel` (F, 2H), W_c and W_x, and `recurrent_vector` (2H,), v, zero."""
        return super().parameters(features) | {
            "content_kernel": self.dense(self.kernel_init, features, 2),
            "recurrent_vector": per_unit(2 * self.units),
        }


class WithPreviousInput(RecurrentCell):
    """A cell that sees the input before, too: z = x·W + x₋₁·V + b. The carry is (state, x₋₁), [B, H] and [B, F]."""

    recurrent = ()
    biases = 1

    @nn.nowrap
    def both(self, params: Params, x: jax.Array, before: jax.Array) -> list[jax.Array]:
        """z, by gate."""
        return split(project(params, x) + matmul(before, params["previous_kernel"]), len(self.gates))

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `previous_kernel` (F, nH), V."""
        return super().parameters(features) | {
            "previous_kernel": self.dense(self.kernel_init, features, len(self.gates))
        }

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...], dtype: Any = jnp.float32) -> Carry:
        """(state, x₋₁), both zero."""
        return super().initialize_carry(rng, input_shape, dtype), jnp.zeros(input_shape, dtype)


class QRNNCell(WithPreviousInput):
    """Quasi-recurrent network (Bradbury et al. 2017, arXiv 1611.01576), fo-pooling of a convolution of width two.

    c' = σ(z_f)∘c + (1 − σ(z_f))∘tanh(z_c)        h = σ(z_o)∘c'
    """

    gates = ("c", "f", "o")
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, before = carry
        new, f, o = self.both(params, x, before)
        c = nn.sigmoid(f) * c + (1 - nn.sigmoid(f)) * jnp.tanh(new)
        return (c, x), nn.sigmoid(o) * c


class TRNNCell(RecurrentCell):
    """Strongly typed RNN (Balduzzi & Ghifary 2016, arXiv 1602.02218): h' = f∘h + (1 − f)∘(x·W_z + b_z).

    f = σ(x·W_f + b_f).
    """

    gates = ("z", "f")
    recurrent = ()
    biases = 1
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        z, f = split(project(params, x), 2)
        h = nn.sigmoid(f) * carry + (1 - nn.sigmoid(f)) * z
        return h, h


class TGRUCell(WithPreviousInput):
    """Strongly typed GRU (Balduzzi & Ghifary 2016, arXiv 1602.02218): h' = σ(z_f)∘h + z_z∘tanh(z_o)."""

    gates = ("z", "f", "o")
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        h, before = carry
        z, f, o = self.both(params, x, before)
        h = nn.sigmoid(f) * h + z * jnp.tanh(o)
        return (h, x), h


class TLSTMCell(WithPreviousInput):
    """Strongly typed LSTM (Balduzzi & Ghifary 2016, arXiv 1602.02218).

    c' = σ(z_f)∘c + (1 − σ(z_f))∘z_z        h = c'∘tanh(z_o)
    """

    gates = ("z", "f", "o")
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, before = carry
        z, f, o = self.both(params, x, before)
        c = nn.sigmoid(f) * c + (1 - nn.sigmoid(f)) * z
        return (c, x), c * jnp.tanh(o)


class LRUCell(RecurrentCell):
    """Linear recurrent unit (Orvieto et al. 2023, arXiv 2303.06349), a complex diagonal system as pairs of reals.

        s' = λ∘s + γ∘(x·B)        y = Re(s'·C) + x·D        λ = exp(−exp(ν) + i·exp(θ))

    The carry is (Re s, Im s). |λ|² starts uniform on [0, 1], λ's phase uniform on [0, 2π], and γ at √(1 − |λ|²), as in
    the paper's code. D is a matrix, which brings x to the size of y; all three start normal, of the variance 1/fan-in.
    """

    kernel_init: str = "lecun_normal"
    recurrent_init: str = "lecun_normal"

    gates = ("B_re", "B_im", "D")
    recurrent = ("C_re", "C_im")
    biases, states = 0, 2

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        re, im = carry
        B_re, B_im, D = split(matmul(x, params["kernel"]), 3)
        nu, theta, log_gamma = split(params["spectrum"], 3)
        size, phase, gamma = jnp.exp(-jnp.exp(nu)), jnp.exp(theta), jnp.exp(log_gamma)
        a, b = size * jnp.cos(phase), size * jnp.sin(phase)
        re, im = a * re - b * im + gamma * B_re, a * im + b * re + gamma * B_im
        C_re, C_im = split(params["recurrent_kernel"], 2)
        return (re, im), matmul(re, C_re) - matmul(im, C_im) + D

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """B and D as `kernel` (F, 3H), C as `recurrent_kernel` (H, 2H), and `spectrum` (3H,): ν, θ and log γ."""

        def spectrum(key: jax.Array) -> jax.Array:
            square, turn = jax.random.uniform(key, (2, self.units), minval=1e-6)
            theta = jnp.log(2 * jnp.pi * turn)
            return jnp.concatenate([jnp.log(-0.5 * jnp.log(square)), theta, 0.5 * jnp.log1p(-square)])

        return super().parameters(features) | {"spectrum": spectrum}
