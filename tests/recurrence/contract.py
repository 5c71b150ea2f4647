"""What every backend owes: the scan's values and gradients in float64, within a small multiple of float32's own error.

The float32 scan is held against its float64 self first; a backend may be FACTOR times as far off.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence import BACKENDS

FACTOR = 4.0  # our exp has its own rounding, and sums run in another order
SLACK = 1e-6  # of the largest entry, 8 roundings: felt where the scan happens to be nearly exact
NAMES = ("outputs", "last", "dparams", "dx", "dcarry")
FAST = [name for name in BACKENDS if name != "scan"]


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's, as a leaf of a tree."""

    sizes: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A step, a tree of its parameters' shapes and a tree of its carries' widths; carries are drawn around `middle`."""

    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]
    params: Any
    carry: Any
    middle: float = 0.0


def pulled(step, backend, runs):
    """A function of (params, x, carry, cotangents) that gives all values and all gradients."""

    def both(params, x, carry, cotangents):
        out, pull = jax.vjp(functools.partial(BACKENDS[backend], step), params, x, carry)
        dparams, dx, dcarry = pull(cotangents)
        return dict(zip(NAMES, (*out, dparams, dx, dcarry), strict=True))

    return jax.vmap(both) if runs else both


@functools.cache
def compiled(model, backend, runs):
    return jax.jit(pulled(model.step, backend, runs))


@functools.cache
def exact(model, runs):
    """Of a program that is compiled quickly rather than well."""
    return jax.jit(pulled(model.step, "scan", runs), compiler_options={"xla_backend_optimization_level": 0})


def problem(model, T, B, F, runs, seed=0):
    """Random parameters, inputs, carry and cotangents on every output and last carry, float32."""
    rng = np.random.default_rng(seed)
    lead = (runs,) if runs else ()

    def draw(scale, *shape):
        return jnp.asarray(rng.normal(scale=scale, size=lead + shape), jnp.float32)

    def parameter(shape):
        sizes = shape.sizes
        return draw(0.8 / np.sqrt(sizes[-2]) if len(sizes) > 1 else 0.4, *sizes)

    params, x = jax.tree.map(parameter, model.params), draw(1, T, B, F)
    carry = jax.tree.map(lambda width: model.middle + draw(0.5, B, width), model.carry)
    alone = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[len(lead) :], a.dtype), (params, x, carry))
    out = jax.eval_shape(functools.partial(BACKENDS["scan"], model.step), *alone)
    return params, x, carry, jax.tree.map(lambda leaf: draw(1, *leaf.shape), out)


def in_double(model, arguments, runs):
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), arguments)
        return jax.tree.map(np.asarray, exact(model, runs)(*wide))


def compare(ours, scan, exact):
    def close(path, ours, scan, exact):
        scale = np.abs(exact).max(initial=0)
        error, allowed = (
            np.abs(ours - exact).max(initial=0),
            FACTOR * np.abs(scan - exact).max(initial=0) + SLACK * scale,
        )
        assert ours.shape == exact.shape
        assert error <= allowed, f"{jax.tree_util.keystr(path)}: {error:.2e} > {allowed:.2e} (scale {scale:.1e})"

    jax.tree_util.tree_map_with_path(close, ours, scan, exact)


def hold(model, backend, T, B, F, runs=0, seed=0):
    """Asserts the contract for one size."""
    arguments = problem(model, T, B, F, runs, seed)
    ours, scan = (compiled(model, name, runs)(*arguments) for name in (backend, "scan"))
    compare(ours, scan, in_double(model, arguments, runs))
