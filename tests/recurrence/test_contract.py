"""What every backend owes: the scan's values and gradients in float64, within a small multiple of float32's own error.

The float32 scan is held against its float64 self first; a backend may be FACTOR times as far off. Sizes are odd on
purpose: nothing may depend on whole vectors, whole tiles or whole blocks of time.
"""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import BACKENDS, recurrence

FACTOR = 4.0  # our exp has its own rounding, and sums run in another order
SLACK = 1e-6  # of the largest entry, 8 roundings: felt where the scan happens to be nearly exact
NAMES = ("hidden", "last", "dparams", "dx", "dcarry")


def pulled(cell, features, units, backend, runs):
    """A function of (params, x, carry, cotangents) that gives all values and all gradients."""
    module = CELLS[cell](units=units)

    def both(params, x, carry, cotangents):
        out, pull = jax.vjp(lambda *args: recurrence(module, *args, backend), params, x, carry)
        dparams, dx, dcarry = pull(cotangents)
        return dict(zip(NAMES, (*out, dparams, dx, dcarry), strict=True))

    return jax.vmap(both) if runs else both


@functools.cache
def compiled(cell, features, units, backend, runs):
    return jax.jit(pulled(cell, features, units, backend, runs))


def problem(cell, T, B, F, H, runs, seed=0):
    """Random parameters, inputs, carry and cotangents on every output, float64."""
    rng = np.random.default_rng(seed)
    lead = (runs,) if runs else ()
    module = CELLS[cell](units=H)
    zero = module.initialize_carry(None, (B, F))
    width = len(module.gates) * H
    draw = lambda scale, *shape: rng.normal(scale=scale, size=lead + shape)  # noqa: E731
    params = {
        "kernel": draw(1 / np.sqrt(F), F, width),
        "recurrent_kernel": draw(0.7 / np.sqrt(H), H, width),
        "bias": draw(0.3, width),
        "recurrent_bias": draw(0.3, width),
    }
    carry = jax.tree.map(lambda z: draw(0.5, *z.shape), zero)
    cotangents = draw(1, T, B, H), jax.tree.map(lambda z: draw(1, *z.shape), zero)
    return params, draw(1, T, B, F), carry, cotangents


def in_double(cell, F, H, arguments, runs):
    """The exact values, of a program that is compiled quickly rather than well."""
    with jax.enable_x64(True):
        exact = jax.jit(pulled(cell, F, H, "scan", runs), compiler_options={"xla_backend_optimization_level": 0})
        return jax.tree.map(np.asarray, exact(*arguments))


def hold(cell, backend, T, B, F, H, runs, seed=0):
    """Asserts the contract for one size."""
    arguments = problem(cell, T, B, F, H, runs, seed)
    single = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), arguments)
    exact = in_double(cell, F, H, jax.tree.map(lambda a: np.asarray(a, np.float64), single), runs)
    ours = compiled(cell, F, H, backend, runs)(*single)
    scan = compiled(cell, F, H, "scan", runs)(*single)

    def compare(path, ours, scan, exact):
        scale = np.abs(exact).max()
        error, allowed = np.abs(ours - exact).max(), FACTOR * np.abs(scan - exact).max() + SLACK * scale
        assert ours.shape == exact.shape
        assert error <= allowed, f"{jax.tree_util.keystr(path)}: {error:.2e} > {allowed:.2e} (scale {scale:.1e})"

    jax.tree_util.tree_map_with_path(compare, ours, scan, exact)


