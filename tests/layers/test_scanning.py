import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_compare
from rnn_compare.recurrence import BACKENDS

T, B, H = 20, 4, 6
close = functools.partial(jax.tree.map, functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5))


def recurrent(weights, carry, x):
    """A carry of two arrays, one of them [B, 2, 3]; inputs and outputs with truth values; an output of three axes."""
    h, memory = carry
    again, more = x
    h = jnp.where(again[:, None], 0.0, h)
    h = jnp.tanh(h @ weights + more)
    memory = 0.9 * memory + h.reshape(-1, 2, 3)
    return (h, memory), {"memory": memory * 0.5, "large": h[:, 0] > 0.3, "h": h}


def given():
    keys = jax.random.split(jax.random.key(0), 5)
    weights = 0.4 * jax.random.normal(keys[0], (H, H))
    init = jax.random.normal(keys[1], (B, H)), jax.random.normal(keys[2], (B, 2, 3))
    return weights, init, (jax.random.bernoulli(keys[3], 0.2, (T, B)), jax.random.normal(keys[4], (T, B, H)))


@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_is_lax_scan(reverse):
    weights, init, (again, more) = given()
    assert rnn_compare.why_not(functools.partial(recurrent, weights), init, (again, more)) is None

    def results(scan):
        def function(weights, init, more):
            return scan(functools.partial(recurrent, weights), init, (again, more), reverse=reverse)

        value, pull = jax.vjp(jax.jit(function), weights, init, more)
        no_derivative = np.zeros((T, B), jax.dtypes.float0)
        return value, pull(jax.tree.map(lambda v: no_derivative if v.dtype == bool else jnp.cos(v), value))

    close(results(rnn_compare.scan), results(jax.lax.scan))


def test_a_body_that_gives_out_nothing():
    weights, init, xs = given()

    def body(carry, x):
        return recurrent(weights, carry, x)[0], None

    last, nothing = rnn_compare.scan(body, init, xs)
    close(last, jax.lax.scan(body, init, xs)[0])
    assert nothing is None
    assert rnn_compare.why_not(body, init, xs) is None


@pytest.mark.parametrize(("lengths", "length"), [((5, 3), None), ((3, 500), None), ((5, 5), 3)])
def test_inputs_of_several_lengths_are_refused_as_by_lax_scan(lengths, length):
    _, init, _ = given()
    xs = [jnp.ones((T, B, H)) for T in lengths]

    def body(carry, x):
        return recurrent(jnp.ones((H, H)), carry, (x[0][:, 0] > 0, x[1]))

    for scan in (jax.lax.scan, rnn_compare.scan):
        with pytest.raises(ValueError, match="leading axis size"):
            scan(body, init, xs, length)


@pytest.mark.parametrize(
    ("body", "init", "xs", "why"),
    [
        (lambda c, x: (c + x, c), 0.0, np.ones(3, np.float32), "no axis that could be a batch"),
        (lambda c, x: (c + 1, None), jnp.zeros((2, 3)), None, "there is no input"),
        (lambda c, x: (c + x, c[:, 0].sum()), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)), "an output has no axis"),
        (lambda c, x: (c + c[::-1], c), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)), "the sequences of the batch"),
        (lambda c, x: (c + x, c), jnp.zeros((2, 3), int), jnp.ones((4, 2, 3), int), "float32, and was given int32"),
        (lambda c, x: (jnp.sort(c + x), c), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)), "primitive sort"),
    ],
)
def test_what_cannot_be_fused_is_lax_scan_and_says_why(body, init, xs, why):
    assert why in rnn_compare.why_not(body, init, xs)
    length = None if xs is not None else 4
    jax.tree.map(
        np.testing.assert_array_equal,
        rnn_compare.scan(body, init, xs, length),
        jax.lax.scan(body, init, xs, length),
    )


def test_an_error_is_that_of_lax_scan():
    with pytest.raises(TypeError, match="carry"):
        rnn_compare.scan(lambda c, x: (c[:, :1], c), jnp.zeros((2, 3)), jnp.ones((4, 2, 3)))


def test_on_another_platform_it_is_lax_scan(monkeypatch):
    weights, init, xs = given()
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    monkeypatch.setitem(BACKENDS, "cpu", None)
    body = functools.partial(recurrent, weights)
    assert "JAX runs on tpu here" in rnn_compare.why_not(body, init, xs)
    close(rnn_compare.scan(body, init, xs), jax.lax.scan(body, init, xs))
