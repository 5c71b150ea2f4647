import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax

from rnn_compare import optimizers
from rnn_compare.optimizers import Hyper


def test_adam_equals_keras_over_100_steps():
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype(np.float32)
    # Tiny gradients too: there ε and its place decide.
    grads = [np.float32(rng.normal(size=start.shape) * 10.0 ** rng.integers(-9, 1)) for _ in range(100)]
    theirs = keras.Variable(start)
    adam = keras.optimizers.Adam(learning_rate=0.01, epsilon=1e-7)
    adam.build([theirs])
    ours, tx = jnp.asarray(start), optimizers.keras_adam(0.01)
    state = tx.init(ours)
    for step, grad in enumerate(grads, 1):
        adam.apply([jnp.asarray(grad)], [theirs])
        updates, state = tx.update(jnp.asarray(grad), state)
        ours = optax.apply_updates(ours, updates)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-6, atol=2e-7, err_msg=f"step {step}")


def test_epsilon_is_outside_the_bias_correction(x64):
    """One step from zero moments: p −= lr·√(1 − b2)/(1 − b1)·(1 − b1)·g/(√(1 − b2)·|g| + ε)."""
    g = np.array([1e-8, 1e-6, 1.0])
    tx = optimizers.keras_adam(0.001)
    updates, _ = tx.update(jnp.asarray(g), tx.init(jnp.zeros(3)))
    root = np.sqrt(0.001)
    # 1 − 0.999 in float32 is off by 1.3e-5, here as in Keras.
    np.testing.assert_allclose(updates, -0.001 * root * g / (root * g + 1e-7), rtol=1e-5)


def test_clip_is_by_the_global_norm():
    """A gradient three times too long, over two tensors, gives the same update as its third."""
    grads = {"a": jnp.full((2, 2), 1.0), "b": jnp.full((5,), -1.0)}  # norm 3
    make = lambda clip: optimizers.make("adam", Hyper(0.1, clip))  # noqa: E731
    long, _ = make(1.0).update(grads, make(1.0).init(grads))
    third = jax.tree.map(lambda g: g / 3, grads)
    unclipped, state = make(100.0).update(third, make(100.0).init(grads))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), long, unclipped)
    moments = state[1].m
    np.testing.assert_allclose(optax.tree.norm(moments), 0.1, rtol=1e-6)  # (1 − b1)·1
