"""The contract, held by our own cells and by assorted steps. See `contract`.

Sizes are odd on purpose: nothing may depend on whole vectors, whole tiles or whole blocks of time. A kernel is the same
for all sizes but where two of them are equal or one of them is 1; each costs some seconds to compile, once.
"""

import threading

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import FAST, compiled, hold, problem
from steps import MODELS, K

from rnn_compare.recurrence import BACKENDS
from rnn_compare.recurrence.cpu import support

HEAD = ["lstm", "gru", "gru_reset_before"]


def each(*quick):
    """All models, of which some are run by default."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    ("T", "B", "F", "H", "runs"),
    [
        (1, 1, 2, 4, 0),
        (3, 40, 8, 17, 1),
        (300, 13, 2, 16, 2),
        *(pytest.param(*s, marks=pytest.mark.slow) for s in ((3, 7, 3, 5, 3), (50, 5, 33, 40, 0))),
    ],
)
@pytest.mark.parametrize("name", each("gru"))
def test_values_and_gradients(name, backend, T, B, F, H, runs):
    hold(MODELS[name](F, H), backend, T, B, F, runs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", MODELS)
def test_the_most_units_that_auto_takes(name, backend):
    """In three runs: the scan's largest error, which is the measure, is luck on one draw."""
    hold(MODELS[name](2, 256), backend, 20, 3, 2, 3)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    "name",
    [
        "sum_that_is_multiplied",
        "sums_with_a_number",
        "sum_of_a_number",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("moved_and_joined", "relatives", "flax.OptimizedLSTMCell")),
    ],
)
def test_others_at_one_size(name, backend):
    hold(MODELS[name](2, 11), backend, 300, 13, 2, 2)


@pytest.mark.parametrize(
    ("B", "H"), [(1, 72), (13, 72), *(pytest.param(B, 144, marks=pytest.mark.slow) for B in (1, 13))]
)
@pytest.mark.parametrize(
    "name", ["rnn", "gru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "gru_reset_before"))]
)
def test_many_units(name, B, H):
    """Several blocks of units at a time, and more steps at once than one."""
    hold(MODELS[name](2, H), "cpu", 40, B, 2, 0)


@pytest.mark.parametrize(
    "name", ["gru", *(pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "lstm_fgr"))]
)
def test_more_sequences_in_a_task(name):
    """As where weights are heavy, of several steps in a block and two runs."""
    assert support.rows_of_task(201, 3 * 148**2) == 16
    hold(MODELS[name](2, 148), "cpu", 5, 201, 2, 2)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in HEAD])
def test_a_long_sequence_of_single_numbers(name, backend):
    hold(MODELS[name](1, 16), backend, 1000, 41, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("F", "H"), [(1, 1), (1, 5), (4, 1), (5, 5), (K, 6), (2, K), (K, K)])
def test_sizes_that_are_one_or_equal(name, backend, F, H):
    for T, B, runs in ((1, 1, 0), (20, 7, 0), (5, 3, 2)):
        hold(MODELS[name](F, H), backend, T, B, F, runs)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", HEAD)
@pytest.mark.parametrize("T", [1, 2, 3, 1000])
@pytest.mark.parametrize("B", [1, 7, 41])
@pytest.mark.parametrize("F", [1, 3])
@pytest.mark.parametrize("H", [1, 5, 16, 40])
@pytest.mark.parametrize("runs", [0, 3])
def test_every_size(name, backend, T, B, F, H, runs):
    hold(MODELS[name](F, H), backend, T, B, F, runs)


sizes = {"T": st.integers(1, 70), "B": st.integers(1, 30), "F": st.integers(2, 20), "H": st.integers(2, 50)}
sizes |= {"runs": st.integers(0, 3), "seed": st.integers(0, 999)}


