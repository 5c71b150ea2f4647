import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.cells import CELLS

SIZES = [(3, 5), (8, 8), (1, 16)]  # features, units


@functools.cache
def make(name, features, units):
    cell = CELLS[name](units=units)
    carry = cell.initialize_carry(None, (2, features))
    return cell, jax.jit(cell.init)(jax.random.key(0), carry, jnp.zeros((2, features)))["params"]


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3), ("gru_reset_before", 3)])
@pytest.mark.parametrize(("F", "H"), SIZES)
def test_parameters_have_the_cudnn_layout(cell, gates, F, H):
    module = CELLS[cell](units=H)
    carry = module.initialize_carry(None, (2, F))
    params = jax.eval_shape(module.init, jax.random.key(0), carry, jnp.zeros((2, F)))["params"]
    shapes = {name: value.shape for name, value in params.items()}
    width = gates * H
    assert shapes == {
        "kernel": (F, width),
        "recurrent_kernel": (H, width),
        "bias": (width,),
        "recurrent_bias": (width,),
    }
    assert all(value.dtype == jnp.float32 for value in params.values())


@pytest.mark.parametrize(("cell", "count"), [("lstm", 576), ("gru", 432)])
def test_parameter_count_is_that_of_the_cudnn_layer(cell, count):
    _, params = make(cell, 8, 8)
    assert sum(p.size for p in jax.tree.leaves(params)) == count


def test_lstm_forget_bias_is_one_in_the_recurrent_half():
    _, params = make("lstm", 3, 5)
    assert np.array_equal(params["bias"], np.zeros(20))
    assert np.array_equal(params["recurrent_bias"], [0] * 5 + [1] * 5 + [0] * 10)


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_gru_biases_are_zero(cell):
    _, params = make(cell, 3, 5)
    assert not np.any(params["bias"])
    assert not np.any(params["recurrent_bias"])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(p, carry, x):
    c, h = carry
    z = x @ p["kernel"] + p["bias"] + h @ p["recurrent_kernel"] + p["recurrent_bias"]
    H = h.shape[1]
    i, f, g, o = (z[:, k * H : (k + 1) * H] for k in range(4))
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return c, sigmoid(o) * np.tanh(c)


def numpy_gru(p, h, x, reset_after):
    H = h.shape[1]
    kz, kr, kh = (slice(k * H, (k + 1) * H) for k in range(3))
    W, U, b, c = p["kernel"], p["recurrent_kernel"], p["bias"], p["recurrent_bias"]
    z = sigmoid(x @ W[:, kz] + b[kz] + h @ U[:, kz] + c[kz])
    r = sigmoid(x @ W[:, kr] + b[kr] + h @ U[:, kr] + c[kr])
    inner = r * (h @ U[:, kh] + c[kh]) if reset_after else (r * h) @ U[:, kh] + c[kh]
    return z * h + (1 - z) * np.tanh(x @ W[:, kh] + b[kh] + inner)


@pytest.mark.parametrize("name", CELLS)
def test_one_step_is_the_formula(name, x64):
    cell, params = make(name, 3, 5)
    rng = np.random.default_rng(1)
    params = {key: rng.normal(size=value.shape) for key, value in params.items()}
    x, h, c = rng.normal(size=(2, 3)), rng.normal(size=(2, 5)), rng.normal(size=(2, 5))
    carry = (c, h) if name == "lstm" else h
    new_carry, out = cell.apply({"params": params}, carry, x)
    if name == "lstm":
        expected = numpy_lstm(params, carry, x)
        np.testing.assert_allclose(new_carry, expected, rtol=1e-13)
        np.testing.assert_allclose(out, expected[1], rtol=1e-13)
    else:
        expected = numpy_gru(params, h, x, reset_after=name == "gru")
        np.testing.assert_allclose(out, expected, rtol=1e-13)
        np.testing.assert_allclose(new_carry, expected, rtol=1e-13)


def test_the_two_gru_forms_differ():
    after, params = make("gru", 3, 5)
    before = CELLS["gru_reset_before"](units=5)
    h, x = jnp.ones((2, 5)), jnp.ones((2, 3))
    a, b = (cell.apply({"params": params}, h, x)[1] for cell in (after, before))
    assert np.abs(a - b).max() > 1e-3
