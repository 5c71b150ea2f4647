"""Cells whose gates take one product of the state, and say how much of it stays; the carry is h, or c and h."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, project, recur, split


class UGRNNCell(RecurrentCell):
    """Update gate RNN (Collins et al. 2017, arXiv 1611.09913): h' = g∘h + (1 − g)∘tanh(z_c), g = σ(z_g).

    z = x·W + h·U + b.
    """

    gates = ("c", "g")
    biases = 1
    keeps = ("g",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, g = split(project(params, x) + recur(params, carry), 2)
        h = nn.sigmoid(g) * carry + (1 - nn.sigmoid(g)) * jnp.tanh(c)
        return h, h


class JANETCell(RecurrentCell):
    """Just another network (van der Westhuizen & Lasenby 2018, arXiv 1804.04849): an LSTM whose only gate forgets.

        s = x·W_f + h·U_f + b_f        h' = σ(s)∘h + (1 − σ(s − β))∘tanh(x·W_c + h·U_c + b_c)

    The forget gate starts by chrono initialization for the longest memory, here of 1,000 steps.

    Attributes:
        beta: β, by how much more is forgotten than let in.
    """

    beta: float = 1.0

    bias_init: str = "chrono_1000"

    gates = ("f", "c")
    biases = 1
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        s, c = split(project(params, x) + recur(params, carry), 2)
        h = nn.sigmoid(s) * carry + (1 - nn.sigmoid(s - self.beta)) * jnp.tanh(c)
        return h, h


class LiGRUCell(RecurrentCell):
    """Light GRU (Ravanelli et al. 2018, arXiv 1803.10225), without its batch normalisation: no reset gate, and relu.

    h' = z∘h + (1 − z)∘relu(x·W_h + h·U_h + b_h), z = σ(x·W_z + h·U_z + b_z)
    """

    gates = ("z", "h")
    biases = 1
    keeps = ("z",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        z, new = split(project(params, x) + recur(params, carry), 2)
        h = nn.sigmoid(z) * carry + (1 - nn.sigmoid(z)) * nn.relu(new)
        return h, h


class LightRUCell(RecurrentCell):
    """Light recurrent unit (Ye et al. 2024, doi 10.3390/electronics13163204): the candidate does not see the state.

    h' = (1 − f)∘h + f∘tanh(x·W_h + b_h), f = σ(x·W_f + h·U + b_f)
    """

    gates = ("h", "f")
    recurrent = ("f",)
    biases = 1
    replaces = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        new, f = self.candidate_and_gate(params, carry, x)
        h = (1 - f) * carry + f * new
        return h, h

    @nn.nowrap
    def candidate_and_gate(self, params: Params, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """tanh(x·W_h + b_h) and f."""
        x_h, x_f = split(project(params, x), 2)
        return jnp.tanh(x_h), nn.sigmoid(x_f + recur(params, h))


class STARCell(LightRUCell):
    """Stackable recurrent cell (Turkoglu et al. 2021, arXiv 1911.11033): h' = tanh((1 − k)∘h + k∘tanh(x·W_z + b_z)).

    k = σ(x·W_k + h·U + b_k).
    """

    gates = ("z", "k")
    recurrent = ("k",)
    replaces = ("k",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        z, k = self.candidate_and_gate(params, carry, x)
        h = jnp.tanh((1 - k) * carry + k * z)
        return h, h


class SGRNCell(RecurrentCell):
    """Simple gated recurrent network (Gao et al. 2020, doi 10.1049/gtd2.12056): one projection, used twice.

    h' = tanh(f∘h + (1 − f)∘p), p = x·W + b, f = σ(p + h·U)
    """

    gates = ("f",)
    biases = 1
    keeps = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        p = project(params, x)
        f = nn.sigmoid(p + recur(params, carry))
        h = jnp.tanh(f * carry + (1 - f) * p)
        return h, h


class ATRCell(RecurrentCell):
    """Addition-subtraction twin-gated network (Zhang et al. 2018, arXiv 1810.12546): two gates of one sum.

    h' = σ(p + q)∘p + σ(p − q)∘h, p = x·W + b, q = h·U
    """

    gates = ("p",)
    biases = 1

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        p, q = project(params, x), recur(params, carry)
        h = nn.sigmoid(p + q) * p + nn.sigmoid(p - q) * carry
        return h, h


class MinimalRNNCell(RecurrentCell):
    """Minimal RNN (Chen 2017, arXiv 1711.06788): the state lives in a latent space that the input is brought into.

    v = tanh(x·W + b_v)        h' = u∘h + (1 − u)∘v, u = σ(h·U + v·V + b_u)
    """

    gates = ("u",)
    biases = 1
    keeps = opens = ("u",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        v = jnp.tanh(matmul(x, params["kernel"]) + params["input_bias"])
        u = nn.sigmoid(recur(params, carry) + matmul(v, params["latent_kernel"]) + params["bias"])
        h = u * carry + (1 - u) * v
        return h, h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `input_bias` (H,), b_v, and `latent_kernel` (H, H), V."""
        return super().parameters(features) | {
            "input_bias": lambda key: jnp.zeros(self.units),
            "latent_kernel": self.dense(self.kernel_init, self.units),
        }


