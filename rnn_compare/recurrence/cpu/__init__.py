"""Fused recurrences for the CPU: whole sequences in one call, both directions.

Kernels are generated from a cell's step (`emit`), as Python that Numba compiles and XLA calls through its FFI. They know
nothing of JAX; this file is where JAX learns of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from rnn_compare.recurrence.cpu import compiled, functions, support, tiles, vector, xla_ffi
from rnn_compare.recurrence.cpu.emit import ONE, Kernel, Segment, Source
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.graph import Node, Step, Unsupported
from rnn_compare.recurrence.read import StepFunction, read


class Kernels:
    """The kernels of a step.

    Attributes:
        source: what they are made from.
        forward: the forward pass.
        backward: the backward pass, without and with the gradient of the input.
    """

    def __init__(self, step: Step) -> None:
        self.source = Source(step)
        self.forward = self.source.forward()
        self.backward = {want_dx: self.source.backward(want_dx) for want_dx in (False, True)}
        self._extras = list(dict.fromkeys(node for kernel in self.backward.values() for node in kernel.extras))

    def weights(self, arrays: dict[int, jax.Array]) -> list[jax.Array]:
        """The operands that are made of the parameters: the weights of each segment, then the vectors."""
        packed = [packed_weights(segment, arrays) for segment in self.source.segments]
        return packed + [jnp.asarray(arrays[vector.value]) for vector in self.source.vectors]

    def extras(self, arrays: dict[int, jax.Array]) -> list[jax.Array]:
        """The weights that only a backward pass multiplies with."""
        given = ((jnp.asarray(arrays[array]), transposed) for array, transposed in (n.value for n in self._extras))
        return [array.T if transposed else array for array, transposed in given]

    def extras_of(self, kernel: Kernel, extras: list[jax.Array]) -> list[jax.Array]:
        """Those of them that one of the backward passes takes."""
        return [extras[self._extras.index(node)] for node in kernel.extras]


@functools.cache
def kernels_of(step: Step) -> Kernels:
    """The kernels of a step, made once."""
    return Kernels(step)


def why_not(step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why no kernel can be made of a step, or None if one can; only shapes and types are read, nothing is compiled."""
    try:
        jax.eval_shape(lambda *operands: _read(step, *operands)[1:], params, x, carry)
    except Unsupported as why:
        return str(why)
    return None


def _read(step: StepFunction, params: Any, x: jax.Array, carry: Any) -> tuple[Kernels, list[jax.Array], list[jax.Array]]:
    """The kernels of a step, and their operands that are made of the parameters."""
    graph, arrays = read(step, params, carry, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    kernels = kernels_of(graph)
    return kernels, kernels.weights(arrays), kernels.extras(arrays)


def recurrence(step: StepFunction, params: Any, x: jax.Array, carry: Any) -> tuple[jax.Array, Any]:
    """See `rnn_compare.recurrence.recurrence`; float32 only.

    Under `jax.vmap`, every operand gets the leading axis, and the runs are computed side by side in one call.

    Raises:
        Unsupported: no kernel can be made of the step; says why.
        ValueError: the carry is not of the input's batch.
    """
    leaves, tree = jax.tree.flatten(carry)
    T, B, _ = x.shape
    kernels, weights, extras = _read(step, params, x, carry)
    if wrong := [leaf.shape for leaf in leaves if leaf.shape[0] != B]:
        raise ValueError(f"the input has a batch of {B}, and the carry is {wrong[0]}")
    if T == 0 or B == 0:
        return jnp.zeros((T, B, kernels.source.step.doutput.width)), carry
    ys, last = _recurrence(kernels, weights, extras, x, leaves)
    return ys, jax.tree.unflatten(tree, last)


NAMESPACE = {
    name: value
    for part in (vector, functions, support, tiles, xla_ffi)
    for name, value in vars(part).items()
    if not name.startswith("_")
} | {"np": np}


@functools.cache
def _functions(source: str) -> tuple[Callable, Callable | None]:
    """The task and the end of a kernel, not compiled."""
    scope = dict(NAMESPACE)
    exec(compile(source, "<kernel>", "exec"), scope)
    return scope["task"], scope.get("finish")


def _call(kernel: Kernel, plan: Plan, results: list, *operands: jax.Array) -> list[jax.Array]:
    return compiled.call(kernel.name, *_functions(kernel.source), plan, results, *operands)


def packed_weights(segment: Segment, arrays: dict[int, jax.Array]) -> jax.Array:
    """The weights of a segment, [numbers of its rows, columns, units]."""

    def weights(source: Node, column: Any) -> jax.Array:
        if source is not ONE:
            return jnp.asarray(arrays[segment.product(source, column).value[0]])
        biases = [jnp.broadcast_to(jnp.asarray(arrays[vector.value]), (segment.width,)) for vector in column.vectors]
        return functools.reduce(jnp.add, biases)[None]

    rows = [jnp.stack([weights(source, column) for column in segment.sums], axis=1) for source in segment.sources]
    return jnp.concatenate(rows)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _forward(kernels: Kernels, weights: list, x: jax.Array, carry: list, keep: bool) -> tuple[Any, list[jax.Array]]:
    """(outputs, last carry), and the states after each step that are not the output (if `keep`)."""
    (T, B, _), step = x.shape, kernels.source.step
    results = [_float32(T, B, step.doutput.width), *(_float32(*leaf.shape) for leaf in carry)]
    results += [_float32(T, B, step.states[i].width) if keep else _float32(0) for i in kernels.source.separate]
    kernel = kernels.forward
    ys, *rest = _call(kernel, kernel.plan(T, B, keep), results, x, *carry, *weights)
    return (ys, rest[: len(carry)]), rest[len(carry) :]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrence(kernels: Kernels, weights: list, extras: list, x: jax.Array, carry: list) -> Any:
    return _forward(kernels, weights, x, carry, keep=False)[0]


def _recurrence_forward(kernels: Kernels, weights: Any, extras: Any, x: Any, carry: Any) -> tuple[Any, Any]:
    weights, extras, carry = (jax.tree.map(lambda leaf: leaf.value, tree) for tree in (weights, extras, carry))
    results, kept = _forward(kernels, weights, x.value, carry, keep=True)
    # x is often data, whose gradient nobody wants: an empty array tells the backward pass to spare it.
    dx_like = jnp.zeros(x.value.shape if x.perturbed else (0,), jnp.float32)
    return results, (weights, extras, x.value, carry, results[0], kept, dx_like)


def _recurrence_backward(kernels: Kernels, residuals: Any, cotangents: Any) -> tuple[Any, Any, Any, Any]:
    weights, extras, x, carry, ys, kept, dx_like = residuals
    dys, dlast = jax.tree.map(
        lambda c: jnp.zeros(c.shape, c.dtype) if isinstance(c, SymbolicZero) else c,
        cotangents,
        is_leaf=lambda c: isinstance(c, SymbolicZero),
    )
    want_dx = dx_like.size > 0
    kernel = kernels.backward[want_dx]
    operands = [x, *carry, *weights]
    results = [_float32(*operand.shape) for operand in operands][not want_dx :]
    others = [ys, *kept, dys, *dlast, *kernels.extras_of(kernel, extras)]
    found = _call(kernel, kernel.plan(*x.shape[:2]), results, *operands, *others)
    dx, *rest = found if want_dx else [jnp.zeros_like(x), *found]
    return rest[len(carry) :], [jnp.zeros_like(extra) for extra in extras], dx, rest[: len(carry)]


_recurrence.defvjp(_recurrence_forward, _recurrence_backward, symbolic_zeros=True)