FAST = [name for name in BACKENDS if name != "scan"]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    ("T", "B", "F", "H", "runs"),
    [
        (1, 1, 1, 1, 0),
        (3, 7, 3, 5, 3),
        (3, 40, 8, 17, 1),
        (1000, 41, 1, 16, 2),
        (50, 5, 33, 40, 0),
        (20, 3, 2, 256, 0),
        (20, 3, 256, 24, 0),
    ],
)
def test_values_and_gradients(cell, backend, T, B, F, H, runs):
    hold(cell, backend, T, B, F, H, runs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T", [1, 2, 3, 1000])
@pytest.mark.parametrize("B", [1, 7, 41])
@pytest.mark.parametrize("F", [1, 3])
@pytest.mark.parametrize("H", [1, 5, 16, 40])
@pytest.mark.parametrize("runs", [0, 3])
def test_every_size(cell, backend, T, B, F, H, runs):
    hold(cell, backend, T, B, F, H, runs)


sizes = hypothesis.given(
    cell=st.sampled_from(list(CELLS)),
    T=st.integers(1, 70),
    B=st.integers(1, 30),
    F=st.integers(1, 20),
    H=st.integers(1, 50),
    runs=st.integers(0, 3),
    seed=st.integers(0, 999),
)


@pytest.mark.parametrize("backend", FAST)
@hypothesis.settings(max_examples=5, deadline=None, derandomize=True)
@sizes
def test_any_size(backend, cell, T, B, F, H, runs, seed):
    hold(cell, backend, T, B, F, H, runs, seed)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
@sizes
def test_many_sizes(backend, cell, T, B, F, H, runs, seed):
    hold(cell, backend, T, B, F, H, runs, seed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", CELLS)
def test_not_a_number_stays_in_its_sequence_and_is_not_lost(cell, backend):
    params, x, carry, _ = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem(cell, 9, 6, 2, 16, 0))
    module = CELLS[cell](units=16)
    hidden, _ = recurrence(module, params, x.at[4, 3, 1].set(jnp.nan), carry, backend)
    assert np.isnan(hidden[4:, 3]).all()
    assert np.isfinite(np.delete(hidden, 3, axis=1)).all()
    assert np.isfinite(hidden[:4]).all()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("x", [np.inf, -np.inf, 3e38, 1e-42])
def test_extreme_inputs_saturate_as_in_the_scan(cell, backend, x):
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem(cell, 1, 1, 1, 16, 0)[0])
    module = CELLS[cell](units=16)
    arguments = (module, params, jnp.full((5, 2, 1), x, jnp.float32), module.initialize_carry(None, (2, 1)))
    ours, scan = (recurrence(*arguments, name)[0] for name in (backend, "scan"))
    np.testing.assert_allclose(ours, scan, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("cell", CELLS)
def test_a_run_does_not_depend_on_those_beside_it(cell, backend):
    """Bit for bit: stacked with others or alone, forward and backward."""
    stacked = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem(cell, 60, 13, 2, 16, 3))
    together = compiled(cell, 2, 16, backend, 3)(*stacked)
    for r in range(3):
        alone = compiled(cell, 2, 16, backend, 0)(*jax.tree.map(lambda a, r=r: a[r], stacked))
        jax.tree.map(lambda a, b, r=r: np.testing.assert_array_equal(a[r], b), together, alone)


@pytest.mark.parametrize("backend", FAST)
def test_called_from_several_threads_at_once(backend):
    import threading

    arguments = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem("lstm", 300, 40, 1, 16, 0))
    function = compiled("lstm", 1, 16, backend, 0)
    expected = function(*arguments)
    failures = []

    def work():
        for _ in range(20):
            try:
                jax.tree.map(np.testing.assert_array_equal, function(*arguments), expected)
            except AssertionError as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_data_is_not_computed_unless_asked_for(cell, backend):
    """Without a gradient for x, the others are the same bits."""
    params, x, carry, (pull, _) = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), problem(cell, 20, 5, 2, 16, 0))
    module = CELLS[cell](units=16)
    scalar = lambda params, x: jnp.sum(pull * recurrence(module, params, x, carry, backend)[0])  # noqa: E731
    with_x, without_x = jax.grad(scalar, argnums=(0, 1))(params, x)[0], jax.grad(scalar)(params, x)
    jax.tree.map(np.testing.assert_array_equal, with_x, without_x)
