"""A recurrence as whole passes over time, forward and backward: where JAX learns of kernels, whatever they run on.

A target is a function of a step's graph that makes `Kernels` of it. Their derivative is taken here: backward by the
kernels, forward and again by the scan.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from rnn_compare.recurrence import scan
from rnn_compare.recurrence.linear import linear
from rnn_compare.recurrence.step.graph import Step, UnsupportedError
from rnn_compare.recurrence.step.read import Problem, StepFunction

Arrays = list[jax.Array]


class Kernels(Protocol):
    """The passes of a step over T steps of B sequences."""

    def weights(self, arrays: dict[int, jax.Array]) -> Arrays:
        """The operands that are made of the step's arrays, and differentiated."""

    def extras(self, arrays: dict[int, jax.Array]) -> Arrays:
        """Those that only the backward pass takes."""

    def outputs(self, keep: bool, x: Arrays, ends: Arrays, carry: Arrays, weights: Arrays) -> Arrays:
        """The outputs [T, B, W], the last carry [B, W], and what is kept for the backward pass, if it is (`keep`).

        Args:
            keep: whether there will be a backward pass; arrays of no size are kept if there will not.
            x: the inputs, [T, B, F].
            ends: nothing, or how many steps of each sequence are computed, [B].
            carry: the carry before the first step, [B, W].
            weights: see `weights`.
        """

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
        """The gradients of the inputs that are wanted, of the carry and of the weights.

        Args:
            wanted: of which inputs a gradient is.
            x: as above, and so are ends, carry and weights.
            ends: as above.
            carry: as above.
            weights: as above.
            extras: see `extras`.
            kept: the outputs, and what was kept.
            cotangents: those of the outputs, then those of the last carry.
        """


Target = Callable[[Step, bool], Kernels]  # of the graph, and whether sequences end early


def why_not(target: Target, step: StepFunction, params: Any, x: Any, carry: Any) -> str | None:
    """Why no kernel can be made of a step, or None if one can; only shapes and types are read, nothing is compiled."""

    def read(params: Any, x: Any, carry: Any) -> Arrays:
        problem = problem_of(step, params, x, carry)
        return _operands(target, problem, problem.take_arrays())[1]

    try:
        jax.eval_shape(read, params, x, carry)
    except UnsupportedError as why:
        return str(why)
    return None


def recurrence(
    target: Target, step: StepFunction, params: Any, x: Any, carry: Any, until: jax.Array | None = None
) -> tuple[Any, Any]:
    """See `rnn_compare.recurrence.recurrence`; float32 only.

    After `until` steps of a sequence, [B], the step is known to change nothing and to give out zeros; where all that
    are computed together have come so far, no more is computed. Under `jax.vmap`, every operand gets the leading axis,
    and the runs are computed side by side in one call.

    Raises:
        UnsupportedError: no kernel can be made of the step; says why.
        ValueError: the carry is not of the input's batch, or inputs are not of one length and batch.
    """
    (leaves, tree), inputs = jax.tree.flatten(carry), jax.tree.leaves(x)
    T, B = inputs[0].shape[:2]
    if wrong := [leaf.shape for leaf in leaves if leaf.shape[:1] != (B,)]:
        raise ValueError(f"the input has a batch of {B}, and the carry is {wrong[0]}")
    if wrong := [leaf.shape for leaf in inputs if leaf.shape[:2] != (T, B)]:
        raise ValueError(f"an input is {T} steps of {B} sequences, and another is {wrong[0]}")
    if T == 0 or B == 0:
        return scan.recurrence(step, params, x, carry)
    problem = problem_of(step, params, x, carry)
    ends = [] if until is None or T >= 1 << 24 else [until.astype(jnp.float32)]  # in which larger numbers are rounded
    (ys, last), _ = _recurrence(target, problem, False, problem.take_arrays(), inputs, ends, leaves)
    return jax.tree.unflatten(problem.outputs, ys), jax.tree.unflatten(tree, last)


def problem_of(step: StepFunction, params: Any, x: Any, carry: Any) -> Problem:
    """The step traced, of inputs [T, B, F]; only shapes and types are read."""
    with _reading():
        return Problem(step, params, carry, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), x))


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """What a step is read in: its constants are numbers of the host's, and it may be too long."""
    try:
        with jax.transfer_guard("allow"):
            yield
    except RecursionError:
        raise UnsupportedError("the step is too long a chain of functions") from None


def _operands(target: Target, problem: Problem, arrays: Arrays, ending: bool = False) -> tuple[Kernels, Arrays, Arrays]:
    """The kernels of a step, and their operands that are made of the parameters."""
    with _reading():
        graph, named = problem.read(arrays)
        kernels = target(graph, ending)
    return kernels, kernels.weights(named), kernels.extras(named)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _recurrence(
    target: Target, problem: Problem, keep: bool, arrays: Arrays, x: Arrays, ends: Arrays, carry: Arrays
) -> tuple[tuple[Arrays, Arrays], Arrays]:
    """(outputs, last carry), and what is kept for the backward pass (if `keep`)."""
    kernels, weights, _ = _operands(target, problem, arrays, bool(ends))
    found = kernels.outputs(keep, x, ends, carry, weights)
    outputs = problem.outputs.num_leaves
    return (found[:outputs], found[outputs : outputs + len(carry)]), found[outputs + len(carry) :]


def _derivative(target: Target, problem: Problem, keep: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Forward by the scan, backward by the kernels; see `linear`."""
    results, kept = _recurrence(target, problem, True, *primals)
    # Of what is not differentiated, often x, no gradient is computed.
    leaves = jax.tree.leaves(tangents, is_leaf=lambda t: isinstance(t, SymbolicZero))
    tree: Any = jax.tree.structure(primals)
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
        primals, ys, kept = given
        gradients = jax.tree.leaves(_backward(target, problem, primals, ys, kept, cotangents, want_dx))
        return [gradients[i] for i in wanted]

    given = primals, *jax.lax.stop_gradient((results[0], kept))
    moved = linear(push, pull, given, [leaves[i] for i in wanted])
    if not keep:
        kept = [jnp.zeros(0) for _ in kept]
    return (results, kept), (moved, [jnp.zeros_like(states) for states in kept])


def _backward(
    target: Target, problem: Problem, primals: Any, ys: Arrays, kept: Arrays, cotangents: Any, wanted: tuple
) -> Any:
    """The gradients of the arrays, the inputs (zeros unless they are wanted) and the carry."""
    arrays, x, ends, carry = primals
    kernels, _, extras = _operands(target, problem, arrays, bool(ends))
    weights, pull = jax.vjp(lambda arrays: _operands(target, problem, arrays)[1], arrays)
    dys, dlast = cotangents
    found = iter(kernels.gradients(wanted, x, ends, carry, weights, extras, [*ys, *kept], [*dys, *dlast]))
    dx = [next(found) if want else jnp.zeros_like(leaf) for leaf, want in zip(x, wanted, strict=True)]
    dcarry = [next(found) for _ in carry]
    return pull(list(found))[0], dx, [jnp.zeros_like(end) for end in ends], dcarry


_recurrence.defjvp(_derivative, symbolic_zeros=True)
