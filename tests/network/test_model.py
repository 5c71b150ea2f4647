import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.cells import CELLS
from rnn_compare.cells.keras_weights import from_keras
from rnn_compare.network.model import Model, count_parameters, made_with, make_cell, make_model
from rnn_compare.tasks.task import SQUARED_ERROR


@pytest.mark.parametrize(("cell", "count"), [("lstm", 1335), ("gru", 1031)])
def test_post8_sizes(cell, count, tiny):
    tiny.model.cell, tiny.model.units = cell, 16
    model = make_model(tiny)
    x = jnp.ones((6, 2, 1))
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    assert count_parameters(params) == count
    assert model.apply({"params": params}, x).shape == (6, 2, 7)
    assert {name: params[name]["kernel"].shape for name in ("flat", "short", "long")} == {
        "flat": (16, 3), "short": (16, 2), "long": (16, 2),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["gru", pytest.param("lstm", marks=pytest.mark.slow)])
def test_layers_stand_on_one_another_as_in_keras(name, x64):
    """Outputs and gradients of two layers and a head, against `keras.Sequential`, in double precision."""
    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[name]
    # Keras' own tanh rounds to single precision even in a layer of double precision.
    layers = [layer(5, activation=jnp.tanh, return_sequences=True, dtype="float64") for _ in range(2)]
    theirs = keras.Sequential([keras.Input((9, 2), dtype="float64"), *layers, keras.layers.Dense(4, dtype="float64")])
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=weight.shape) * 0.5 for weight in theirs.get_weights()]
    x, pull = rng.normal(size=(3, 9, 2)), rng.normal(size=(3, 9, 4))
    each = (len(weights) - 2) // 2
    names = "recurrent", "recurrent_2"
    params = {name: from_keras(weights[n * each : (n + 1) * each]) for n, name in enumerate(names)}
    params |= {"head": {"kernel": weights[-2], "bias": weights[-1]}}
    model = Model(CELLS[name](5), 2, "scan", (("head", 4),), SQUARED_ERROR, layers=2)

    def of_theirs(weights, x):
        state = [variable.value for variable in theirs.non_trainable_variables]
        return theirs.stateless_call(weights, state, x)[0]

    def of_ours(params, x):
        return model.apply({"params": params}, x.swapaxes(0, 1)).swapaxes(0, 1)

    def pulled(function, *arguments):
        value, back = jax.vjp(jax.jit(function), *arguments)
        return value, *back(jnp.asarray(pull))

    value, of_params, of_x = pulled(of_ours, params, jnp.asarray(x))
    expected, of_weights, expected_of_x = pulled(of_theirs, [jnp.asarray(weight) for weight in weights], jnp.asarray(x))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)
    close(value, expected)
    close(of_x, expected_of_x)
    for n, key in enumerate(names):
        close(of_params[key]["kernel"], of_weights[n * each])
        close(of_params[key]["recurrent_kernel"], of_weights[n * each + 1])
    close(of_params["head"]["kernel"], of_weights[-2])


def test_heads_are_separate_dense_layers(tiny):
    """Each head reads the hidden state with its own kernel, in the order flat, short, long."""
    model = make_model(tiny)
    x = jax.random.normal(jax.random.key(1), (6, 2, 1))
    params = jax.jit(model.init)(jax.random.key(0), x)["params"]
    before = model.apply({"params": params}, x)
    params["short"]["bias"] = params["short"]["bias"] + 1.0
    np.testing.assert_allclose(
        model.apply({"params": params}, x) - before, [[[0, 0, 0, 1, 1, 0, 0]] * 2] * 6, atol=1e-6
    )
    limit = np.sqrt(6 / (4 + 3))
    assert np.abs(params["flat"]["kernel"]).max() <= limit


def test_loss_is_the_sum_of_the_heads_mean_squared_errors(tiny):
    errors = np.arange(1.0, 8.0)
    expected = {"loss/flat": 2.0, "loss/short": 4.5, "loss/long": 6.5, "loss": 13.0}
    assert {name: float(value) for name, value in make_model(tiny).losses(jnp.asarray(errors)).items()} == expected


def test_training_and_predicting_see_the_same_errors(tiny):
    model = make_model(tiny)
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(50, 3, 1)).astype(np.float32), rng.normal(size=(50, 3, 7)).astype(np.float32)
    params = model.init(jax.random.key(0), x)
    expected = np.square(np.float64(model.apply(params, x)) - targets).mean(axis=(0, 1))
    np.testing.assert_allclose(model.apply(params, x, targets, method="errors"), expected, rtol=1e-6)


def test_a_cell_is_made_as_the_config_says_and_else_as_its_class_does():
    model = base.base().model
    model.cell, model.dt = "lem", 0.25
    cell = make_cell(model)
    assert (cell.dt, cell.units, cell.kernel_init) == (0.25, 16, "uniform_units_per_gate")
    assert made_with(model) == {
        "kernel_init": "uniform_units_per_gate",
        "recurrent_init": "uniform_units_per_gate",
        "bias_init": "uniform_units",
        "dt": 0.25,
    }
    model.cell, model.bias_init = "irnn", "zeros"
    assert made_with(model) == {"kernel_init": "glorot_uniform", "recurrent_init": "identity", "bias_init": "zeros"}
