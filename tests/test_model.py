import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.model import count_parameters, losses, make_model


@pytest.mark.parametrize(("cell", "count"), [("lstm", 1335), ("gru", 1031)])
def test_post8_sizes(cell, count, tiny):
    tiny.model.cell, tiny.model.units = cell, 16
    model = make_model(tiny, "scan")
    x = jnp.ones((6, 2, 1))
    params = model.init(jax.random.key(0), x)["params"]
    assert count_parameters(params) == count
    assert model.apply({"params": params}, x).shape == (6, 2, 7)
    assert {name: params[name]["kernel"].shape for name in ("flat", "short", "long")} == {
        "flat": (16, 3), "short": (16, 2), "long": (16, 2),
    }  # fmt: skip


def test_heads_are_separate_dense_layers(tiny):
    """Each head reads the hidden state with its own kernel, in the order flat, short, long."""
    model = make_model(tiny, "scan")
    x = jax.random.normal(jax.random.key(1), (6, 2, 1))
    params = model.init(jax.random.key(0), x)["params"]
    before = model.apply({"params": params}, x)
    params["short"]["bias"] = params["short"]["bias"] + 1.0
    np.testing.assert_allclose(
        model.apply({"params": params}, x) - before, [[[0, 0, 0, 1, 1, 0, 0]] * 2] * 6, atol=1e-6
    )
    limit = np.sqrt(6 / (4 + 3))
    assert np.abs(params["flat"]["kernel"]).max() <= limit


def test_loss_is_the_sum_of_the_heads_mean_squared_errors():
    rng = np.random.default_rng(0)
    y, q = rng.normal(size=(2, 50, 3, 7)).astype(np.float32)
    parts = losses(jnp.asarray(y), jnp.asarray(q))
    error = (y.astype(np.float64) - q) ** 2
    expected = {"flat": error[..., :3].mean(), "short": error[..., 3:5].mean(), "long": error[..., 5:].mean()}
    for head, value in expected.items():
        assert float(parts[f"loss/{head}"]) == pytest.approx(value, rel=1e-6)
    assert float(parts["loss"]) == pytest.approx(sum(expected.values()), rel=1e-6)


def test_loss_stays_exact_at_full_size():
    """The mean of 800,000 squares in float32, as at 40 × 20,000."""
    error = jax.random.normal(jax.random.key(0), (20_000, 40, 7))
    parts = jax.jit(losses)(error, jnp.zeros_like(error))
    exact = np.square(np.asarray(error, np.float64)).mean(axis=(0, 1))
    expected = exact[:3].mean() + exact[3:5].mean() + exact[5:].mean()
    assert float(parts["loss"]) == pytest.approx(expected, rel=1e-5)
