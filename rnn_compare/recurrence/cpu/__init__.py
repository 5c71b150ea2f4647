"""Fused recurrences for the CPU: whole sequences in one call, both directions.

Kernels are Python functions that Numba compiles and XLA calls through its FFI. They know nothing of JAX; this file is
where JAX learns of them, and `lstm`, `gru` and `gru_reset_before` are where each cell is.

A task owns a few sequences (rows of the batch) of one run and steps through time alone. Lanes of a vector are hidden
units, in blocks of WIDTH. Memory is laid out for that:

    inputs[row, :]                   a row [h, 1, x]: the 1 brings in the biases
    weights[block, k, column, lane]  packed; k runs over the row, columns are gates
    gates[row, block, column, lane]  inputs @ weights, then activations, then gradients

The backward pass goes through time in blocks of steps that fit in the cache. It recomputes the gates of all steps of a
block from the kept h, goes back through the steps, and then adds the whole block's share to the gradients of the
weights. Of size T it keeps the hidden states and, for the LSTM, the cell states; no [T, B, nH] array ever exists.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from rnn_compare.cells import Carry, GRUCell, LSTMCell, RecurrentCell
from rnn_compare.recurrence.cpu import compiled, gru, gru_reset_before, lstm

PARAMETERS = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
KERNELS = {"lstm": lstm, "gru": gru, "gru_reset_before": gru_reset_before}


def kernel_of(cell: RecurrentCell) -> str | None:
    """The name in `KERNELS` of what computes this cell; None if nothing does."""
    if type(cell) is LSTMCell:
        return "lstm"
    if type(cell) is GRUCell:
        return "gru" if cell.reset_after else "gru_reset_before"
    return None


def recurrence(cell: RecurrentCell, params: Any, x: jax.Array, carry: Carry) -> tuple[jax.Array, Carry]:
    """See `rnn_compare.recurrence.recurrence`; float32 only.

    Under `jax.vmap`, every operand gets the leading axis, and the runs are computed side by side in one call.

    Raises:
        ValueError: the cell has no kernel, or an operand is not float32 or has another shape than it should.
    """
    name = kernel_of(cell)
    if name is None:
        raise ValueError(f"the backend cpu has no kernel for {type(cell).__name__}")
    operands = (tuple(params[key] for key in PARAMETERS), x, carry)
    # Compiled code reads memory by these shapes: a wrong one must not get there.
    (T, B, F), H, width = x.shape, cell.units, cell.units * len(cell.gates)
    states = jax.tree.map(lambda leaf: leaf.shape, cell.initialize_carry(None, (B, F)))
    expected = (((F, width), (H, width), (width,), (width,)), (T, B, F), states)
    if (shapes := jax.tree.map(lambda leaf: leaf.shape, operands)) != expected:
        raise ValueError(f"the backend cpu was given the shapes {shapes} and expects {expected}")
    if T == 0:
        return jnp.zeros((0, B, H)), carry
    return _recurrence(name, *operands)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _call(name: str, direction: str, results: Any, *operands: jax.Array) -> Any:
    return compiled.call(name, KERNELS[name], direction, results, *operands)


def _forward(name: str, params: tuple, x: jax.Array, carry: Carry, keep: bool) -> tuple[Any, tuple]:
    """(hidden states, last carry), and what the backward pass needs (the cell states only if `keep`)."""
    (T, B, _), H = x.shape, params[1].shape[0]
    hidden = _float32(T, B, H)
    if name == "lstm":
        c0, h0 = carry
        results = hidden, _float32(B, H), hidden if keep else _float32(0)
        hs, last_c, cs = _call(name, "forward", results, *params, x, h0, c0)
        return (hs, (last_c, hs[-1])), (params, x, h0, hs, c0, cs)
    (hs,) = _call(name, "forward", (hidden,), *params, x, carry)
    return (hs, hs[-1]), (params, x, carry, hs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(name: str, params: tuple, x: jax.Array, carry: Carry) -> Any:
    return _forward(name, params, x, carry, keep=False)[0]


def _recurrence_forward(name: str, params: Any, x: Any, carry: Any) -> tuple[Any, Any]:
    params, carry = (jax.tree.map(lambda leaf: leaf.value, tree) for tree in (params, carry))
    result, kept = _forward(name, params, x.value, carry, keep=True)
    # x is often data, whose gradient nobody wants: an empty array tells the backward pass to spare it.
    return result, (kept, jnp.zeros(x.value.shape if x.perturbed else (0,), jnp.float32))


def _recurrence_backward(name: str, kept: Any, cotangents: Any) -> tuple[Any, Any, Any]:
    (params, x, h0, hs, *cells), dx_like = kept
    dhs, dlast = jax.tree.map(
        lambda c: jnp.zeros(c.shape, c.dtype) if isinstance(c, SymbolicZero) else c,
        cotangents,
        is_leaf=lambda c: isinstance(c, SymbolicZero),
    )
    results = (*(_float32(*p.shape) for p in params), _float32(*dx_like.shape), _float32(*h0.shape))
    if name == "lstm":
        (c0, cs), (dlast_c, dlast_h) = cells, dlast
        operands = (*params, x, h0, hs, dhs, dlast_h, c0, cs, dlast_c)
        *dparams, dx, dh0, dc0 = _call(name, "backward", (*results, results[-1]), *operands)
        dcarry = dc0, dh0
    else:
        *dparams, dx, dcarry = _call(name, "backward", results, *params, x, h0, hs, dhs, dlast)
    return tuple(dparams), dx if dx.size else jnp.zeros_like(x), dcarry


_recurrence.defvjp(_recurrence_forward, _recurrence_backward, symbolic_zeros=True)
