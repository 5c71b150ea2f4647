from functools import partial

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest

from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import CLIPS, OPTIMIZERS, SCHEDULES, Hyper, Recipe

PLAIN = Recipe("sgd", "none", "constant", 100)

KERAS = {
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-7),
    "adamw": lambda: keras.optimizers.AdamW(0.01, epsilon=1e-7, weight_decay=0.004),
    "sgd": lambda: keras.optimizers.SGD(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_100_steps_equal_those_of_keras(name):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(4, 3)).astype(np.float32)
    # Tiny gradients too: there ε and its place decide.
    grads = [np.float32(rng.normal(size=start.shape) * 10.0 ** rng.integers(-9, 1)) for _ in range(100)]
    theirs = keras.Variable(start)
    optimizer = KERAS[name]()
    optimizer.build([theirs])
    ours, tx = jnp.asarray(start), optimizers.make(PLAIN._replace(name=name), Hyper(0.01, 1.0))
    state = tx.init(ours)
    for step, grad in enumerate(grads, 1):
        optimizer.apply([jnp.asarray(grad)], [theirs])
        updates, state = tx.update(jnp.asarray(grad), state, ours)
        ours = optax.apply_updates(ours, updates)
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-6, atol=3e-7, err_msg=f"step {step}")


def test_adams_epsilon_is_outside_the_bias_correction(x64):
    """One step from zero moments: p −= lr·√(1 − b2)/(1 − b1)·(1 − b1)·g/(√(1 − b2)·|g| + ε)."""
    g = np.array([1e-8, 1e-6, 1.0])
    tx = optimizers.make(PLAIN._replace(name="adam"), Hyper(0.001, 1.0))
    updates, _ = tx.update(jnp.asarray(g), tx.init(jnp.zeros(3)))
    root = np.sqrt(0.001)
    # 1 − 0.999 in float32 is off by 1.3e-5, here as in Keras.
    np.testing.assert_allclose(updates, -0.001 * root * g / (root * g + 1e-7), rtol=1e-5)


GRADS = {"a": jnp.full((2, 2), 1.0), "b": jnp.full((5,), -1.0)}  # norms 2 and √5, together 3


@pytest.mark.parametrize(
    ("clip", "norm", "a", "b"),
    [
        ("global_norm", 1.0, 1 / 3, 1 / 3),
        ("global_norm", 3.5, 1, 1),
        ("tensor_norm", 1.0, 1 / 2, 1 / np.sqrt(5)),
        ("tensor_norm", 2.1, 1, 2.1 / np.sqrt(5)),
        ("none", 1.0, 1, 1),
    ],
)
def test_clips(clip, norm, a, b):
    tx = optimizers.make(PLAIN._replace(clip=clip), Hyper(1.0, norm))
    updates, _ = tx.update(GRADS, tx.init(GRADS))
    np.testing.assert_allclose(updates["a"], -a * GRADS["a"], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], -b * GRADS["b"], rtol=1e-6)


def test_a_gradient_of_zeros_is_clipped_to_zeros():
    zeros = jax.tree.map(jnp.zeros_like, GRADS)
    for clip in CLIPS:
        tx = optimizers.make(PLAIN._replace(clip=clip), Hyper(1.0, 1.0))
        updates, _ = tx.update(zeros, tx.init(zeros))
        assert not np.any(updates["a"])


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("constant", [1, 1, 1]),
        ("linear", [1, 0.5, 0.01]),
        ("cosine", [1, 0.5, 0.5 * (1 + np.cos(0.99 * np.pi))]),
        ("warmup_cosine", [0.2, 0.5, 0.5 * (1 + np.cos(0.99 * np.pi))]),
    ],
)
def test_schedules_at_updates_0_50_and_99_of_100(schedule, shares):
    tx = optimizers.make(PLAIN._replace(schedule=schedule), Hyper(0.1, 1.0))
    state, taken = tx.init(jnp.float32(1)), []
    for _ in range(100):
        updates, state = tx.update(jnp.float32(1), state)
        taken.append(-float(updates))
    np.testing.assert_allclose(np.array(taken)[[0, 50, 99]], 0.1 * np.array(shares), rtol=1e-4)
    assert set(SCHEDULES) == {"constant", "linear", "cosine", "warmup_cosine"}


HUGE = {"a": jnp.array([3e19, -4e19, 0.0]), "b": jnp.array([[12e19]])}  # of norm 13e19; the squares overflow


def test_the_norm_of_a_gradient_whose_squares_overflow():
    assert optimizers.norm(HUGE) == pytest.approx(13e19, rel=1e-6)
    assert optimizers.norm({"a": jnp.array([3.0, 4.0])}) == 5
    assert optimizers.norm({"a": jnp.array([1.0, jnp.inf])}) != 1


def test_a_gradient_whose_squares_overflow_keeps_its_direction_when_it_is_clipped():
    tx = optimizers.make(PLAIN._replace(clip="global_norm"), Hyper(1.0, 2.0))
    clipped, _ = tx.update(HUGE, tx.init(HUGE), HUGE)
    np.testing.assert_allclose(-clipped["a"], 2 * np.array([3, -4, 0]) / 13, rtol=1e-6)
    np.testing.assert_allclose(-clipped["b"], [[2 * 12 / 13]], rtol=1e-6)
    tx = optimizers.make(PLAIN._replace(clip="tensor_norm"), Hyper(1.0, 2.0))
    clipped, _ = tx.update(HUGE, tx.init(HUGE), HUGE)
    np.testing.assert_allclose(-clipped["a"], 2 * np.array([3, -4, 0]) / 5, rtol=1e-6)
    np.testing.assert_allclose(-clipped["b"], [[2.0]], rtol=1e-6)


def test_where_nothing_overflows_clipping_is_optax_s():
    rng = np.random.default_rng(0)
    for size in (1e-30, 0.3, 50.0, 1e15):
        grads = {"a": jnp.asarray(rng.normal(size=7) * size, jnp.float32), "b": jnp.asarray([[size]], jnp.float32)}
        theirs, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
        jax.tree.map(partial(np.testing.assert_allclose, rtol=3e-7), optimizers.clip_to(grads, 1.0), theirs)


def test_halves_are_added_until_one_number_is_left():
    """Whose number need be no power of two."""
    grads = {"a": jnp.array([[3e3, 4e-2]]), "b": jnp.array(5.0)}
    squares = np.square(np.float32([3e3, 4e-2, 5, 0]))
    expected = np.sqrt((squares[0] + squares[2]) + (squares[1] + squares[3]))
    np.testing.assert_array_equal(optimizers.length(grads), expected)
    for size in (1, 2, 3, 1335):
        assert optimizers.length(jnp.full(size, 2.0)) == pytest.approx(2 * np.sqrt(size), rel=1e-6)
