"""Fused recurrences for the CPU: whole sequences in one call, both directions.

Kernels are generated from a cell's step (`source`), as Python that Numba compiles and XLA calls through its FFI.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence import fused, xla_ffi
from rnn_compare.recurrence.cpu import arithmetic, compiled, functions, phases, support, tiles, vector
from rnn_compare.recurrence.cpu.backward import backward
from rnn_compare.recurrence.cpu.forward import forward
from rnn_compare.recurrence.cpu.kernel import Kernel
from rnn_compare.recurrence.cpu.layout import Layout
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.fused import Arrays
from rnn_compare.recurrence.step.graph import Step


class Kernels:
    """The kernels of a step; see `fused.Kernels`.

    Attributes:
        layout: what they work on.
        forward: the forward pass.
        backward: the backward pass, a function of which inputs' gradients are wanted.
    """

    def __init__(self, step: Step, ending: bool = False) -> None:
        self.layout = Layout(step, ending)
        self.forward = forward(self.layout)
        self.backward = functools.cache(functools.partial(backward, self.layout))
        for want in (False, True):
            self.backward((want,) * len(step.inputs))  # what cannot be is refused here

    def weights(self, arrays: dict[int, jax.Array]) -> Arrays:
        """The parameters' arrays, as they are: kernels read their parts where they lie."""
        return [jnp.asarray(arrays[array]) for array in self.layout.arrays]

    def extras(self, arrays: dict[int, jax.Array]) -> Arrays:
        """Those that only the backward pass reads."""
        return [jnp.asarray(arrays[array]) for array in self.layout.extras]

    def outputs(self, keep: bool, x: Arrays, ends: Arrays, carry: Arrays, weights: Arrays) -> Arrays:
        """Kept are the states after each step that are none of the outputs."""
        (T, B, _), step = x[0].shape, self.layout.step
        results = [_float32(T, B, node.width) for node in step.doutputs] + [_float32(*leaf.shape) for leaf in carry]
        results += [_float32(T, B, step.states[i].width) if keep else _float32(0) for i in self.layout.separate]
        return _call(self.forward, self.forward.plan(T, B, keep), results, *x, *ends, *carry, *weights)

    def gradients(
        self,
        wanted: tuple[bool, ...],
        x: Arrays,
        ends: Arrays,
        carry: Arrays,
        weights: Arrays,
        extras: Arrays,
        kept: Arrays,
        cotangents: Arrays,
    ) -> Arrays:
        """See `fused.Kernels`."""
        kernel = self.backward(wanted)
        chosen = [leaf for leaf, want in zip(x, wanted, strict=True) if want]
        results = [_float32(*operand.shape) for operand in (*chosen, *carry, *weights)]
        operands = *x, *ends, *carry, *weights, *kept, *cotangents, *extras
        return _call(kernel, kernel.plan(*x[0].shape[:2]), results, *operands)


@functools.cache
def kernels_of(step: Step, ending: bool = False) -> Kernels:
    """The kernels of a step, made once; `ending` as in `Layout`."""
    return Kernels(step, ending)


why_not = functools.partial(fused.why_not, kernels_of)
recurrence = functools.partial(fused.recurrence, kernels_of)


NAMESPACE = {
    name: value
    for part in (vector, arithmetic, functions, support, tiles, xla_ffi)
    for name, value in vars(part).items()
    if not name.startswith("_")
} | {"np": np}


@functools.cache
def _task(source: str) -> Callable:
    """The function of a kernel's own phase, not compiled."""
    scope = dict(NAMESPACE)
    exec(compile(source, "<kernel>", "exec"), scope)
    return scope["task"]


def _call(kernel: Kernel, plan: Plan, results: list, *operands: jax.Array) -> list[jax.Array]:
    start, finish = phases.phases_of(kernel.width)
    return compiled.call(kernel.name, (start, _task(kernel.source), finish), plan, results, *operands)


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
