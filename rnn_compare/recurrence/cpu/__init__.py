"""Fused recurrences for the CPU: whole sequences in one call, both directions.

Kernels are generated from a cell's step (`source`), as Python that Numba compiles and XLA calls through its FFI. They
know nothing of JAX; this file is where JAX learns of them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero

from rnn_compare.recurrence import scan
from rnn_compare.recurrence.cpu import compiled, functions, support, tiles, vector, xla_ffi
from rnn_compare.recurrence.cpu.backward import backward
from rnn_compare.recurrence.cpu.forward import forward
from rnn_compare.recurrence.cpu.layout import ONE, Layout, Segment
from rnn_compare.recurrence.cpu.source import Kernel
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.linear import linear
from rnn_compare.recurrence.step.graph import Node, Step, UnsupportedError
from rnn_compare.recurrence.step.read import Problem, StepFunction


class Kernels:
    """The kernels of a step.

    Attributes:
        layout: what they work on.
        forward: the forward pass.
    """

    def __init__(self, step: Step, ending: bool = False) -> None:
        self.layout = Layout(step, ending)
        self.forward = forward(self.layout)
        self.backward = functools.cache(functools.partial(backward, self.layout))
        ends = (self.backward((want,) * len(step.inputs)) for want in (False, True))
        self._extras = list(dict.fromkeys(node for kernel in ends for node in kernel.extras))

    def weights(self, arrays: dict[int, jax.Array]) -> list[jax.Array]:
        """The operands that are made of the parameters: the weights of each segment, then the vectors."""
        packed = [packed_weights(segment, arrays) for segment in self.layout.weights]
        return packed + [jnp.asarray(arrays[vector.value]) for vector in self.layout.vectors]

    def extras(self, arrays: dict[int, jax.Array]) -> list[jax.Array]:
        """The weights that only a backward pass multiplies with."""
        given = ((jnp.asarray(arrays[array]), transposed) for array, transposed in (n.value for n in self._extras))
        return [array.T if transposed else array for array, transposed in given]

    def extras_of(self, kernel: Kernel, extras: list[jax.Array]) -> list[jax.Array]:
        """Those of them that one of the backward passes takes."""
        return [extras[self._extras.index(node)] for node in kernel.extras]


@functools.cache
def kernels_of(step: Step, ending: bool = False) -> Kernels:
    """The kernels of a step, made once; `ending` as in `Layout`."""
    return Kernels(step, ending)


def why_not(step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why no kernel can be made of a step, or None if one can; only shapes and types are read, nothing is compiled."""

    def read(params: Any, x: Any, carry: Any) -> list[jax.Array]:
        problem = _problem(step, params, x, carry)
        return _operands(problem, problem.arrays)[1]

    try:
        jax.eval_shape(read, params, x, carry)
    except UnsupportedError as why:
        return str(why)
    return None


def recurrence(step: StepFunction, params: Any, x: Any, carry: Any, until: jax.Array | None = None) -> tuple[Any, Any]:
    """See `rnn_compare.recurrence.recurrence`; float32 only.

    After `until` steps of a sequence, [B], the step is known to change nothing and to give out zeros; where all that
    are computed together have come so far, no more is computed. Under `jax.vmap`, every operand gets the leading axis,
    and the runs are computed side by side in one call.

    Raises:
        UnsupportedError: no kernel can be made of the step; says why.
        ValueError: the carry is not of the input's batch.
    """
    (leaves, tree), inputs = jax.tree.flatten(carry), jax.tree.leaves(x)
    T, B = inputs[0].shape[:2]
    if wrong := [leaf.shape for leaf in leaves if leaf.shape[:1] != (B,)]:
        raise ValueError(f"the input has a batch of {B}, and the carry is {wrong[0]}")
    if T == 0 or B == 0:
        return scan.recurrence(step, params, x, carry)
    problem = _problem(step, params, x, carry)
    ends = [] if until is None or T >= 1 << 24 else [until.astype(jnp.float32)]  # in which larger numbers are rounded
    (ys, last), _ = _recurrence(problem, False, problem.arrays, inputs, ends, leaves)
    return jax.tree.unflatten(problem.outputs, ys), jax.tree.unflatten(tree, last)


