"""What the cells share: their parameters, the two products of a step, and how Flax calls them.

Axis sizes: B batch, F features, H hidden units, n gates.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.lax import Precision

from rnn_compare.cells.initializers import BIASES, matrix

Params = dict[str, jax.Array]
Carry = Any  # (c, h) for the LSTM, h for the GRU; every array [B, H]

# On a GPU the default precision of a float32 product is TF32, whose rounding would drown the differences between
# cells; products are float32 everywhere.
matmul = partial(jnp.matmul, precision=Precision.HIGHEST)


class RecurrentCell(nn.RNNCellBase):
    """A recurrent cell: one `step`, which is a function of (params, carry, x), and the parameters that it takes.

    It is a Flax cell too: `flax.linen.RNN(LSTMCell(16))` holds the parameters that the same step is given.

    Parameters, whose last axis holds the n gates side by side in the order of `gates`, as in Keras' CuDNN layers:

        kernel            (F, nH)   applied to the input
        recurrent_kernel  (H, nH)   applied to the previous hidden state
        bias              (nH,)     added to the input's part
        recurrent_bias    (nH,)     added to the hidden state's part

    Attributes:
        units: size of the hidden state (H).
        kernel_init: name of the (F, nH) kernel's initializer, one of `initializers.MATRICES`.
        recurrent_init: name of the (H, nH) recurrent kernel's.
        bias_init: name of the recurrent bias' initializer, one of `initializers.BIASES`; the other bias starts at zero.
        gates: names of the n gates, in the order of the parameters' last axis.
        keeps: those of them that keep the past: the nearer to one, the more of the old state stays.
        admits: those that let the present in, and do nothing else.
        opens: those whose recurrent bias starts at one by default.
    """

    units: int
    kernel_init: str = "glorot_uniform"
    recurrent_init: str = "orthogonal"
    bias_init: str = "unit_forget"

    gates: ClassVar[tuple[str, ...]]
    keeps: ClassVar[tuple[str, ...]] = ()
    admits: ClassVar[tuple[str, ...]] = ()
    opens: ClassVar[tuple[str, ...]] = ()

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One time step: the carry and the input [B, F] -> the new carry and the hidden state [B, H].

        Of the cell itself it may read the attributes, and nothing else.
        """
        raise NotImplementedError

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Callable[[jax.Array], jax.Array]]:
        """Each parameter's initializer, a function of a random key, for inputs of so many features (F)."""
        n, H = len(self.gates), self.units
        bias = BIASES[self.bias_init]
        return {
            "kernel": lambda key: matrix(self.kernel_init, n)(key, (features, n * H)),
            "recurrent_kernel": lambda key: matrix(self.recurrent_init, n)(key, (H, n * H)),
            "bias": lambda key: jnp.zeros(n * H),
            "recurrent_bias": lambda key: bias(key, self).reshape(n * H),
        }

    @nn.nowrap
    def initialize_carry(self, rng: Any, input_shape: tuple[int, ...], dtype: Any = jnp.float32) -> Carry:
        """The carry before the first step, for inputs of the shape (…, F): zeros; the key is not used."""
        return jnp.zeros((*input_shape[:-1], self.units), dtype)

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
    """The hidden state's part of all gates, h·U + b_R, [B, H] -> [B, nH]."""
    return matmul(h, params["recurrent_kernel"]) + params["recurrent_bias"]
