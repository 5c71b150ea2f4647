"""Steps with several inputs, in value and every gradient, against the scan in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import BACKENDS, cpu

T, B, F, H = 20, 7, 3, 5


def step(params, carry, inputs):
    """A cell that is put back where `again` is, and moves on only where `there` is; y has a part of another input."""
    initial = jax.nn.sigmoid(params["initial"])
    put_back = jax.tree.map(lambda state: jnp.where(inputs["again"] > 0, initial, state), carry)
    new, y = CELLS["lstm"](units=H).step(params["cell"], put_back, inputs["x"])
    stay = jax.tree.map(lambda a, b: jnp.where(inputs["there"] > 0, a, b), new, put_back)
    return stay, jnp.where(inputs["there"] > 0, y + inputs["side"] * inputs["scale"], 0)


@functools.cache
def problem():
    rng = np.random.default_rng(0)
    cell = CELLS["lstm"](units=H)
    start = jax.eval_shape(lambda: {k: init(jax.random.key(0)) for k, init in cell.parameters(F).items()})
    params = {"cell": jax.tree.map(lambda a: rng.normal(size=a.shape) * 0.5, start), "initial": rng.normal(size=H)}
    inputs = {"x": rng.normal(size=(T, B, F)), "side": rng.normal(size=(T, B, H)), "scale": rng.normal(size=(T, B, 1))}
    inputs |= {name: rng.integers(0, 2, size=(T, B, 1)) for name in ("again", "there")}
    carry = tuple(rng.normal(size=(B, H)) for _ in range(2))
    return jax.tree.map(lambda a: a.astype(np.float32), (params, inputs, carry))


def gradients(backend, wanted, arguments):
    params, inputs, carry = arguments

    def scalar(params, chosen, carry):
        out = BACKENDS[backend](step, params, inputs | chosen, carry)
        return sum(jnp.sum(jnp.sin(leaf) * (i + 1)) for i, leaf in enumerate(jax.tree.leaves(out))), out

    chosen = {name: inputs[name] for name in wanted}
    return jax.jit(jax.grad(scalar, (0, 1, 2), has_aux=True))(params, chosen, carry)


@pytest.mark.parametrize(
    "wanted", [*(pytest.param(of, marks=pytest.mark.slow) for of in ((), ("x",), ("scale",))), ("x", "side", "scale")]
)
def test_values_and_gradients(wanted):
    found = gradients("cpu", wanted, problem())
    with jax.enable_x64(True):
        exact = gradients("scan", wanted, jax.tree.map(lambda a: a.astype(np.float64), problem()))
        exact = jax.tree.map(np.asarray, exact)
    # Twenty steps of single precision, of numbers of about one.
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-5), found, exact)


def test_a_step_needs_an_input_and_one_batch():
    params, inputs, carry = problem()
    assert cpu.why_not(lambda p, c, x: (c, c[0]), params, {}, carry) == "there is no input"
    mixed = inputs | {"side": inputs["side"][:, :2]}
    assert cpu.why_not(step, params, mixed, carry) == "carry and inputs are of several batches"
