"""Our cells are Flax cells: `flax.linen.RNN` drives them, and equals what we make of the same step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import recurrence

EACH = [name if name == "gru" else pytest.param(name, marks=pytest.mark.slow) for name in CELLS]


@pytest.mark.parametrize("name", EACH)
def test_flax_rnn_equals_ours(name):
    """Values and the gradients of parameters and inputs, with Flax's parameter tree as ours."""
    cell = CELLS[name](units=11)
    rnn = nn.RNN(cell, time_major=True, return_carry=True)
    x = jax.random.normal(jax.random.key(0), (9, 3, 2))
    params = jax.jit(rnn.init)(jax.random.key(1), x)["params"]["cell"]
    assert params.keys() == cell.parameters(2).keys()

    def theirs(params, x):
        last, hidden = rnn.apply({"params": {"cell": params}}, x)
        return hidden, last

    def ours(params, x, backend):
        return recurrence(cell, params, x, cell.initialize_carry(None, x.shape[1:]), backend)

    def with_gradients(function):
        def scalar(params, x):
            values = function(params, x)
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(values)), values

        return jax.jit(jax.grad(scalar, (0, 1), has_aux=True))(params, x)

    expected = with_gradients(theirs)

    def close(a, b):
        """Float32: some tens of roundings of the largest entry; Flax's own are as far from double precision."""
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6 * max(1, np.abs(b).max()))

    for backend in ("scan", "cpu"):
        jax.tree.map(close, with_gradients(functools.partial(ours, backend=backend)), expected)


@pytest.mark.parametrize("name", EACH)
def test_a_step_is_a_function_of_parameters_carry_and_input(name):
    """The bound cell, and the step alone under jit, vmap and grad: no module is needed around it."""
    cell = CELLS[name](units=11)
    x = jax.random.normal(jax.random.key(0), (4, 3, 2))
    carry = cell.initialize_carry(None, (3, 2))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]
    alone = jax.jit(jax.vmap(cell.step, in_axes=(None, None, 0)))(params, carry, x)
    for i in range(4):
        bound = cell.apply({"params": params}, carry, x[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-7), alone, bound)
