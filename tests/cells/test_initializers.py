import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rnn_compare.cells import CELLS, RecurrentCell
from rnn_compare.cells.initializers import BIASES, MATRICES, matrix, names

ROWS, COLUMNS = 200, 800  # large enough for sharp tests; fan-in 200, fan-out 800


def draw(name, shape=(ROWS, COLUMNS)):
    return np.asarray(matrix(name)(jax.random.key(0), shape, jnp.float32), np.float64)


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
    module = CELLS[cell](units=H)
    params = module.init(jax.random.key(1), module.initialize_carry(None, (1, F)), jnp.zeros((1, F)))["params"]
    limit = np.sqrt(6 / (F + gates * H))
    assert limit * 0.98 < np.abs(params["kernel"]).max() <= limit
    U = np.asarray(params["recurrent_kernel"], np.float64)
    np.testing.assert_allclose(U @ U.T, np.eye(H), atol=1e-6)
    block = U[:, :H]
    assert np.abs(block @ block.T - np.eye(H)).max() > 0.1


def test_zeros():
    assert not np.any(draw("zeros"))


def test_truncated_normal_is_kerass_default():
    """Standard deviation 0.05 before the cut at two of them."""
    values = draw("truncated_normal").ravel()
    assert stats.kstest(values / 0.05, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3


def test_orthogonal_with_gain():
    U = draw("orthogonal_half", (32, 128))
    np.testing.assert_allclose(U @ U.T, 0.25 * np.eye(32), atol=1e-6)


@pytest.mark.parametrize(("name", "scale"), [("identity", 1.0), ("identity_half", 0.5)])
def test_identity_in_every_gate(name, scale):
    np.testing.assert_array_equal(draw(name, (5, 15)), scale * np.tile(np.eye(5), 3))


@pytest.mark.parametrize("name", MATRICES)
def test_per_gate_draws_each_block_on_its_own(name):
    """The scale is that of one block, and no two blocks are alike unless nothing is random."""
    blocks = np.split(np.asarray(matrix(name + "_per_gate", 4)(jax.random.key(0), (64, 256), jnp.float32)), 4, axis=1)
    alone = np.asarray(matrix(name)(jax.random.key(1), (64, 64), jnp.float32))
    for block in blocks:
        assert block.shape == (64, 64)
        np.testing.assert_allclose(block.std(), alone.std(), rtol=0.05)
    assert (np.array_equal(blocks[0], blocks[1])) == (name in ("identity", "identity_half", "zeros"))


def test_orthogonal_per_gate_is_orthogonal_in_every_gate():
    U = np.asarray(matrix("orthogonal_per_gate", 3)(jax.random.key(0), (32, 96), jnp.float32))
    for block in np.split(U, 3, axis=1):
        np.testing.assert_allclose(block @ block.T, np.eye(32), atol=1e-5)


LSTM, GRU = CELLS["lstm"], CELLS["gru"]


@pytest.mark.parametrize(
    ("name", "gates", "expected"),
    [
        ("unit_forget", LSTM, [0, 1, 0, 0]),
        ("unit_forget", GRU, [0, 0, 0]),
        ("zeros", LSTM, [0, 0, 0, 0]),
        ("forget_1", GRU, [1, 0, 0]),
        ("forget_2", LSTM, [0, 2, 0, 0]),
    ],
)
def test_constant_biases(name, gates, expected):
    bias = BIASES[name](jax.random.key(0), gates(units=6))
    np.testing.assert_array_equal(bias, np.repeat(np.float32(expected)[:, None], 6, axis=1))


@pytest.mark.parametrize(("name", "longest"), [("chrono_100", 100), ("chrono_1000", 1000)])
def test_chrono(name, longest):
    """b_f = log u with u uniform on (1, longest − 1), b_i = −b_f; for a GRU the update gate's bias."""
    bias = np.asarray(BIASES[name](jax.random.key(0), LSTM(units=5000)), np.float64)
    assert stats.kstest(np.exp(bias[1]), stats.uniform(1, longest - 2).cdf).pvalue > 1e-3
    np.testing.assert_array_equal(bias[0], -bias[1])
    assert not np.any(bias[2:])
    gru = np.asarray(BIASES[name](jax.random.key(0), GRU(units=5000)))
    np.testing.assert_allclose(gru[0], bias[1], rtol=1e-6)
    assert not np.any(gru[1:])


@pytest.mark.slow
def test_every_name_makes_a_cell():
    for name in names():
        cell = CELLS["lstm"](units=64, kernel_init=name, recurrent_init=name)
        params = cell.init(jax.random.key(0), cell.initialize_carry(None, (1, 64)), jnp.zeros((1, 64)))["params"]
        assert params["recurrent_kernel"].shape == (64, 256)
        assert np.isfinite(params["recurrent_kernel"]).all()


class Shares(RecurrentCell):
    """Its z is the share of the new state: a letter says nothing."""

    gates = ("z", "k", "h")
    keeps, admits, opens = ("k",), ("z",), ("h",)


@pytest.mark.parametrize(
    ("name", "expected"), [("forget_2", [0, 2, 0]), ("unit_forget", [0, 0, 1]), ("zeros", [0, 0, 0])]
)
def test_which_gates_keep_is_what_the_cell_says(name, expected):
    np.testing.assert_array_equal(BIASES[name](jax.random.key(0), Shares(units=2))[:, 0], expected)


def test_chrono_goes_by_what_the_cell_says():
    bias = np.asarray(BIASES["chrono_100"](jax.random.key(0), Shares(units=9)))
    assert (bias[1] > 0).all()
    np.testing.assert_array_equal(bias[0], -bias[1])


class Silent(RecurrentCell):
    gates = ("z", "h")


@pytest.mark.parametrize("name", ["forget_1", "chrono_1000"])
def test_an_initializer_of_gates_that_nobody_named_is_refused(name):
    with pytest.raises(ValueError, match="Silent does not say which of its gates keep the past"):
        BIASES[name](jax.random.key(0), Silent(units=2))
    assert not np.any(BIASES["unit_forget"](jax.random.key(0), Silent(units=2)))
