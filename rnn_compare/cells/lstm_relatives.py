"""Cells that the LSTM grew into: other memories, other outputs, other ways for the gates to see the state."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import ones

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, per_unit, project, recur, split
from rnn_compare.cells.initializers import BIASES, matrix
from rnn_compare.cells.odyssey import PeepholeLSTMCell


class OriginalLSTMCell(RecurrentCell):
    """The LSTM of 1997 (Hochreiter & Schmidhuber), which has no forget gate: c' = c + σ(z_i)∘tanh(z_c).

    The carry is (c, h), h' = σ(z_o)∘tanh(c'), z = x·W + h·U + b.
    """

    gates = ("i", "c", "o")
    biases, states = 1, 2
    admits = ("i",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        i, g, o = split(project(params, x) + recur(params, h), 3)
        c = c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h


class ProjectedLSTMCell(RecurrentCell):
    """LSTM with a recurrent projection (Sak et al. 2014, arXiv 1402.1128): a memory larger than what is handed on.

    An LSTM with peepholes of M = `expand`·H memory cells, whose output is projected onto the H units: h' = m'·P. The
    carry is (c, h), [B, M] and [B, H]; in the parameters' shapes M takes the place of H in all gates.

    Attributes:
        expand: memory cells for each unit.
    """

    expand: int = 2

    gates = ("i", "f", "c", "o")
    biases = 1
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        i, f, g, o = split(project(params, x) + recur(params, h), 4)
        p_i, p_f, p_o = split(params["peephole"], 3)
        c = nn.sigmoid(f + p_f * c) * c + nn.sigmoid(i + p_i * c) * jnp.tanh(g)
        h = matmul(nn.sigmoid(o + p_o * c) * jnp.tanh(c), params["projection"])
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides those of an LSTM `peephole` (3M,) and `projection` (M, H), P."""
        H, M = self.units, self.expand * self.units
        return {
            "kernel": lambda key: matrix(self.kernel_init, 4)(key, (features, 4 * M)),
            "recurrent_kernel": lambda key: matrix(self.recurrent_init, 4)(key, (H, 4 * M)),
            "bias": lambda key: BIASES[self.bias_init](key, PeepholeLSTMCell(M, parent=None)).reshape(4 * M),
            "peephole": per_unit(3 * M),
            "projection": self.dense(self.kernel_init, M),
        }

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...], dtype: Any = jnp.float32) -> Carry:
        """(c, h), both zero."""
        h = super().initialize_carry(rng, input_shape, dtype)
        return jnp.zeros((*input_shape[:-1], self.expand * self.units), dtype), h


class ResidualLSTMCell(PeepholeLSTMCell):
    """Residual LSTM (Kim et al. 2017, arXiv 1701.03360): the output is a projection, and the input is added to it.

    With c' as in the LSTM with peepholes: h' = σ(z_o + p_o∘c')∘(tanh(c')·P + x·R).
    """

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        z, p = self.parts(project(params, x) + recur(params, h)), self.peepholes(params)
        i, f = self.gate("i", z, p, c), self.gate("f", z, p, c)
        c = f * c + i * jnp.tanh(z["c"])
        residual = matmul(x, params["residual_kernel"])
        h = self.gate("o", z, p, c) * (matmul(jnp.tanh(c), params["projection"]) + residual)
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides those with peepholes `projection` (H, H), P, and `residual_kernel` (F, H), R."""
        return super().parameters(features) | {
            "projection": self.dense(self.kernel_init, self.units),
            "residual_kernel": self.dense(self.kernel_init, features),
        }


class LayerNormLSTMCell(RecurrentCell):
    """Layer-normalised LSTM (Ba, Kiros & Hinton 2016, arXiv 1607.06450, eq. 20 to 22); the carry is (c, h).

        z = N(h·U; α₁, 0) + N(x·W; α₂, 0) + b        c' = σ(z_f)∘c + σ(z_i)∘tanh(z_c)
        h' = σ(z_o)∘tanh(N(c'; α₃, β₃))

    N makes the mean of a row's numbers 0 and their variance 1, then scales and shifts them by α and β. The shifts of
    the first two are in b. α starts at one, β at zero.
    """

    gates = ("i", "f", "c", "o")
    biases, states = 1, 2
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        past = normalised(recur(params, h)) * params["recurrent_scale"]
        z = past + normalised(matmul(x, params["kernel"])) * params["scale"] + params["bias"]
        i, f, g, o = split(z, 4)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(normalised(c) * params["cell_scale"] + params["cell_bias"])
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `recurrent_scale` and `scale` (4H,), α₁ and α₂, `cell_scale` and `cell_bias` (H,)."""
        H = self.units
        return super().parameters(features) | {
            "recurrent_scale": per_unit(4 * H, ones),
            "scale": per_unit(4 * H, ones),
            "cell_scale": per_unit(H, ones),
            "cell_bias": per_unit(H),
        }


