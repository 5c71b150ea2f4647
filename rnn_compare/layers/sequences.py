"""A layer's sequences as recurrences take them: time first, one batch axis, forward; padding and resets are inputs."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax.linen.recurrent import flip_sequences

from rnn_compare.recurrence import BACKENDS, UnsupportedError, fastest
from rnn_compare.recurrence.linear import linear
from rnn_compare.recurrence.step.read import StepFunction


def chosen(layer: Any, **given: Any) -> dict[str, Any]:
    """What a call was given, and the layer's own choice where it was given nothing."""
    return {name: getattr(layer, name) if value is None else value for name, value in given.items()}


def apply(
    step: StepFunction,
    params: Any,
    inputs: jax.Array,
    initial: Callable[[tuple[int, ...]], Any],
    carry: Any = None,
    *,
    lengths: jax.Array | None,
    resets: jax.Array | None,
    time_major: bool,
    reverse: bool,
    keep_order: bool,
) -> tuple[Any, jax.Array]:
    """A cell over the time of inputs [*batch, T, F], or [T, *batch, F] if `time_major`.

    Args:
        step: a function of (params, carry, x [B, F]) that returns (carry, y [B, W]).
        params: its parameters.
        inputs: the inputs.
        initial: the cell's own initial carry, for inputs of a shape (*batch, F).
        carry: the initial carry, a tree of arrays [*batch, H]; the cell's own if it is left out.
        lengths: see `flax.linen.RNN`, [*batch].
        resets: see `linen.RNN`, of the inputs' shape without F.
        time_major: as in Flax.
        reverse: as in Flax.
        keep_order: as in Flax.

    Returns:
        The last carry, and the outputs, zero on padding.

    Raises:
        UnsupportedError: the step's outputs are no array [B, W], or a part of the carry has no axis but the batch's.
        ValueError: lengths or resets are not of the inputs' shape, or lengths no whole numbers.
    """
    first = inputs if time_major else jnp.moveaxis(inputs, -2, 0)
    T, *batch, F = first.shape
    one_batch = functools.partial(_reshaped, before=len(batch), after=(math.prod(batch),))
    x = first.reshape(T, math.prod(batch), F)
    rows = None
    if lengths is not None:
        lengths = _of_shape("seq_lengths", lengths, tuple(batch)).reshape(-1)
        if not jnp.issubdtype(lengths.dtype, jnp.integer):
            raise ValueError(f"seq_lengths are {lengths.dtype}, and should be whole numbers")
    if resets is not None:
        resets = _of_shape("resets", resets, (T, *batch) if time_major else (*batch, T))
        resets = (resets if time_major else jnp.moveaxis(resets, -1, 0)).reshape(x.shape[:2])
    if carry is None:
        carry, rows = _initial(initial, (*batch, F)) if resets is not None else (initial((*batch, F)), None)
    if any(jnp.ndim(leaf) <= len(batch) for leaf in jax.tree.leaves(carry)):
        raise UnsupportedError("a part of the carry has no axis but the batch's")
    carry = jax.tree.map(one_batch, carry)
    y = jax.eval_shape(step, params, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))[1]
    if not hasattr(y, "shape") or len(y.shape) != 2:
        raise UnsupportedError("the step's outputs are no array [B, W]")

    def flip(x: jax.Array) -> jax.Array:
        if lengths is None:
            return jnp.flip(x, 0)
        return linear(_flipped, _flipped, lengths, x)  # its own transpose, where JAX's is a scatter

    if reverse:
        x = flip(x)
        if resets is not None:  # what begins anew at a step ends there for whom comes from behind
            behind = jnp.concatenate([resets[1:], jnp.zeros_like(resets[:1])])
            resets = flip(behind[..., None])[..., 0]
    outputs, last = recurrence(step, params, x, carry, lengths, resets, rows)
    if reverse and keep_order:
        outputs = flip(outputs)
    outputs = outputs.reshape(T, *batch, outputs.shape[-1])
    whole = functools.partial(_reshaped, before=1, after=tuple(batch))
    return jax.tree.map(whole, last), outputs if time_major else jnp.moveaxis(outputs, 0, -2)


