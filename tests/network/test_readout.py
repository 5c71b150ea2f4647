import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest

from rnn_compare.network.readout import squared_error


def values_and_gradients(arguments, weights, backend, runs=False):
    """The errors, and the gradients of their weighted sum: the sum itself may cancel far below its terms' rounding."""

    def function(*arguments):
        errors, pull = jax.vjp(lambda *a: squared_error(*a, backend), *arguments)
        return errors, pull(weights)

    return jax.jit(jax.vmap(function) if runs else function)(*arguments)


def draw(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def shapes(T, B, H, O):
    return (T, B, H), (H, O), (O,), (T, B, O)


def hold(T, B, H, O, seed):
    *arguments, weights = draw((*shapes(T, B, H, O), (O,)), seed)
    ours = values_and_gradients(arguments, weights, "cpu")
    with jax.enable_x64(True):
        exact = values_and_gradients([np.float64(a) for a in arguments], np.float64(weights), "scan")
        exact = jax.tree.map(np.asarray, exact)
    # Errors of a float32 product of at most 40 terms, as a share of the largest entry.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * (1 + np.abs(b).max())), ours, exact)


sizes = hypothesis.given(
    T=st.integers(1, 90), B=st.integers(1, 9), H=st.integers(1, 40), O=st.integers(1, 20), seed=st.integers(0, 99)
)


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@sizes
def test_fused_is_plain_in_value_and_every_gradient(T, B, H, O, seed):
    hold(T, B, H, O, seed)


@pytest.mark.slow
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@sizes
def test_fused_is_plain_at_many_sizes(T, B, H, O, seed):
    hold(T, B, H, O, seed)


def test_stays_exact_at_full_size():
    """The mean of 800,000 squares in float32, as at 40 × 20,000."""
    hidden, kernel, bias, targets = draw(shapes(20_000, 40, 4, 7))
    exact = np.square(np.float64(hidden) @ kernel + bias - targets).mean(axis=(0, 1))
    for backend, tolerance in (("cpu", 1e-6), ("scan", 1e-5)):
        np.testing.assert_allclose(squared_error(hidden, kernel, bias, targets, backend), exact, rtol=tolerance)


def test_a_run_does_not_depend_on_those_beside_it():
    stacked = [np.stack(pair) for pair in zip(*(draw(shapes(70, 5, 16, 7), seed) for seed in (0, 1)), strict=True)]
    together = values_and_gradients(stacked, np.ones(7, np.float32), "cpu", runs=True)
    for r in range(2):
        alone = values_and_gradients([a[r] for a in stacked], np.ones(7, np.float32), "cpu")
        jax.tree.map(lambda a, b, r=r: np.testing.assert_array_equal(a[r], b), together, alone)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(bad):
    hidden, kernel, bias, targets = draw(shapes(70, 5, 16, 7))
    hidden[60, 2, 3] = bad
    assert not np.isfinite(squared_error(hidden, kernel, bias, targets, "cpu")).any()