def normalised(z: jax.Array) -> jax.Array:
    """Rows of mean 0 and variance 1; 1e-5 is added to the variance, so that a constant row is all zeros."""
    centred = z - z.mean(axis=-1, keepdims=True)
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axis=-1, keepdims=True) + 1e-5)


class MultiplicativeLSTMCell(RecurrentCell):
    """Multiplicative LSTM (Krause et al. 2016, arXiv 1609.07959): the recurrent matrix depends on the input.

    m = (x·W_m + b_m)∘(h·M) takes the place of h in the gates of an LSTM; the carry is (c, h).
    """

    gates = ("m", "i", "f", "c", "o")
    recurrent = ("i", "f", "c", "o")
    biases, states = 1, 2
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        x_m, *z = split(project(params, x), 5)
        m = x_m * matmul(h, params["multiplicative_kernel"])
        i, f, g, o = (a + b for a, b in zip(z, split(recur(params, m), 4), strict=True))
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `multiplicative_kernel` (H, H), M."""
        return super().parameters(features) | {"multiplicative_kernel": self.dense(self.recurrent_init, self.units)}


class WorkingMemoryLSTMCell(RecurrentCell):
    """LSTM with working memory connections (Landi et al. 2021, arXiv 2109.00020): gates see the memory, squashed.

    With z = x·W + h·U + b the gates are σ(z_i + tanh(c·M_i)), σ(z_f + tanh(c·M_f)) and σ(z_o + tanh(c'·M_o)); the rest
    is an LSTM, and the carry is (c, h).
    """

    gates = ("i", "f", "c", "o")
    biases, states = 1, 2
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        i, f, g, o = split(project(params, x) + recur(params, h), 4)
        M_i, M_f, M_o = split(params["memory_kernel"], 3)
        i, f = nn.sigmoid(i + jnp.tanh(matmul(c, M_i))), nn.sigmoid(f + jnp.tanh(matmul(c, M_f)))
        c = f * c + i * jnp.tanh(g)
        h = nn.sigmoid(o + jnp.tanh(matmul(c, M_o))) * jnp.tanh(c)
        return (c, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `memory_kernel` (H, 3H), M_i, M_f and M_o."""
        return super().parameters(features) | {"memory_kernel": self.dense(self.recurrent_init, self.units, 3)}


class MemoryControlLSTMCell(RecurrentCell):
    """LSTM whose memory is shown to the outside by one gate and to itself by another (memory-cell LSTM, MCLSTM).

    The gates see the control v instead of the output: z = x·W + v·U + b, and the carry is (v, c):

        c' = σ(z_f)∘c + σ(z_i)∘tanh(z_c)        h' = σ(z_o)∘tanh(c')        v' = σ(z_v)∘tanh(c')
    """

    gates = ("f", "i", "o", "v", "c")
    biases, states = 1, 2
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        v, c = carry
        f, i, o, shown, g = split(project(params, x) + recur(params, v), 5)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(shown) * jnp.tanh(c), c), nn.sigmoid(o) * jnp.tanh(c)


class NASCell(RecurrentCell):
    """The cell that a search found (Zoph & Le 2017, arXiv 1611.01578), as TensorFlow's NASCell has it.

    With the eight blocks a of x·W and b of h·U + b_R, and k for a_k + b_k:

        u = tanh(σ(0)·relu(1)) + c                  c' = tanh(u)∘tanh(σ(2) + relu(a₃∘b₃))
        v = tanh(tanh(4)∘σ(5)) + σ(tanh(6) + σ(7))  h' = tanh(c'∘tanh(v))

    The carry is (c, h).
    """

    gates = tuple("01234567")
    biases, states = 1, 2

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        a, b = split(matmul(x, params["kernel"]), 8), split(recur(params, h) + params["bias"], 8)
        z = [a[k] + b[k] for k in range(8)]
        u = jnp.tanh(nn.sigmoid(z[0]) * nn.relu(z[1])) + c
        c = jnp.tanh(u) * jnp.tanh(nn.sigmoid(z[2]) + nn.relu(a[3] * b[3]))
        v = jnp.tanh(jnp.tanh(z[4]) * nn.sigmoid(z[5])) + nn.sigmoid(jnp.tanh(z[6]) + nn.sigmoid(z[7]))
        h = jnp.tanh(c * jnp.tanh(v))
        return (c, h), h


class SLSTMCell(RecurrentCell):
    """The xLSTM's sLSTM (Beck et al. 2024, arXiv 2405.04517): an exponential input gate, memory mixed by heads.

    With z = x·W + h·R + b, the units in `heads` heads that R keeps apart, and the carry (c, n, m, h):

        m' = max(log σ(z_f) + m, z_i)               c' = f∘c + i∘tanh(z_c)       h' = σ(z_o)∘c'/n'
        i = exp(z_i − m'), f = exp(log σ(z_f) + m − m')     n' = f∘n + i

    m only keeps the exponentials in range. R starts at zero and the forget gate's biases evenly from 3 to 6, as in the
    paper's code.

    Attributes:
        heads: how many heads the units are cut into; it must divide them.
    """

    heads: int = 1

    recurrent_init: str = "zeros"
    bias_init: str = "forget_3_to_6"

    gates = ("i", "f", "c", "o")
    biases, states = 1, 4
    keeps, admits, opens = ("f",), ("i",), ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, n, m, h = carry
        by_head = h.reshape(h.shape[0], self.heads, -1)
        z_h = jnp.einsum("bhk,ghkj->bghj", by_head, params["recurrent_kernel"], precision=jax.lax.Precision.HIGHEST)
        i, f, g, o = split(project(params, x) + z_h.reshape(h.shape[0], -1), 4)
        forget = jax.nn.log_sigmoid(f) + m
        m = jnp.maximum(forget, i)
        i, f = jnp.exp(i - m), jnp.exp(forget - m)
        c, n = f * c + i * jnp.tanh(g), f * n + i
        h = nn.sigmoid(o) * c / n
        return (c, n, m, h), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """As usual, but that `recurrent_kernel` is (4, heads, H / heads, H / heads), R.

        Raises:
            ValueError: the heads do not divide the units.
        """
        size, rest = divmod(self.units, self.heads)
        if rest:
            raise ValueError(f"{self.units} units cannot be cut into {self.heads} heads")
        blocks = 4 * self.heads

        def block_diagonal(key: jax.Array) -> jax.Array:
            drawn = matrix(self.recurrent_init, blocks)(key, (size, blocks * size))
            return jnp.moveaxis(drawn.reshape(size, 4, self.heads, size), 0, 2)

        return super().parameters(features) | {"recurrent_kernel": block_diagonal}
