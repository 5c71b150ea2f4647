import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.network.model import count_parameters, made_with, make_cell, make_model


@pytest.mark.parametrize(("cell", "count"), [("lstm", 1335), ("gru", 1031)])
def test_post8_sizes(cell, count, tiny):
    tiny.model.cell, tiny.model.units = cell, 16
    model = make_model(tiny)
    x = jnp.ones((6, 2, 1))
    params = model.init(jax.random.key(0), x)["params"]
    assert count_parameters(params) == count
    assert model.apply({"params": params}, x).shape == (6, 2, 7)
    assert {name: params[name]["kernel"].shape for name in ("flat", "short", "long")} == {
        "flat": (16, 3), "short": (16, 2), "long": (16, 2),
    }  # fmt: skip


def test_heads_are_separate_dense_layers(tiny):
    """Each head reads the hidden state with its own kernel, in the order flat, short, long."""
    model = make_model(tiny)
    x = jax.random.normal(jax.random.key(1), (6, 2, 1))
    params = model.init(jax.random.key(0), x)["params"]
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
