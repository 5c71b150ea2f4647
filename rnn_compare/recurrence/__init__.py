"""A step applied over time: one boundary, several backends, all the same function.

A backend is a function `(step, params, x, carry) -> (outputs, last carry)`, listed in `BACKENDS`; x is an array
[T, B, F] or a tree of them.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from rnn_compare.cells import Carry, RecurrentCell
from rnn_compare.recurrence import cpu, scan
from rnn_compare.recurrence.step.graph import UnsupportedError
from rnn_compare.recurrence.step.read import StepFunction

__all__ = ["BACKENDS", "UnsupportedError", "pick", "recurrence", "why_not"]

Backend = Callable[[StepFunction, Any, Any, Any], tuple[jax.Array, Any]]

BACKENDS: dict[str, Backend] = {"scan": scan.recurrence, "cpu": cpu.recurrence}

# Up to so many units the kernels were measured to be faster than the scan: experiments/speed/kernels.py. A rule and
# not a race, so that the same command gives the same bits.
FASTER_UP_TO = 128


def pick(backend: str, cell: RecurrentCell, features: int) -> str:
    """The backend that computes a cell here, in float32.

    Args:
        backend: a name in `BACKENDS`, or "auto", whose choice is logged.
        cell: the cell.
        features: the size of its input, F.

    Raises:
        ValueError: the backend was asked for by name and cannot serve; says why.
    """
    if backend == "scan":
        return backend
    params, x, carry = _shapes(cell, features)
    why = why_not(cell.step, params, x, carry, any_size=backend == "cpu")
    if backend == "cpu" and why:
        raise ValueError(f"the backend cpu cannot serve {type(cell).__name__}: {why}; use scan or auto")
    if backend != "auto":
        return backend
    picked = "scan" if why else "cpu"
    logging.info("recurrence backend: %s%s", picked, f" (not cpu: {why})" if why else "")
    return picked


def why_not(step: StepFunction, params: Any, x: Any, carry: Any, any_size: bool = False) -> str | None:
    """Why the kernels do not serve a step here, or None if they do.

    Args:
        step: the step.
        params: its parameters; of these and the following only shapes and types are read.
        x: inputs of at least one time step, a tree of arrays [T, B, F].
        carry: a carry, a tree of arrays [B, H].
        any_size: whether they are wanted at sizes at which the scan is faster, too.
    """
    if (platform := jax.default_backend()) != "cpu":
        return f"it runs on a CPU, and JAX runs on {platform} here"
    units = max((leaf.shape[-1] for leaf in jax.tree.leaves(carry)), default=0)
    if not any_size and units > FASTER_UP_TO:
        return f"it is known to be faster up to {FASTER_UP_TO} units"
    return cpu.why_not(step, params, x, carry)


def _shapes(cell: RecurrentCell, features: int) -> Any:
    """The parameters, an input and a carry of a cell, for one sequence of one step."""

    def made() -> Any:
        x = jnp.zeros((1, 1, features))
        carry = cell.initialize_carry(None, x.shape[1:])
        return cell.init(jax.random.key(0), carry, x[0])["params"], x, carry

    return jax.eval_shape(made)


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
