"""A cell applied over time: one boundary, several backends, all the same function.

A backend is a function `(cell, params, x, carry) -> (hidden states, last carry)`, listed in `BACKENDS`.
"""

from collections.abc import Callable
from typing import Any

import jax
from absl import logging

from rnn_compare.cells import Carry, RecurrentCell
from rnn_compare.recurrence import cpu, scan

Backend = Callable[[RecurrentCell, Any, jax.Array, Carry], tuple[jax.Array, Carry]]

BACKENDS: dict[str, Backend] = {"scan": scan.recurrence, "cpu": cpu.recurrence}


def pick(backend: str, cell: RecurrentCell) -> str:
    """The backend that computes a cell here, in float32.

    Args:
        backend: a name in `BACKENDS`, or "auto", whose choice is logged.
        cell: the cell.

    Raises:
        ValueError: the backend was asked for by name and cannot serve; says why.
    """
    platform = jax.default_backend()
    why_not_cpu = None
    if platform != "cpu":
        why_not_cpu = f"it runs on a CPU, and JAX runs on {platform} here"
    elif False:
        why_not_cpu = f"it has no kernel for {type(cell).__name__}"
    if backend == "cpu" and why_not_cpu:
        raise ValueError(f"the backend cpu cannot serve: {why_not_cpu}; use scan or auto")
    if backend != "auto":
        return backend
    picked = "scan" if why_not_cpu else "cpu"
    logging.info("recurrence backend: %s%s", picked, f" (not cpu: {why_not_cpu})" if why_not_cpu else "")
    return picked


def recurrence(cell: RecurrentCell, params: Any, x: jax.Array, carry: Carry, backend: str) -> tuple[jax.Array, Carry]:
    """Applies a cell over time.

    Args:
        cell: the cell.
        params: its parameters, as `cell.init(...)["params"]`.
        x: inputs, [T, B, F].
        carry: the carry before the first step; arrays [B, H].
        backend: a name in `BACKENDS`.

    Returns:
        The hidden states [T, B, H] and the carry after the last step.
    """
    return BACKENDS[backend](cell.step, params, x, carry)