def recurrence(
    step: StepFunction,
    params: Any,
    x: jax.Array,
    carry: Any,
    lengths: jax.Array | None = None,
    resets: jax.Array | None = None,
    rows: Any = None,
) -> tuple[jax.Array, Any]:
    """A step over time, by the kernels where they can serve, else by the scan.

    Args:
        step: see `apply`.
        params: its parameters.
        x: the inputs, [T, B, F].
        carry: the carry before the first step, a tree of arrays [B, H].
        lengths: how many steps of each sequence are none of padding, [B].
        resets: whether the carry is put back before a step, [T, B].
        rows: what it is put back to where that is the same for all sequences, a tree of arrays [1, H]; else `carry`.

    Returns:
        The outputs [T, B, W], zero on padding, and the carry after each sequence's last step.
    """
    given = {"x": x}
    if lengths is not None:
        there = (jnp.arange(len(x))[:, None] < lengths[None])[..., None]
        given = {"x": jnp.where(there, x, 0), "there": there.astype(x.dtype)}
    if resets is not None:
        given["again"] = resets[..., None].astype(x.dtype)
    fixed = carry if resets is not None and rows is None else None

    def moved(params: Any, states: Any, given: Any) -> tuple[Any, jax.Array]:
        before, fixed = states
        again = fixed if rows is None else rows
        state = _where(given["again"], again, before) if "again" in given else before
        new, y = step(params, state, given["x"])
        if "there" in given:
            new, y = _where(given["there"], new, before), jnp.where(given["there"] > 0, y, 0)
        return (new, fixed), y

    arguments = params, given, (carry, fixed)
    backend = fastest(moved, *arguments)
    if lengths is None or backend == "scan":
        outputs, (last, _) = BACKENDS[backend](moved, *arguments)
    else:  # the longest first: sequences that are computed together end together
        order = jnp.argsort(-lengths)
        back = jnp.argsort(order)
        given = jax.tree.map(lambda leaf: permuted(leaf, order, back), given)
        states = jax.tree.map(lambda leaf: leaf[order], (carry, fixed))
        outputs, (last, _) = BACKENDS[backend](moved, params, given, states, lengths[order])
        outputs, last = permuted(outputs, back, order), jax.tree.map(lambda leaf: leaf[back], last)
    return outputs, last


def permuted(x: jax.Array, order: jax.Array, back: jax.Array) -> jax.Array:
    """The sequences of [T, B, F] in an order whose inverse is `back`; backward by that, where JAX would scatter."""
    return linear(lambda orders, x: x[:, orders[0]], lambda orders, y: y[:, orders[1]], (order, back), x)


def _flipped(lengths: jax.Array, x: jax.Array) -> jax.Array:
    return flip_sequences(x, lengths, num_batch_dims=1, time_major=True)


def _where(mask: jax.Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(mask.reshape(-1, *[1] * (b.ndim - 1)) > 0, a, b), yes, no)


def _reshaped(leaf: jax.Array, before: int, after: tuple[int, ...]) -> jax.Array:
    """An array whose first axes are replaced."""
    return leaf.reshape(*after, *leaf.shape[before:])


def _of_shape(name: str, array: Any, shape: tuple[int, ...]) -> jax.Array:
    array = jnp.asarray(array)
    if array.shape != shape:
        raise ValueError(f"{name} have the shape {array.shape}, and should have {shape}")
    return array


def _initial(initial: Callable[[tuple[int, ...]], Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The cell's own initial carry, and, if it is known to be the same for all sequences, that of one, [1, H]."""
    axes = len(shape) - 1
    try:
        with jax.ensure_compile_time_eval(), jax.transfer_guard("allow"):
            carry = initial(shape)
            rows = jax.tree.map(lambda leaf: leaf[(slice(1),) * axes], carry)
            same = jax.tree.map(lambda leaf, row: bool(leaf.size and (leaf == row).all()), carry, rows)
    except jax.errors.ConcretizationTypeError:  # the key that it is drawn from is traced
        return initial(shape), None
    if not all(jax.tree.leaves(same)):
        return carry, None
    carry = jax.tree.map(lambda leaf, row: jnp.broadcast_to(row, leaf.shape), carry, rows)  # a big constant it is not
    return carry, jax.tree.map(lambda row: row.reshape(1, *row.shape[axes:]), rows)