@pytest.mark.parametrize("backend", FAST)
@hypothesis.settings(max_examples=5, deadline=None, derandomize=True)
@hypothesis.given(name=st.just("gru"), **sizes)
@pytest.mark.slow
def test_any_size(backend, name, T, B, F, H, runs, seed):
    hypothesis.assume(F != H)
    hold(MODELS[name](F, H), backend, T, B, F, runs, seed)


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@hypothesis.settings(max_examples=100, deadline=None, derandomize=True)
@hypothesis.given(name=st.sampled_from(list(MODELS)), **sizes)
def test_many_sizes(backend, name, T, B, F, H, runs, seed):
    hold(MODELS[name](F, H), backend, T, B, F, runs, seed)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", each("gru", "sums_with_a_number"))
def test_not_a_number_stays_in_its_sequence_and_is_not_lost(name, backend):
    model = MODELS[name](2, 11)
    params, x, carry, cotangents = problem(model, 9, 6, 2, 0)
    arguments = params, x.at[4, 3, 1].set(jnp.nan), carry, cotangents
    ours, scan = (compiled(model, which, 0)(*arguments) for which in (backend, "scan"))
    outputs, scanned = (jax.tree.leaves(found["outputs"]) for found in (ours, scan))
    jax.tree.map(np.testing.assert_array_equal, *(jax.tree.map(np.isnan, leaves) for leaves in (outputs, scanned)))
    assert np.isnan(outputs[0][4:, 3]).any(axis=-1).all()
    for found, axis in [
        *((leaf, 1) for leaf in (*outputs, ours["dx"])),
        *((leaf, 0) for leaf in jax.tree.leaves(ours["dcarry"])),
    ]:
        assert np.isfinite(np.delete(found, 3, axis=axis)).all()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", ["gru"])
@pytest.mark.parametrize("x", [np.inf, -np.inf, 3e38, 1e-42])
def test_extreme_inputs_saturate_as_in_the_scan(name, backend, x):
    model = MODELS[name](2, 16)
    params, _, carry, _ = problem(model, 1, 2, 2, 0)
    row = jnp.array([x, 0.5], jnp.float32)
    arguments = model.step, params, jnp.broadcast_to(row, (5, 2, 2)), carry
    ours, scan = (BACKENDS[which](*arguments)[0] for which in (backend, "scan"))
    np.testing.assert_allclose(ours, scan, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", each("gru"))
def test_a_run_does_not_depend_on_those_beside_it(name, backend):
    """Bit for bit: stacked with others or alone, forward and backward."""
    model = MODELS[name](2, 16)
    stacked = problem(model, 60, 13, 2, 3)
    together = compiled(model, backend, 3)(*stacked)
    for r in range(3):
        alone = compiled(model, backend, 0)(*jax.tree.map(lambda a, r=r: a[r], stacked))
        jax.tree.map(lambda a, b, r=r: np.testing.assert_array_equal(a[r], b), together, alone)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("name", ["gru", pytest.param("slstm", marks=pytest.mark.slow)])
def test_called_from_several_threads_at_once(name, backend):
    model = MODELS[name](2, 16)
    arguments, function = problem(model, 300, 40, 2, 0), compiled(model, backend, 0)
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


@pytest.mark.slow
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize(
    "name", [name if name == "gru" else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_the_gradient_of_data_is_not_computed_unless_asked_for(name, backend):
    """Without a gradient for x, the others are the same bits."""
    model = MODELS[name](2, 16)
    params, x, carry, cotangents = problem(model, 20, 5, 2, 0)

    def scalar(params, x):
        out = BACKENDS[backend](model.step, params, x, carry)
        return sum(jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (cotangents, out)), strict=True))

    with_x, without_x = jax.grad(scalar, argnums=(0, 1))(params, x)[0], jax.grad(scalar)(params, x)
    jax.tree.map(np.testing.assert_array_equal, with_x, without_x)


@pytest.mark.parametrize("backend", FAST)
def test_nothing_is_computed_of_no_steps_and_of_no_sequences(backend):
    model = MODELS["lstm"](2, 16)
    for T, B in ((0, 3), (3, 0)):
        params, x, carry, _ = problem(model, T, B, 2, 0)
        outputs, last = BACKENDS[backend](model.step, params, x, carry)
        assert outputs.shape == (T, B, 16)
        jax.tree.map(np.testing.assert_array_equal, last, carry)
