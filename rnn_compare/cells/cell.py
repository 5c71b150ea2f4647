"""What the cells share: their parameters, the two products of a step, and how Flax calls them.

Axis sizes: B batch, F features, H hidden units, n gates.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.typing import Initializer
from jax.lax import Precision
from jax.nn.initializers import zeros

from rnn_compare.cells.initializers import BIASES, matrix

Params = dict[str, jax.Array]
Carry = Any  # (c, h) for the LSTM, h for the GRU; every array [B, H]
Start = Callable[[jax.Array], jax.Array]  # a random key -> what a parameter starts as

# On a GPU the default precision of a float32 product is TF32, whose rounding would drown the differences between
# cells; products are float32 everywhere.
matmul = partial(jnp.matmul, precision=Precision.HIGHEST)


class RecurrentCell(nn.RNNCellBase):
    """A recurrent cell: one `step`, which is a function of (params, carry, x), and the parameters that it takes.

    It is a Flax cell too: `flax.linen.RNN(LSTMCell(16))` holds the parameters that the same step is given.

    Parameters, in whose last axis lie the blocks of n gates, or of the m that the state has a part in, side by side:

        kernel            (F, nH)   applied to the input
        recurrent_kernel  (H, mH)   applied to the previous hidden state; none if m is 0
        bias              (nH,)     added to the input's part
        recurrent_bias    (nH,)     added to the state's part, in cells with two biases, as in Keras' CuDNN layers

    Attributes:
        units: size of the hidden state (H).
        kernel_init: name of the (F, nH) kernel's initializer, one of `initializers.MATRICES`.
        recurrent_init: name of the (H, mH) recurrent kernel's.
        bias_init: name of the bias' initializer, one of `initializers.BIASES`; of two, the recurrent one's.
        gates: names of the n gates, in the order of the parameters' last axis.
        recurrent: names of the m gates of the recurrent kernel; all of `gates` unless it says otherwise.
        biases: how many bias vectors there are.
        states: how many arrays [B, H] the carry is made of; one is no tuple.
        keeps: the gates that keep the past: the nearer to one, the more of the old state stays.
        admits: those that let the present in, and do nothing else.
        replaces: those that let the present in at the past's expense.
        opens: those whose bias starts at one by default.
    """

    units: int
    kernel_init: str = "glorot_uniform"
    recurrent_init: str = "orthogonal"
    bias_init: str = "unit_forget"

    gates: ClassVar[tuple[str, ...]]
    recurrent: ClassVar[tuple[str, ...] | None] = None
    biases: ClassVar[int] = 2
    states: ClassVar[int] = 1
    keeps: ClassVar[tuple[str, ...]] = ()
    admits: ClassVar[tuple[str, ...]] = ()
    replaces: ClassVar[tuple[str, ...]] = ()
    opens: ClassVar[tuple[str, ...]] = ()

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step: the carry and the input [B, F] -> the new carry and the hidden state [B, H].

        Of the cell itself it may read the attributes, and nothing else.
        """
        raise NotImplementedError

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Each parameter's initializer, a function of a random key, for inputs of so many features (F)."""
        n, m, H = len(self.gates), len(self.gates if self.recurrent is None else self.recurrent), self.units
        named = {"kernel": self.dense(self.kernel_init, features, n)}
        if m:
            named["recurrent_kernel"] = self.dense(self.recurrent_init, H, m)
        if self.biases == 2:
            named |= {"bias": per_unit(n * H), "recurrent_bias": self.gate_biases}
        elif self.biases:
            named["bias"] = self.gate_biases
        return named

    @nn.nowrap
    def dense(self, init: str, rows: int, blocks: int = 1) -> Start:
        """The start of a matrix (rows, blocks·H) by the initializer of that name."""
        return lambda key: matrix(init, blocks)(key, (rows, blocks * self.units))

    @nn.nowrap
    def gate_biases(self, key: jax.Array) -> jax.Array:
        """The start of the gates' biases, (nH,), by `bias_init`."""
        return BIASES[self.bias_init](key, self).reshape(len(self.gates) * self.units)

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...], dtype: Any = jnp.float32) -> Carry:
        """The carry before the first step, for inputs of the shape (…, F): zeros; the key is not used."""
        zeros = jnp.zeros((*input_shape[:-1], self.units), dtype)
        return zeros if self.states == 1 else (zeros,) * self.states

    @property
    def num_feature_axes(self) -> int:
        """How many of an input's last axes are no batch axes, for `flax.linen.RNN`."""
        return 1

    @nn.compact
    def __call__(self, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """`step` with the parameters that Flax holds."""
        named = self.parameters(x.shape[-1])
        return self.step({name: self.param(name, init) for name, init in named.items()}, carry, x)


def project(params: Params, x: jax.Array) -> jax.Array:
    """The input's part of all gates, x·W + b, [B, F] -> [B, nH]."""
    return matmul(x, params["kernel"]) + params["bias"]


def recur(params: Params, h: jax.Array) -> jax.Array:
    """The hidden state's part of the gates, h·U, and + b_R where there are two biases, [B, H] -> [B, mH]."""
    product = matmul(h, params["recurrent_kernel"])
    return product + params["recurrent_bias"] if "recurrent_bias" in params else product


def split(blocks: jax.Array, n: int) -> list[jax.Array]:
    """The n equal blocks of the last axis, [..., nH] -> n of [..., H]."""
    return jnp.split(blocks, n, axis=-1)


def per_unit(size: int, init: Initializer = zeros) -> Start:
    """The start of a vector, of a number for each unit of some blocks; zeros unless it is said how."""
    return lambda key: init(key, (size,), jnp.float32)
