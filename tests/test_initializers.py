import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rnn_compare.cells import CELLS
from rnn_compare.initializers import INITIALIZERS

ROWS, COLUMNS = 200, 800  # large enough for sharp tests; fan-in 200, fan-out 800


def draw(name, shape=(ROWS, COLUMNS)):
    return np.asarray(INITIALIZERS[name](jax.random.key(0), shape, jnp.float32), np.float64)


# Keras: uniform variants have limit √(3·s), normal ones are truncated at two standard deviations and have variance s,
# with s = 2/(fan-in + fan-out), 2/fan-in and 1/fan-in.
SCALES = {"glorot": 2 / (ROWS + COLUMNS), "he": 2 / ROWS, "lecun": 1 / ROWS}


@pytest.mark.parametrize("family", SCALES)
def test_uniform_over_the_whole_matrix(family):
    limit = np.sqrt(3 * SCALES[family])
    values = draw(f"{family}_uniform").ravel()
    assert np.abs(values).max() <= limit * (1 + 1e-6)
    assert stats.kstest(values, stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3


@pytest.mark.parametrize("family", SCALES)
def test_truncated_normal_over_the_whole_matrix(family):
    cut = stats.truncnorm(-2, 2)
    sigma = np.sqrt(SCALES[family]) / cut.std()
    values = draw(f"{family}_normal").ravel()
    assert np.abs(values).max() <= 2 * sigma * (1 + 1e-6)
    assert stats.kstest(values / sigma, cut.cdf).pvalue > 1e-3


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_cells_draw_the_whole_matrix(cell, gates):
    """Limit √(6/(in + n·u)); H orthonormal rows, and no gate's block orthogonal on its own."""
    F, H = 7, 32
    module = CELLS[cell](features=F, units=H)
    params = module.init(jax.random.key(1), module.initialize_carry(1), jnp.zeros((1, F)))["params"]
    limit = np.sqrt(6 / (F + gates * H))
    assert limit * 0.98 < np.abs(params["kernel"]).max() <= limit
    U = np.asarray(params["recurrent_kernel"], np.float64)
    np.testing.assert_allclose(U @ U.T, np.eye(H), atol=1e-6)
    block = U[:, :H]
    assert np.abs(block @ block.T - np.eye(H)).max() > 0.1


def test_zeros():
    assert not np.any(draw("zeros"))
