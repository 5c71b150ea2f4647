"""A step read, in both directions: from a function in JAX to a graph and the arrays that it is about."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from rnn_compare.recurrence.step.graph import LEAVES, Step, UnsupportedError, ancestors, arrays_of
from rnn_compare.recurrence.step.reverse import cotangents
from rnn_compare.recurrence.step.rows import is_constant
from rnn_compare.recurrence.step.trace import Tracer, Value, batch_size

MOST_UNITS = 1 << 16  # of a state or an input: to read a step takes a batch of more
StepFunction = Callable[[Any, Any, Any], tuple[Any, Any]]


class Problem:
    """A step, traced: what it computes, apart from the arrays that it is given and those that it closes over.

    Args:
        step: a function of (params, carry, x) that returns (carry, y); y is a tree of arrays [B, W], one at least.
        params: its parameters, a tree of arrays.
        carry: a tree of arrays [B, W], of which only shapes and types are read.
        x: a tree of arrays [B, F], likewise; one at least.

    Attributes:
        carry: the structure of the carry.
        inputs: that of x.
        outputs: that of y.

    Raises:
        UnsupportedError: no kernel can be made of the step; says why.
    """

    def __init__(self, step: StepFunction, params: Any, carry: Any, x: Any) -> None:
        states, self.carry = jax.tree.flatten(carry)
        inputs, self.inputs = jax.tree.flatten(x)
        for name, leaves in (("input", inputs), ("carry", states)):
            if not leaves:
                raise UnsupportedError(f"there is no {name}")
        for leaf in (*states, *inputs, *jax.tree.leaves(params)):
            if jnp.result_type(leaf) != jnp.float32:
                raise UnsupportedError(f"a kernel computes in float32, and was given {jnp.result_type(leaf)}")
        if wrong := [leaf.shape for leaf in (*states, *inputs) if leaf.ndim != 2]:
            raise UnsupportedError(f"a carry or an input is not [batch, units] but {wrong[0]}")
        if len({leaf.shape[0] for leaf in (*states, *inputs)}) > 1:
            raise UnsupportedError("carry and inputs are of several batches")
        self._widths = [leaf.shape[1] for leaf in (*states, *inputs)]
        self._count = len(states)
        if min(self._widths) == 0:
            raise UnsupportedError("a carry or an input has no units")
        if max(self._widths) > MOST_UNITS:
            raise UnsupportedError(f"{max(self._widths)} units are more than {MOST_UNITS}")
        largest = max(self._widths + [n for leaf in jax.tree.leaves(params) for n in jnp.shape(leaf)])
        self._batch = batch_size(3 * largest + 100)  # rows that the step joins or pads are wider than its parameters

        def traced(batch: int) -> ClosedJaxpr:
            rows = [jax.ShapeDtypeStruct((batch, width), jnp.float32) for width in self._widths]
            given = (
                jax.tree.unflatten(self.carry, rows[: self._count]),
                jax.tree.unflatten(self.inputs, rows[self._count :]),
            )
            try:
                closed, (last, y) = jax.make_jaxpr(step, return_shape=True)(params, *given)
            except (TypeError, ValueError) as error:
                if batch == inputs[0].shape[0]:
                    raise
                raise UnsupportedError(f"it cannot be traced with a batch of {batch}: {error}") from None
            shapes = [leaf.shape for leaf in jax.tree.leaves(last)]
            if str(jax.tree.structure(last)) != str(self.carry) or shapes != [row.shape for row in rows[: self._count]]:
                raise UnsupportedError("the step's carry changes its structure or its shapes")
            self.outputs: Any = jax.tree.structure(y)
            return closed

        self._of_batch = traced(inputs[0].shape[0]).jaxpr
        closed = traced(self._batch)
        self._jaxpr = closed.jaxpr
        self._arrays = [*map(jnp.asarray, closed.consts), *map(jnp.asarray, jax.tree.leaves(params))]
        other = batch_size(self._batch)
        again = traced(other)
        if not all(map(_is_same, closed.consts, again.consts)):
            raise UnsupportedError("an array of constants goes by the number of sequences in the batch")
        texts: list[str] = []
        for batch, jaxpr in ((self._batch, self._jaxpr), (other, again.jaxpr)):
            jax.eval_shape(
                lambda arrays, b=batch, j=jaxpr: texts.append(self._graph(b, j, arrays)[0].text), self._arrays
            )
        if texts[0] != texts[1]:
            raise UnsupportedError("it computes with the number of sequences in the batch")

    def take_arrays(self) -> list[jax.Array]:
        """The arrays that the step closes over, and the parameters, once: they may be of a trace that ends before."""
        arrays, self._arrays = self._arrays, []
        return arrays

    def step(self, arrays: list, carry: list, inputs: list) -> tuple[list[jax.Array], list[jax.Array]]:
        """The carry's leaves and the outputs of so many arrays, the carry's leaves and the inputs."""
        count = len(self._of_batch.constvars)
        results = jaxpr_as_fun(ClosedJaxpr(self._of_batch, arrays[:count]))(*arrays[count:], *carry, *inputs)
        return results[: self._count], results[self._count :]

    def read(self, arrays: list[jax.Array]) -> tuple[Step, dict[int, jax.Array]]:
        """The graph, and the arrays that its products and vectors name by their number."""
        return self._graph(self._batch, self._jaxpr, arrays)

    def _graph(self, batch: int, jaxpr: Any, arrays: list[jax.Array]) -> tuple[Step, dict[int, jax.Array]]:
        tracer = Tracer(batch)
        graph, count = tracer.graph, len(jaxpr.constvars)
        states = [graph.leaf("state", width, i) for i, width in enumerate(self._widths[: self._count])]
        inputs = [graph.leaf("input", width, i or None) for i, width in enumerate(self._widths[self._count :])]
        nodes = states + inputs
        given = [Value(node, (batch, node.width), 0) for node in nodes]
        results = tracer.run(jaxpr, arrays[:count], [*arrays[count:], *given])
        avals = [var.aval for var in jaxpr.outvars]
        if wrong := [aval.dtype for aval in avals if aval.dtype != jnp.float32]:
            raise UnsupportedError(f"the step gives out {wrong[0]}")
        if len(avals) == len(states) or any(a.ndim != 2 or a.shape[0] != batch for a in avals):
            raise UnsupportedError("the step's outputs are not arrays [batch, units]")
        zero = graph.constant(0)
        out = [tracer.node(r, Value(zero, aval.shape, 0)) for r, aval in zip(results, avals, strict=True)]
        out = tracer.in_parts(out)
        if any(node.op == "concat" for node in ancestors(out)):
            raise UnsupportedError("rows are joined, and neither multiplied nor taken apart again")
        dout = [graph.leaf("cotangent", aval.shape[1], i) for i, aval in enumerate(avals)]
        found = cotangents(tracer, zip(out, dout, strict=True))
        gradients = {node: found.get(node, zero) for node in ancestors(out) if node.op in ("product", "vector")}
        lost = [node for node in found if node not in gradients and arrays_of(node)]
        if any(not is_constant(tracer.arrays[number]) for node in lost for number in arrays_of(node)):
            raise UnsupportedError("a function's own derivative is handed to parameters that it does not read")
        dstates, dinputs = ([found.get(node, zero) for node in given] for given in (states, inputs))
        rows = {
            "last": out[: self._count],
            "output": out[self._count :],
            "dstates": dstates,
            "dinput": dinputs,
            "gradients": gradients.values(),
        }
        behind = ancestors(node for row in rows.values() for node in row)
        if any(node.op == "concat" for node in behind):
            raise UnsupportedError("the gradients of rows are joined, and neither multiplied nor taken apart again")
        ahead = set(ancestors(out))
        multiplied = [node.inputs[0] for node in behind if node.op == "product" and node not in ahead]
        if any(node in ahead and node.op not in LEAVES for node in multiplied):
            raise UnsupportedError("a function's own derivative multiplies or moves a value of the step")
        lines = [*map(repr, nodes), *map(repr, behind), *map(repr, dout[self._count :])]
        lines += [f"{name}: {' '.join(f'%{node.index}' for node in row)}" for name, row in rows.items()]
        named = {number for node in behind for number in arrays_of(node)}
        constants = frozenset(number for number in named if is_constant(tracer.arrays[number]))
        lines += [f"constants: {' '.join(map(str, sorted(constants)))}"] if constants else []
        step = Step(
            "\n".join(dict.fromkeys(lines)),
            tuple(states),
            tuple(inputs),
            tuple(out[: self._count]),
            tuple(out[self._count :]),
            tuple(dout[: self._count]),
            tuple(dout[self._count :]),
            tuple(dstates),
            tuple(dinputs),
            gradients,
            constants,
            tracer.regions(sorted(named)),
        )
        return step, {number: tracer.arrays[number] for number in {*named, *(r.array for r in step.regions.values())}}


def read(step: StepFunction, params: Any, carry: Any, x: Any) -> tuple[Step, dict[int, jax.Array]]:
    """The graph of a step, and the arrays that it names by their number; see `Problem`."""
    problem = Problem(step, params, carry, x)
    return problem.read(problem.take_arrays())


def _is_same(one: Any, other: Any) -> bool:
    """Whether two traces of a step have the same array."""
    if isinstance(one, jax.core.Tracer) or isinstance(other, jax.core.Tracer):
        return jnp.shape(one) == jnp.shape(other)
    return np.array_equal(one, other, equal_nan=jnp.issubdtype(jnp.result_type(one), jnp.floating))
