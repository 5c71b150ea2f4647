"""Padding and resets, by the kernels of a GPU: held against the scan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import BACKENDS
from emulated import needs_compiler

import rnn_compare
from rnn_compare.cells import LSTMCell
from rnn_compare.layers import sequences

pytestmark = needs_compiler
B, T, F, H = 7, 9, 3, 5
LAST = pytest.param("last, last thread first", marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize(
    "emulated", ["first", pytest.param("last, last thread first", marks=pytest.mark.slow)], indirect=True
)
@pytest.mark.parametrize("learned", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_padding_and_resets(monkeypatch, emulated, learned):
    """Sequences of no step and of all; what is not a number in padding is seen by nobody."""
    lengths = jnp.array([0, 9, 4, 1, 9, 7, 2])
    resets = jnp.zeros((B, T), bool).at[1, 3].set(True).at[2, 0].set(True).at[5, 6].set(True)
    there = (jnp.arange(T) < lengths[:, None])[..., None]
    x = jax.random.normal(jax.random.key(0), (B, T, F))
    layer = rnn_compare.RNN(LSTMCell(H), return_carry=True)
    params = layer.init(jax.random.key(1), x)
    carry = tuple(jax.random.normal(jax.random.key(i), (B, H)) for i in range(2)) if learned else None

    def results(x, backend):
        monkeypatch.setattr(sequences, "fastest", lambda *_: backend)

        def function(params, x, carry):
            last, y = layer.apply(params, x, seq_lengths=lengths, resets=resets, initial_carry=carry)
            return jnp.sum(jnp.sin(y)) + sum(jnp.sum(jnp.cos(leaf)) for leaf in last), (last, y)

        return jax.jit(jax.value_and_grad(function, (0, 1, 2), has_aux=True))(params, x, carry)

    assert emulated in BACKENDS
    expected = results(jnp.where(there, x, 0), "scan")
    found = results(jnp.where(there, x, jnp.nan), emulated)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), found, expected)
