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


def test_the_two_gru_forms_differ():
    after, params = make("gru", 3, 5)
    before = CELLS["gru_reset_before"](units=5)
    h, x = jnp.ones((2, 5)), jnp.ones((2, 3))
    a, b = (cell.apply({"params": params}, h, x)[1] for cell in (after, before))
    assert np.abs(a - b).max() > 1e-3


def test_a_bound_cuts_the_recurrent_weights_and_their_gradient(x64):
    """h' = relu(x·W + u∘h + b) with u cut to ±bound; nothing pulls at what was cut."""
    bounded, free = CELLS["indrnn"](3, bound=0.5), CELLS["indrnn"](3)
    params = {"kernel": jnp.ones((1, 3)), "bias": jnp.zeros(3), "recurrent_vector": jnp.array([2.0, 0.4, -3.0])}
    cut = params | {"recurrent_vector": jnp.array([0.5, 0.4, -0.5])}
    h, x = jnp.full((2, 3), 0.7), jnp.full((2, 1), 3.0)
    np.testing.assert_array_equal(bounded.step(params, h, x)[0], free.step(cut, h, x)[0])
    pull = jax.grad(lambda params: bounded.step(params, h, x)[0].sum())(params)
    np.testing.assert_allclose(pull["recurrent_vector"], [0, 1.4, 0])
