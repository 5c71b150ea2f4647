"""What every way of computing a recurrence owes: the scan's values and gradients in float64, about as well as the scan.

The float32 scan is held against its float64 self first; others may be FACTOR times as far off.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence import scan
from rnn_compare.recurrence.step.read import StepFunction

FACTOR = 4.0  # our exp has its own rounding, and sums run in another order
SLACK = 1e-6  # of the largest entry, 8 roundings: felt where the scan happens to be nearly exact
NAMES = ("outputs", "last", "dparams", "dx", "dcarry")
Recurrence = Callable[[StepFunction, Any, Any, Any], tuple[Any, Any]]


def pulled(recurrence: Recurrence, step: StepFunction) -> Callable[..., dict[str, Any]]:
    """A function of (params, x, carry, cotangents) that gives all values and all gradients by their NAMES."""

    def both(params: Any, x: Any, carry: Any, cotangents: Any) -> dict[str, Any]:
        out, pull = jax.vjp(functools.partial(recurrence, step), params, x, carry)
        return dict(zip(NAMES, (*out, *pull(cotangents)), strict=True))

    return both


def drawn(step: StepFunction, params: Any, x: Any, carry: Any, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """Random numbers of these shapes, with which no state grows beyond measure, and cotangents of all results."""
    rng = np.random.default_rng(seed)

    def normal(scale: float, like: Any) -> Any:
        return jnp.asarray(rng.normal(scale=scale, size=like.shape), jnp.float32)

    def parameter(like: Any) -> Any:
        return normal(0.8 / np.sqrt(like.shape[-2]) if like.ndim > 1 else 0.4, like)

    out = jax.eval_shape(functools.partial(scan.recurrence, step), params, x, carry)
    scales = (1.0, x), (0.5, carry), (1.0, out)
    return jax.tree.map(parameter, params), *(jax.tree.map(functools.partial(normal, s), like) for s, like in scales)


def broken(ours: Any, scanned: Any, exact: Any) -> list[str]:
    """What of the contract some values and gradients break, in words, given the scan's in float32 and in float64."""

    def compared(path: Any, ours: Any, scanned: Any, exact: Any) -> str:
        name, scale = jax.tree_util.keystr(path), np.abs(exact).max(initial=0)
        if ours.shape != exact.shape:
            return f"{name}: {ours.shape} and not {exact.shape}"
        error = np.abs(ours - exact).max(initial=0)
        allowed = FACTOR * np.abs(scanned - exact).max(initial=0) + SLACK * scale
        return "" if error <= allowed else f"{name}: {error:.2e} > {allowed:.2e} (scale {scale:.1e})"

    given = (jax.tree.map(np.asarray, tree) for tree in (ours, scanned, exact))
    return [said for said in jax.tree.leaves(jax.tree_util.tree_map_with_path(compared, *given)) if said]


def in_double(function: Callable, arguments: Any) -> Any:
    """The results of a function of double precision."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), arguments)
        return jax.tree.map(np.asarray, function(*wide))