class RANCell(RecurrentCell):
    """Recurrent additive network (Lee et al. 2017, arXiv 1705.07393): a weighted sum of linear contents.

        c' = σ(z_i)∘(x·W_c) + σ(z_f)∘c        h' = tanh(c')

    z = x·W + h·U + b; the content has no bias. The carry is (c, h).
    """

    gates = ("i", "f")
    biases, states = 1, 2
    keeps, admits = ("f",), ("i",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        i, f = split(project(params, x) + recur(params, h), 2)
        c = nn.sigmoid(i) * matmul(x, params["content_kernel"]) + nn.sigmoid(f) * c
        h = jnp.tanh(c)
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `content_kernel` (F, H), W_c."""
        return super().parameters(features) | {"content_kernel": self.dense(self.kernel_init, features)}


class CFNCell(RecurrentCell):
    """Chaos free network (Laurent & von Brecht 2017, arXiv 1612.06212): without input the state dies away.

    h' = σ(z_θ)∘tanh(h) + σ(z_η)∘tanh(x·W_h + b_h), z = x·W + h·U + b
    """

    gates = ("θ", "η", "h")
    recurrent = ("θ", "η")
    biases = 1
    keeps, admits = ("θ",), ("η",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_θ, x_η, x_h = split(project(params, x), 3)
        h_θ, h_η = split(recur(params, carry), 2)
        h = nn.sigmoid(x_θ + h_θ) * jnp.tanh(carry) + nn.sigmoid(x_η + h_η) * jnp.tanh(x_h)
        return h, h


class NBRCCell(RecurrentCell):
    """Neuromodulated bistable recurrent cell (Vecoven et al. 2021, doi 10.1371/journal.pone.0252676).

        a = 1 + tanh(x·W_a + h·U_a + b_a)        h' = c∘h + (1 − c)∘tanh(x·W_h + a∘h + b_h)
        c = σ(x·W_c + h·U_c + b_c)

    A unit whose a is above one has two stable states, and remembers for ever.
    """

    gates = ("a", "c", "h")
    recurrent: ClassVar[tuple[str, ...]] = ("a", "c")
    biases = 1
    keeps = ("c",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        x_a, x_c, x_h = split(project(params, x), 3)
        h_a, h_c = split(self.modulation(params, carry), 2)
        a, c = 1 + jnp.tanh(x_a + h_a), nn.sigmoid(x_c + h_c)
        h = c * carry + (1 - c) * jnp.tanh(x_h + a * carry)
        return h, h

    @nn.nowrap
    def modulation(self, params: Params, h: jax.Array) -> jax.Array:
        """The state's part of a and c, [B, 2H]."""
        return recur(params, h)


class BRCCell(NBRCCell):
    """Bistable recurrent cell (Vecoven et al. 2021): as nBRC, but that each unit sees itself alone, w_a∘h and w_c∘h."""

    recurrent = ()

    @nn.nowrap
    def modulation(self, params: Params, h: jax.Array) -> jax.Array:
        """The state's part of a and c, [B, 2H]."""
        return jnp.concatenate([h, h], axis=-1) * params["recurrent_vector"]

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `recurrent_vector` (2H,), w_a and w_c."""
        vector = self.dense(self.recurrent_init, 1, 2)
        return super().parameters(features) | {"recurrent_vector": lambda key: vector(key)[0]}
