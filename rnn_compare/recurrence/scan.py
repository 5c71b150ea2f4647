"""`jax.lax.scan` over the cell's step: the oracle that every other backend is held against; any dtype, any device."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax


def recurrence(step: Callable, params: Any, x: Any, carry: Any) -> tuple[jax.Array, Any]:
    """See `rnn_compare.recurrence.recurrence`."""
    last, hidden = jax.lax.scan(partial(step, params), carry, x)
    return hidden, last
