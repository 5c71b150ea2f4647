"""Every cell against somebody else's: outputs, carry and every gradient, in double precision, at odd sizes.

What the witnesses say is kept in a file, so that PyTorch, which weighs gigabytes, is not needed to ask them.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import ANSWERS, flat, problem, unrolled

from rnn_compare.cells import CELLS


@pytest.fixture(scope="module")
def answers():
    return np.load(ANSWERS)


def test_every_cell_has_a_witness(answers):
    assert sorted(answers) == sorted(CELLS)


@pytest.mark.parametrize("name", list(CELLS))
def test_cell_equals_its_witness(name, answers, x64):
    cell, arguments, cotangents = problem(name)
    out, pull = jax.vjp(unrolled(cell.step, jnp.stack), *arguments)
    np.testing.assert_allclose(flat((out, pull(cotangents))), answers[name], rtol=1e-9, atol=1e-11)
