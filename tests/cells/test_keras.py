"""The recurrent layers held against Keras' own, in double precision: same weights, values and every gradient."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.cells.keras_weights import from_keras, to_keras
from rnn_compare.recurrence import recurrence

pytestmark = pytest.mark.usefixtures("x64")

# Keras' own tanh rounds to float32 even in a float64 layer; JAX's does not.
COMMON = {"activation": jnp.tanh, "return_sequences": True, "return_state": True, "dtype": "float64"}
LAYERS = {
    "lstm": lambda units: keras.layers.LSTM(units, **COMMON),
    "gru": lambda units: keras.layers.GRU(units, **COMMON),
    "gru_reset_before": lambda units: keras.layers.GRU(units, reset_after=False, **COMMON),
}
SIZES = [(7, 33, 3, 5), (2, 2000, 1, 16)]  # B, T, F, H


def random_weights(layer, B, T, F):
    layer.build((B, T, F))
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape, scale=0.5) for w in layer.get_weights()]
    layer.set_weights(weights)
    return weights


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("B", "T", "F", "H"), [SIZES[0], pytest.param(*SIZES[1], marks=pytest.mark.slow)])
def test_values_and_gradients(name, B, T, F, H):
    layer = LAYERS[name](H)
    weights = random_weights(layer, B, T, F)
    cell = CELLS[name](units=H)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(B, T, F)))
    pull_sequence, pull_last = jnp.asarray(rng.normal(size=(B, T, H))), jnp.asarray(rng.normal(size=(B, H)))
    carry = cell.initialize_carry(None, (B, F), jnp.float64)

    def theirs(weights, x):
        state = [variable.value for variable in layer.non_trainable_variables]  # a dropout seed, unused
        (sequence, *states), _ = layer.stateless_call(weights, state, x)
        return sequence, states

    def ours(params, x):
        hidden, last = recurrence(cell, params, x.swapaxes(0, 1), carry, "scan")
        return hidden.swapaxes(0, 1), [last[1], last[0]] if name == "lstm" else [last]  # Keras: h, then c

    def pulled(function):
        """Values and gradients, compiled as one."""

        def scalar(weights, x):
            sequence, states = function(weights, x)
            return jnp.sum(sequence * pull_sequence) + sum(jnp.sum(s * pull_last) for s in states), (sequence, states)

        return jax.jit(jax.grad(scalar, argnums=(0, 1), has_aux=True))

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)  # noqa: E731
    (our_grads, our_dx), our_values = pulled(ours)(jax.tree.map(jnp.asarray, from_keras(weights)), x)
    (their_grads, their_dx), their_values = pulled(theirs)([jnp.asarray(w) for w in weights], x)
    jax.tree.map(close, our_values, tuple(their_values))
    close(our_dx, their_dx)
    close(our_grads["kernel"], their_grads[0])
    close(our_grads["recurrent_kernel"], their_grads[1])
    if name == "gru":
        close(jnp.stack([our_grads["bias"], our_grads["recurrent_bias"]]), their_grads[2])
    else:  # Keras' one vector is the sum of our two, so each of ours has its gradient
        close(our_grads["bias"], their_grads[2])
        close(our_grads["recurrent_bias"], their_grads[2])


@pytest.mark.parametrize("name", LAYERS)
def test_round_trip_of_keras_weights_is_exact(name):
    layer = LAYERS[name](5)
    weights = random_weights(layer, 7, 33, 3)
    back = to_keras(from_keras(weights), stacked_bias=name == "gru")
    assert [w.shape for w in back] == [w.shape for w in layer.get_weights()]
    for a, b in zip(back, weights, strict=True):
        assert np.array_equal(a, b)


def test_round_trip_of_our_weights_is_exact_for_the_gru():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 15), "recurrent_kernel": (5, 15), "bias": (15,), "recurrent_bias": (15,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    back = from_keras(to_keras(params, stacked_bias=True))
    assert all(np.array_equal(back[name], params[name]) for name in params)
