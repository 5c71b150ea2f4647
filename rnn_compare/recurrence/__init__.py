"""A cell applied over time: one boundary, several backends, all the same function.

A backend is a function `(cell, params, x, carry) -> (hidden states, last carry)`, listed in `BACKENDS`.
"""

from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from rnn_compare.cells import Carry, RecurrentCell
from rnn_compare.recurrence import scan

Backend = Callable[[RecurrentCell, Any, jax.Array, Carry], tuple[jax.Array, Carry]]

BACKENDS: dict[str, Backend] = {"scan": scan.recurrence}


def pick(backend: str) -> str:
    """The backend that `auto` stands for, logged; any other name is itself."""
    if backend != "auto":
        return backend
    logging.info("recurrence backend: scan (the only one so far)")
    return "scan"


def recurrence(cell: RecurrentCell, params: Any, x: jax.Array, carry: Carry, backend: str) -> tuple[jax.Array, Carry]:
    """Applies a cell over time.

    Args:
        cell: the cell, unbound.
        params: its parameters, as `cell.init(...)["params"]`.
        x: inputs, [T, B, F].
        carry: the carry before the first step; arrays [B, H].
        backend: a name in `BACKENDS`.

    Returns:
        The hidden states [T, B, H] and the carry after the last step.
    """
    return BACKENDS[backend](cell, params, x, carry)
