"""`jax.lax.scan`, fused where it can be."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_compare.recurrence import BACKENDS, UnsupportedError, fastest
from rnn_compare.recurrence import why_not as why_not_fused

Body = Callable[[Any, Any], tuple[Any, Any]]


def scan(
    f: Body, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: int | bool = 1
) -> tuple[Any, Any]:
    """`jax.lax.scan`, with its arguments and results.

    It is fused, forward and backward, where a kernel can be made of `f`: trees of arrays [B, …] in float32 as carry and
    output, whose first axis is a batch that `f` does not mix, and in `xs` such arrays, or truth values, of each step.
    Otherwise it is `jax.lax.scan` itself; `why_not` says why.

    Args:
        f: a function of (carry, x) that returns (carry, y).
        init: the carry before the first step.
        xs: what is scanned over, a tree of arrays [T, B, …].
        length: the number of steps, if there are no xs.
        reverse: whether it goes from the last step to the first.
        unroll: left to `jax.lax.scan`; a fused scan has no use for it.

    Returns:
        The last carry, and the outputs of all steps.
    """
    try:
        fused = _Fused(f, init, xs, length)
    except UnsupportedError:
        return jax.lax.scan(f, init, xs, length, reverse, unroll)
    return fused(init, xs, reverse)


def why_not(f: Body, init: Any, xs: Any = None) -> str | None:
    """Why `scan` is not fused for these arguments, or None if it is; only shapes and types are read."""
    try:
        _Fused(f, init, xs)
    except UnsupportedError as why:
        return str(why)
    return None


class _Fused:
    """A body as a step of rows [B, numbers].

    Raises:
        UnsupportedError: no kernel can be made of it; says why.
    """

    def __init__(self, f: Body, init: Any, xs: Any, length: int | None = None) -> None:
        self._f = f
        self._carry = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), init)
        self._x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], jnp.result_type(leaf)), xs)
        if not jax.tree.leaves(self._carry) or any(leaf.ndim == 0 for leaf in jax.tree.leaves((self._carry, self._x))):
            raise UnsupportedError("a carry or an input has no axis that could be a batch")
        if len({len(leaf) for leaf in jax.tree.leaves(xs)} | {length} - {None}) > 1:
            raise UnsupportedError("the inputs are not of one length")  # which jax.lax.scan complains about
        last, self._y = jax.eval_shape(f, self._carry, self._x)
        if any(leaf.ndim == 0 for leaf in jax.tree.leaves(self._y)):
            raise UnsupportedError("an output has no axis that could be a batch")
        if jax.tree.map(lambda a: (a.shape, a.dtype), last) != jax.tree.map(lambda a: (a.shape, a.dtype), self._carry):
            raise UnsupportedError("the carry changes its shapes or types")  # which jax.lax.scan complains about
        if why := why_not_fused(self.step, (), *jax.eval_shape(_operands, init, xs)):
            raise UnsupportedError(why)

    def __call__(self, init: Any, xs: Any, reverse: bool) -> tuple[Any, Any]:
        in_order = functools.partial(jax.tree.map, lambda leaf: jnp.flip(leaf, 0) if reverse else leaf)
        given = self.step, (), *_operands(init, in_order(xs))
        ys, last = BACKENDS[fastest(*given)](*given)
        leaves, tree = jax.tree.flatten(self._y)
        outputs = [_as(rows, like, len(rows), *like.shape[:1]) for like, rows in zip(leaves, ys, strict=False)]
        last = jax.tree.map(lambda rows, like: _as(rows, like, *like.shape[:1]), last, self._carry)
        return last, in_order(jax.tree.unflatten(tree, outputs))

    def step(self, _: Any, carry: Any, x: Any) -> tuple[Any, list[jax.Array]]:
        """The body; where it gives out nothing, a part of the carry is the output."""
        batch = len(jax.tree.leaves(carry)[0])
        given = jax.tree.map(lambda rows, like: _as(rows, like, batch), (carry, x), (self._carry, self._x))
        last, y = self._f(*given)
        outputs = jax.tree.leaves(y) or jax.tree.leaves(last)[:1]
        return jax.tree.map(_rows, last), [_rows(leaf) for leaf in outputs]


def _operands(init: Any, xs: Any) -> tuple[Any, Any]:
    """What is scanned over, and the carry, as rows."""
    return jax.tree.map(functools.partial(_rows, lead=2), xs), jax.tree.map(_rows, init)


def _rows(leaf: Any, lead: int = 1) -> jax.Array:
    """An array [B, …] as rows [B, numbers]; truth values as ones and zeros."""
    leaf = jnp.asarray(leaf)
    leaf = leaf.astype(jnp.float32) if leaf.dtype == bool else leaf
    return leaf.reshape(*leaf.shape[:lead], math.prod(leaf.shape[lead:]))


def _as(rows: jax.Array, like: jax.ShapeDtypeStruct, *lead: int) -> jax.Array:
    """Rows [*lead, numbers] as what they were made of."""
    leaf = rows.reshape(*lead, *like.shape[1:])
    return leaf > 0.5 if like.dtype == bool else leaf
