"""Derivatives of every kind through the kernels, held against those through the scan."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import cpu, scan
from rnn_compare.recurrence.linear import linear

T, B, F, H = 12, 3, 2, 11
CELL = CELLS["gru"](units=H)
X = jax.random.normal(jax.random.key(1), (T, B, F))
CARRY = jnp.full((B, H), 0.1)
PARAMS = CELL.init(jax.random.key(0), CARRY, X[0])["params"]
ALONG = jax.tree.map(lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), PARAMS)
TWICE = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), PARAMS)


def loss(backend, params, x=X):
    return jnp.sum(jnp.sin(backend.recurrence(CELL.step, params, x, CARRY)[0]))


def of_gradient(backend, params):
    return sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(jax.grad(partial(loss, backend))(params)))


def closure(backend, kernel):
    """A step that closes over what is differentiated."""
    step = lambda recurrent, h, x: (jnp.tanh(h @ recurrent + x @ kernel),) * 2  # noqa: E731
    return jnp.sum(backend.recurrence(step, PARAMS["recurrent_kernel"][:, :H], X, CARRY)[0] ** 2)


DERIVATIVES = {
    "forward": lambda b: jax.jvp(partial(loss, b), (PARAMS, X), (ALONG, X)),
    "forward, of the parameters alone": lambda b: jax.jvp(partial(loss, b), (PARAMS,), (ALONG,)),
    "linearized": lambda b: jax.linearize(partial(loss, b), PARAMS)[1](ALONG),
    "forward over backward": lambda b: jax.jvp(jax.grad(partial(loss, b)), (PARAMS,), (ALONG,)),
    "backward over backward": lambda b: jax.jit(jax.grad(partial(of_gradient, b)))(PARAMS),
    "hessian": lambda b: jax.hessian(lambda bias: loss(b, PARAMS | {"bias": bias}))(PARAMS["bias"]),
    "stacked": lambda b: jax.vmap(jax.grad(partial(loss, b)))(TWICE),
    "stacked, forward over backward": lambda b: jax.vmap(lambda p: jax.jvp(jax.grad(partial(loss, b)), (p,), (ALONG,)))(
        TWICE
    ),
    "recomputed": lambda b: jax.grad(jax.checkpoint(partial(loss, b)))(PARAMS),
    "of a closure": lambda b: jax.grad(partial(closure, b))(PARAMS["kernel"][:, :H]),
}


QUICK = "forward, of the parameters alone", "forward over backward"


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DERIVATIVES]
)
def test_it_is_the_scan_s(name):
    ours, expected = DERIVATIVES[name](cpu), DERIVATIVES[name](scan)
    scale = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=5e-6 * scale), ours, expected)


def test_the_transpose_is_what_was_given():
    """Told by a transpose that is wrong: it is used backward, and neither forward nor where JAX differentiates."""
    three = jnp.float32(3)
    function = lambda x: linear(lambda a, x: a * x, lambda a, y: 7.0 * y, x**2, x)  # noqa: E731
    assert function(three) == 27
    assert jax.jvp(function, (three,), (jnp.float32(1),))[1] == 27
    given = lambda x: linear(lambda a, x: a * x, lambda a, y: 7.0 * y, three, x)  # noqa: E731
    assert jax.grad(given)(three) == 7
