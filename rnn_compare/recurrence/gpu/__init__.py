"""Fused recurrences for NVIDIA GPUs: whole sequences in one launch, both directions.

Kernels are generated from a cell's step (`source`), as CUDA C that NVIDIA's runtime compiler compiles and XLA calls
through its FFI.
"""

import functools
import hashlib
from typing import Any

import jax
import jax.numpy as jnp

from rnn_compare.recurrence import fused
from rnn_compare.recurrence.fused import Arrays
from rnn_compare.recurrence.gpu import driver, handler, nvrtc
from rnn_compare.recurrence.gpu.backward import backward
from rnn_compare.recurrence.gpu.forward import forward
from rnn_compare.recurrence.gpu.layout import REGISTERS, Layout, Matrix
from rnn_compare.recurrence.gpu.source import Kernel
from rnn_compare.recurrence.step.graph import Step, UnsupportedError
from rnn_compare.recurrence.step.read import StepFunction


class Kernels:
    """The kernels of a step; see `fused.Kernels`.

    Attributes:
        layout: what they work on.
        forward: the forward pass, in the ways in which it can be split.
        backward: the backward pass likewise, a function of which inputs' gradients are wanted.
    """

    def __init__(self, step: Step, ending: bool = False) -> None:
        self.layout = Layout(step, ending)
        self.forward = forward(self.layout)
        self.backward = functools.cache(functools.partial(backward, self.layout))
        self.backward((True,) * len(step.inputs))  # what cannot be is refused here

    def weights(self, arrays: dict[int, jax.Array]) -> Arrays:
        """The matrices, then the vectors."""
        matrices = [_matrix(m, arrays) for m in self.layout.matrices]
        return matrices + [jnp.asarray(arrays[vector.value]) for vector in self.layout.vectors]

    def extras(self, arrays: dict[int, jax.Array]) -> Arrays:
        """Those that only the backward pass takes."""
        matrices = [_matrix(m, arrays) for m in self.layout.extras]
        return matrices + [jnp.asarray(arrays[vector.value]) for vector in self.layout.extra_vectors]

    def outputs(self, keep: bool, x: Arrays, ends: Arrays, carry: Arrays, weights: Arrays) -> Arrays:
        """Kept are the states after each step that are none of the outputs."""
        (T, B, _), step = x[0].shape, self.layout.step
        results = [_float32(T, B, node.width) for node in step.doutputs] + [_float32(*leaf.shape) for leaf in carry]
        results += [_float32(T, B, step.states[i].width) if keep else _float32(0) for i in self.layout.separate]
        return _call(self.forward, keep, results, *x, *ends, *carry, *weights)

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
        alone = [*(leaf for leaf, want in zip(x, wanted, strict=True) if want), *carry]
        results = [_float32(*like.shape) for like in alone]
        results += [_float32(x[0].shape[1], *weight.shape) for weight in weights]  # of each sequence
        operands = *x, *ends, *carry, *weights, *extras, *kept, *cotangents
        found = _call(self.backward(wanted), True, results, *operands)
        return found[: len(alone)] + [jnp.sum(parts, axis=0) for parts in found[len(alone) :]]


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _matrix(m: Matrix, arrays: dict[int, jax.Array]) -> jax.Array:
    array = jnp.asarray(arrays[m.array])
    return array.T if m.transposed else array


@functools.cache
def kernels_of(step: Step, ending: bool = False) -> Kernels:
    """The kernels of a step, made once; `ending` as in `Layout`."""
    return Kernels(step, ending)


def why_not(step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why no kernel serves a step here, or None if one does; see `fused.why_not`."""
    try:
        driver.library(), nvrtc.library()
    except (OSError, driver.DriverError) as error:
        return str(error)
    return fused.why_not(fitting_kernels_of, step, params, x, carry)


def fitting_kernels_of(step: Step, ending: bool = False) -> Kernels:
    """As `kernels_of`, and compiled: with the gradients of all inputs, and with none.

    Raises:
        UnsupportedError: they do not fit in the registers of the GPU that JAX computes on.
    """
    kernels = kernels_of(step, ending)
    inputs = len(step.inputs)
    for ways in (kernels.forward, kernels.backward((False,) * inputs), kernels.backward((True,) * inputs)):
        fitting(tuple(ways))
    return kernels


recurrence = functools.partial(fused.recurrence, kernels_of)


def _call(ways: list[Kernel], keep: bool, results: list[jax.ShapeDtypeStruct], *operands: jax.Array) -> Arrays:
    kernel, target = ready(tuple(ways))
    T, B = operands[0].shape[:2]
    function = jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")
    return list(function(*operands, words=handler.words(kernel, T, B, keep, operands, results)))


@functools.cache
def ready(ways: tuple[Kernel, ...]) -> tuple[Kernel, str]:
    """The kernel that fits, loaded, and its name in XLA; raises what `fitting` and `driver.load` raise."""
    kernel, code = fitting(ways)
    target = target_of(kernel)
    handler.register(target, driver.load(code.binary, kernel.name, kernel.shared), driver.launcher())
    return kernel, target


def fitting(ways: tuple[Kernel, ...]) -> tuple[Kernel, nvrtc.Code]:
    """The first kernel whose values fit in its registers, if there is one with some to spare, and its machine code.

    Raises:
        UnsupportedError: there is none.
    """
    architecture, full = driver.architecture(), None
    for kernel in ways:
        code = nvrtc.compiled(kernel.source, architecture)
        if not code.spilled and code.registers < REGISTERS:
            return kernel, code
        if not code.spilled and full is None:
            full = kernel, code
    if full is None:
        raise UnsupportedError(f"its weights take more registers than {architecture} has, however they are split")
    return full


def target_of(kernel: Kernel) -> str:
    """A kernel's name in XLA."""
    return f"rnn_compare_{kernel.name}_{hashlib.sha256(kernel.source.encode()).hexdigest()[:24]}"
