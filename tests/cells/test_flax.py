"""Our cells are Flax cells: `flax.linen.RNN` drives them, and equals what we make of the same step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import BACKENDS, recurrence


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CELLS)
def test_flax_rnn_equals_ours(name, backend):
    """Values and the gradients of parameters and inputs, with Flax's parameter tree as ours."""
    cell = CELLS[name](units=5)
    rnn = nn.RNN(cell, time_major=True, return_carry=True)
    x = jax.random.normal(jax.random.key(0), (9, 3, 2))
    variables = rnn.init(jax.random.key(1), x)
    params = variables["params"]["cell"]
    assert params.keys() == cell.parameters(2).keys()

    def theirs(params, x):
        last, hidden = rnn.apply({"params": {"cell": params}}, x)
        return hidden, last

    def ours(params, x):
        return recurrence(cell, params, x, cell.initialize_carry(None, x.shape[1:]), backend)

    def gradients(function):
        return jax.grad(lambda *args: sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(function(*args))), (0, 1))

    # Float32 over nine steps: some tens of roundings of values and gradients of size one.
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)  # noqa: E731
    jax.tree.map(close, ours(params, x), theirs(params, x))
    jax.tree.map(close, gradients(ours)(params, x), gradients(theirs)(params, x))


@pytest.mark.parametrize("name", CELLS)
def test_a_step_is_a_function_of_parameters_carry_and_input(name):
    """The bound cell, and the step alone under jit, vmap and grad: no module is needed around it."""
    cell = CELLS[name](units=5)
    x = jax.random.normal(jax.random.key(0), (4, 3, 2))
    carry = cell.initialize_carry(None, (3, 2))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]
    alone = jax.jit(jax.vmap(cell.step, in_axes=(None, None, 0)))(params, carry, x)
    for i in range(4):
        bound = cell.apply({"params": params}, carry, x[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-6, atol=1e-7), alone, bound)
