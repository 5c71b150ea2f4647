import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import recurrence


@pytest.mark.parametrize(
    "name", [name if name in ("lstm", "gru") else pytest.param(name, marks=pytest.mark.slow) for name in CELLS]
)
def test_scan_is_the_cell_applied_step_by_step(name, x64):
    cell = CELLS[name](units=5)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(9, 2, 3)))
    carry = jax.tree.map(
        lambda zero: jnp.asarray(rng.normal(size=zero.shape)), cell.initialize_carry(None, (2, 3), jnp.float64)
    )
    params = cell.init(jax.random.key(0), carry, x[0])["params"]
    hidden, last = recurrence(cell, params, x, carry, "scan")
    for t in range(9):
        carry, h = cell.apply({"params": params}, carry, x[t])
        np.testing.assert_allclose(hidden[t], h, rtol=1e-13)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), last, carry)