def _problem(step: StepFunction, params: Any, x: Any, carry: Any) -> Problem:
    return Problem(step, params, carry, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), x))


def _operands(
    problem: Problem, arrays: list[jax.Array], ending: bool = False
) -> tuple[Kernels, list[jax.Array], list[jax.Array]]:
    """The kernels of a step, and their operands that are made of the parameters."""
    graph, named = problem.read(arrays)
    kernels = kernels_of(graph, ending)
    return kernels, kernels.weights(named), kernels.extras(named)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recurrence(
    problem: Problem, keep: bool, arrays: list, x: list, ends: list, carry: list
) -> tuple[tuple[list[jax.Array], list[jax.Array]], list[jax.Array]]:
    """(outputs, last carry), and the states after each step that are none of the outputs (if `keep`)."""
    kernels, weights, _ = _operands(problem, arrays, bool(ends))
    (T, B, _), step = x[0].shape, kernels.layout.step
    results = [_float32(T, B, node.width) for node in step.doutputs] + [_float32(*leaf.shape) for leaf in carry]
    results += [_float32(T, B, step.states[i].width) if keep else _float32(0) for i in kernels.layout.separate]
    kernel = kernels.forward
    found = iter(_call(kernel, kernel.plan(T, B, keep), results, *x, *ends, *carry, *weights))
    return ([next(found) for _ in step.outputs], [next(found) for _ in carry]), list(found)


def _derivative(problem: Problem, keep: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Forward by the scan, backward by the kernels; see `linear`."""
    results, kept = _recurrence(problem, True, *primals)
    # Of what is not differentiated, often x, no gradient is computed.
    leaves, tree = jax.tree.flatten(tangents, is_leaf=lambda t: isinstance(t, SymbolicZero))
    wanted = [i for i, leaf in enumerate(leaves) if not isinstance(leaf, SymbolicZero)]
    first = len(primals[0])
    want_dx = tuple(first + i in wanted for i in range(len(primals[1])))

    def push(given: Any, moved: list) -> Any:
        values = jax.tree.leaves(given[0])

        def function(*chosen: jax.Array) -> Any:
            filled = list(values)
            for i, value in zip(wanted, chosen, strict=True):
                filled[i] = value
            arrays, x, _, carry = tree.unflatten(filled)
            last, ys = jax.lax.scan(functools.partial(problem.step, arrays), carry, x)
            return ys, last

        return jax.jvp(function, [values[i] for i in wanted], moved)[1]

    def pull(given: Any, cotangents: Any) -> list:
        gradients = jax.tree.leaves(_backward(problem, *given, cotangents, want_dx))
        return [gradients[i] for i in wanted]

    given = primals, *jax.lax.stop_gradient((results[0], kept))
    moved = linear(push, pull, given, [leaves[i] for i in wanted])
    if not keep:
        kept = [jnp.zeros(0) for _ in kept]
    return (results, kept), (moved, [jnp.zeros_like(states) for states in kept])


def _backward(problem: Problem, primals: Any, ys: list, kept: list, cotangents: Any, wanted: tuple) -> Any:
    """The gradients of the arrays, the inputs (zeros unless they are wanted) and the carry."""
    arrays, x, ends, carry = primals
    dys, dlast = cotangents
    kernels, _, extras = _operands(problem, arrays, bool(ends))
    weights, pull = jax.vjp(lambda arrays: _operands(problem, arrays)[1], arrays)
    kernel = kernels.backward(wanted)
    chosen = [leaf for leaf, want in zip(x, wanted, strict=True) if want]
    results = [_float32(*operand.shape) for operand in (*chosen, *carry, *weights)]
    others = [*ys, *kept, *dys, *dlast, *kernels.extras_of(kernel, extras)]
    found = _call(kernel, kernel.plan(*x[0].shape[:2]), results, *x, *ends, *carry, *weights, *others)
    of_inputs, rest = iter(found), found[len(chosen) :]
    dx = [next(of_inputs) if want else jnp.zeros_like(leaf) for leaf, want in zip(x, wanted, strict=True)]
    return pull(rest[len(carry) :])[0], dx, [jnp.zeros_like(end) for end in ends], rest[: len(carry)]


_recurrence.defjvp(_derivative, symbolic_zeros=True)
