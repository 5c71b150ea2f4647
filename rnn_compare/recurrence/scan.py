"""`jax.lax.scan` over the cell's step: the oracle that every other backend is held against; any dtype, any device."""

from functools import partial

import jax

from rnn_compare.cells import Carry, Params, RecurrentCell


def recurrence(cell: RecurrentCell, params: Params, x: jax.Array, carry: Carry) -> tuple[jax.Array, Carry]:
    """See `rnn_compare.recurrence.recurrence`."""
    last, hidden = jax.lax.scan(partial(cell.step, params), carry, x)
    return hidden, last
