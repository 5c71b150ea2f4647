"""`jax.lax.scan` over the cell's step: the oracle that every other backend is held against; any dtype, any device."""

from typing import Any

import jax

from rnn_compare.cells import Carry, RecurrentCell


def recurrence(cell: RecurrentCell, params: Any, x: jax.Array, carry: Carry) -> tuple[jax.Array, Carry]:
    """See `rnn_compare.recurrence.recurrence`. The input product is done for all steps at once, before the scan."""
    variables = {"params": params}
    projected = cell.apply(variables, x, method="project")  # [T, B, nH]

    def step(carry: Carry, projected_t: jax.Array) -> Any:
        return cell.apply(variables, carry, projected_t, method="step")

    last, hidden = jax.lax.scan(step, carry, projected)
    return hidden, last
