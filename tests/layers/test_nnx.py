import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rnn_compare.layers.nnx import RNN

B, T, F, H = 4, 9, 3, 5


@pytest.mark.parametrize(
    "cell", [nnx.SimpleCell, *(pytest.param(c, marks=pytest.mark.slow) for c in (nnx.OptimizedLSTMCell, nnx.GRUCell))]
)
def test_it_is_flaxs_layer(cell):
    x, lengths = jax.random.normal(jax.random.key(0), (B, T, F)), jnp.array([9, 4, 1, 7])
    there = (jnp.arange(T) < lengths[:, None])[..., None]

    def results(kind):
        layer = kind(cell(F, H, rngs=nnx.Rngs(0)), return_carry=True, reverse=True, keep_order=True)

        def loss(layer, x):
            carry, y = layer(x, seq_lengths=lengths)
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves((carry, y * there)))

        return jax.tree.leaves(nnx.jit(nnx.value_and_grad(loss, argnums=(0, 1)))(layer, x))

    for ours, theirs in zip(results(RNN), results(nnx.RNN), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5)
