"""The squared error of a linear readout of the hidden states: what the heads cost, without their predictions.

On a CPU the readout of a long sequence takes as long as a fast recurrence if predictions, errors and their gradients
go through memory one after the other, so it has a fused backend too.

Axis sizes: T time, B batch, H hidden units, O outputs.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnn_compare.cells import matmul
from rnn_compare.recurrence.cpu import compiled
from rnn_compare.recurrence.cpu import readout as kernels


def readout(hidden: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    """Hidden @ kernel + bias, [T, B, H] -> [T, B, O]."""
    return matmul(hidden, kernel) + bias


def squared_error(hidden: jax.Array, kernel: jax.Array, bias: jax.Array, targets: jax.Array, backend: str) -> jax.Array:
    """The mean squared error of each output of `readout`.

    Args:
        hidden: [T, B, H].
        kernel: (H, O).
        bias: (O,).
        targets: [T, B, O].
        backend: that of the recurrence; "cpu" is fused and float32, any other is plain JAX.

    Returns:
        The means over T and B, [O].

    Raises:
        ValueError: shapes that do not fit together; with the backend cpu, operands that are not float32.
    """
    if backend == "cpu":
        # Compiled code reads memory by these shapes: a wrong one must not get there.
        (T, B, H), (O,) = hidden.shape, bias.shape
        if kernel.shape != (H, O) or targets.shape != (T, B, O):
            raise ValueError(f"the shapes {kernel.shape} and {targets.shape} must be {(H, O)} and {(T, B, O)}")
        return _fused(hidden, kernel, bias, targets)
    return jnp.mean(jnp.square(readout(hidden, kernel, bias) - targets), axis=(0, 1))


@jax.custom_vjp
def _fused(hidden: jax.Array, kernel: jax.Array, bias: jax.Array, targets: jax.Array) -> jax.Array:
    result = (jax.ShapeDtypeStruct(bias.shape, jnp.float32),)
    plan = kernels.forward_plan(*_sizes(hidden, kernel))
    phases = None, kernels.forward_task, kernels.forward_finish
    return compiled.call("readout_forward", phases, plan, result, hidden, kernel, bias, targets)[0]


def _sizes(hidden: jax.Array, kernel: jax.Array) -> tuple[int, int, int]:
    """(rows, hidden units, outputs)."""
    (T, B, H), (_, outputs) = hidden.shape, kernel.shape
    return T * B, H, outputs


def _forward(*operands: Any) -> tuple[jax.Array, Any]:
    values = tuple(operand.value for operand in operands)
    # Targets are data, whose gradient nobody wants: an empty array tells the backward pass to spare it.
    return _fused(*values), (values, jnp.zeros(1 if operands[3].perturbed else 0))


def _backward(kept: Any, cotangent: jax.Array) -> Any:
    (hidden, kernel, bias, targets), targets_wanted = kept
    results = tuple(jax.ShapeDtypeStruct(a.shape, jnp.float32) for a in (hidden, kernel, bias))
    plan = kernels.backward_plan(*_sizes(hidden, kernel))
    phases = None, kernels.backward_task, kernels.backward_finish
    operands = hidden, kernel, bias, targets, cotangent
    dhidden, dkernel, dbias = compiled.call("readout_backward", phases, plan, results, *operands)
    if targets_wanted.size:
        errors = readout(hidden, kernel, bias) - targets
        dtargets = -2 * cotangent * errors / (errors.shape[0] * errors.shape[1])
    else:
        dtargets = jnp.zeros_like(targets)
    return dhidden, dkernel, dbias, dtargets


_fused.defvjp(_forward, _backward, symbolic_zeros=True)
