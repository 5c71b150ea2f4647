"""A step applied over time: one boundary, several backends, all the same function.

A backend is a function `(step, params, x, carry) -> (outputs, last carry)`, listed in `BACKENDS`; x is an array
[T, B, F] or a tree of them.
"""

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging

from rnn_compare.cells import Carry, RecurrentCell
from rnn_compare.recurrence import cpu, gpu, scan
from rnn_compare.recurrence.gpu import race
from rnn_compare.recurrence.step.graph import UnsupportedError
from rnn_compare.recurrence.step.read import StepFunction

__all__ = ["BACKENDS", "KERNELS", "UnsupportedError", "fastest", "pick", "recurrence", "shapes", "why_not"]

Backend = Callable[..., tuple[Any, Any]]

BACKENDS: dict[str, Backend] = {"scan": scan.recurrence, "cpu": cpu.recurrence, "gpu": gpu.recurrence}
KERNELS: dict[str, ModuleType] = {"cpu": cpu, "gpu": gpu}  # by the platform that they run on, as JAX names it
PLACES = {"cpu": "a CPU", "gpu": "an NVIDIA GPU"}


def slower(steps: int, batch: int, units: int) -> str | None:
    """Why a CPU's kernels were not measured to be faster than the scan, or None if they were.

    By experiments/speed/kernels.py: a call takes some microseconds and packs the weights, which little work and few
    steps do not pay back. A rule and not a race, so that the same command gives the same bits. On a GPU it is a race:
    no rule is known.
    """
    if steps * batch * units**2 <= 512:
        return f"{steps} steps of {batch} sequences of {units} units are too little work"
    most = min(math.isqrt(4096 * steps), 256) if steps > 1 else 0
    return f"of {steps} steps, it is known to be faster up to {most} units" if units > most else None


def pick(backend: str, cell: RecurrentCell, features: int, steps: int, batch: int) -> str:
    """The backend that computes a cell here, in float32.

    Args:
        backend: a name in `BACKENDS`, or "auto", whose choice is logged.
        cell: the cell.
        features: the size of its input, F.
        steps: the length of the sequences, T.
        batch: the number of sequences, B; it decides on a GPU.

    Raises:
        ValueError: the backend was asked for by name and cannot serve; says why.
    """
    if backend == "scan":
        return backend
    on_a_processor = jax.default_backend() == "cpu"
    return (_pick if on_a_processor else _pick.__wrapped__)(backend, cell, features, steps, batch)


@functools.lru_cache(maxsize=256)  # by a rule, which always says the same; reading a step takes 0.1 s
def _pick(backend: str, cell: RecurrentCell, features: int, steps: int, batch: int) -> str:
    arguments = cell.step, *shapes(cell, features, steps, batch)
    if backend == "auto":
        return fastest(*arguments)
    if backend in KERNELS and (why := _cannot(backend, *arguments)):
        raise ValueError(f"the backend {backend} cannot serve {type(cell).__name__}: {why}; use scan or auto")
    return backend


def fastest(step: StepFunction, params: Any, x: Any, carry: Any) -> str:
    """The fastest backend for a step here: on a CPU by a rule, on a GPU by a race, held once; it is logged."""
    why = why_not(step, params, x, carry)
    picked = "scan" if why else jax.default_backend()
    if picked == "gpu":
        picked = race.race(step, params, x, carry).fastest(host=False)
    logging.info("recurrence backend: %s%s", picked, f" (not fused: {why})" if why else "")
    return picked


def why_not(step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why `fastest` leaves a step to the scan, or None if there are kernels for it here.

    Args:
        step: the step.
        params: its parameters; of these and the following only shapes and types are read.
        x: inputs of at least one time step, a tree of arrays [T, B, F].
        carry: a carry, a tree of arrays [B, H].
    """
    platform = jax.default_backend()
    if platform not in KERNELS:
        return f"kernels run on {' or '.join(PLACES.values())}, and JAX runs on {platform} here"
    if why := _cannot(platform, step, params, x, carry):
        return why
    (steps, batch), units = jax.tree.leaves(x)[0].shape[:2], max(leaf.shape[-1] for leaf in jax.tree.leaves(carry))
    return slower(steps, batch, units) if platform == "cpu" else None


def _cannot(backend: str, step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why a backend cannot compute a step here, or None if it can."""
    if (platform := jax.default_backend()) != backend:
        return f"it runs on {PLACES[backend]}, and JAX runs on {platform} here"
    return KERNELS[backend].why_not(step, params, x, carry)


def shapes(cell: RecurrentCell, features: int, steps: int, batch: int) -> Any:
    """Of the parameters, the inputs and a carry of a cell; nothing is computed."""

    def made() -> Any:
        x = jnp.zeros((steps, batch, features))
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
