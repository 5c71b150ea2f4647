"""The reverse mode of a step's graph, as more nodes of the same graph.

Products and sums are differentiated here. What a pointwise primitive, or a function with a derivative of its own, does
to a cotangent is asked of JAX: its `vjp` is traced, and read as the step was.
"""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence.step.graph import BOOLEAN, LEAVES, Node, UnsupportedError, is_constant
from rnn_compare.recurrence.step.trace import Tracer, Value, bind, dtype_of, shape_of


def cotangents(tracer: Tracer, seeds: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The cotangents of all nodes behind some outputs.

    Args:
        tracer: has read the step.
        seeds: the outputs and their cotangents.
    """
    reverse = _Reverse(tracer)
    for node, cotangent in seeds:
        reverse.add(node, cotangent, cotangent.width)
    for node in reversed(reverse.order(list(reverse.found))):
        if node in reverse.found:
            if node.op in ("product", *LEAVES):
                reverse.found[node] = tracer.widened(reverse.found[node], node.width)
            reverse.back(node, reverse.found[node])
    return reverse.found


def same_number(array: Any) -> float | None:
    """What all numbers of an array of constants are, if they are one."""
    same = isinstance(array, np.ndarray) and (array == array.flat[0]).all()
    return float(array.flat[0]) if same else None


class _Reverse:
    def __init__(self, tracer: Tracer) -> None:
        self._tracer, self._graph = tracer, tracer.graph
        self.found: dict[Node, Node] = {}

    def order(self, roots: list[Node]) -> list[Node]:
        """All nodes behind the roots, inputs first; behind a function with its own derivative lie its operands."""
        behind: dict[Node, None] = {}

        def visit(node: Node) -> None:
            if node not in behind:
                operands = self._tracer.rules[node][2] if node.op == "custom" else ()
                rows = tuple(operand.node for operand in operands if isinstance(operand, Value))
                for input_ in rows or node.inputs:
                    visit(input_)
                behind[node] = None

        for root in roots:
            visit(root)
        return list(behind)

    def add(self, node: Node, cotangent: Node, units: int) -> None:
        """Adds to a node's cotangent what so many units hand back: a number for each, or one that stands for all."""
        if is_constant(cotangent, 0) or node.op == "constant":
            return
        if node.width == 1 and cotangent.width > 1:
            cotangent = self._tracer.multiply(cotangent, np.ones((units, 1), np.float32))
        elif node.width == 1 and units > 1:
            cotangent = self._graph.pointwise("mul", self._graph.constant(units), cotangent)
        if node in self.found:
            cotangent = self._graph.pointwise("add", self.found[node], cotangent)
        self.found[node] = cotangent

    def back(self, node: Node, cotangent: Node) -> None:
        """Hands a node's cotangent on to what it is made of."""
        if node.op == "product":
            (row,), (array, transposed) = node.inputs, node.value
            same = same_number(self._tracer.arrays[array]) if node.width == 1 else None
            if same is None:
                self.add(row, self._graph.product(cotangent, array, not transposed, row.width), row.width)
            else:  # a sum over the units: what one number gets stands for every unit
                self.add(row, self._graph.pointwise("mul", self._graph.constant(same), cotangent), row.width)
        elif node.op == "custom":
            self._custom(node, cotangent)
        elif node.op == "concat":  # what only a function's own derivative reads
            start = 0
            for part in node.inputs:
                self.add(part, self._tracer.take(cotangent, start, start + part.width), part.width)
                start += part.width
        elif node.op == "add":
            for input_ in node.inputs:
                self.add(input_, cotangent, node.width)
        elif node.op == "tanh":  # as JAX's own rule, in half the operations
            rest = self._graph.pointwise("sub", self._graph.constant(1), self._graph.pointwise("mul", node, node))
            self.add(node.inputs[0], self._graph.pointwise("mul", cotangent, rest), node.width)
        elif node.inputs and node.op not in BOOLEAN:
            self._pointwise(node, cotangent)

    def _pointwise(self, node: Node, cotangent: Node) -> None:
        shape = self._tracer.batch, node.width
        arguments = [Value(input_, shape, 0) for input_ in node.inputs]
        real = [input_.op != "constant" and input_.op not in BOOLEAN for input_ in node.inputs]
        self._call(getattr(jax.lax, node.op), arguments, real, Value(cotangent, shape, 0))

    def _custom(self, node: Node, cotangent: Node) -> None:
        eqn, place, operands = self._tracer.rules[node]
        if any(isinstance(operand, jax.Array) for operand in operands):
            raise UnsupportedError("a function with a derivative of its own is given a parameter")

        def function(*operands: jax.Array) -> Any:
            return bind(eqn, list(operands))[place]

        real = [
            isinstance(o, Value) and jnp.issubdtype(dtype_of(v), jnp.floating)
            for o, v in zip(operands, eqn.invars, strict=True)
        ]
        shape = shape_of(eqn.outvars[place])
        self._call(function, operands, real, Value(cotangent, shape, shape.index(self._tracer.batch)))

    def _call(self, function: Callable, operands: list[Any], real: list[bool], cotangent: Value) -> None:
        """Adds what a function's vjp makes of a cotangent to the operands that are real."""
        rows = [i for i, operand in enumerate(operands) if isinstance(operand, Value)]

        def pull(cotangent: jax.Array, *given: jax.Array) -> Any:
            filled = list(operands)
            for i, array in zip(rows, given, strict=True):
                filled[i] = array

            def of_real(*chosen: jax.Array) -> Any:
                left = iter(chosen)
                return function(*(next(left) if is_real else o for o, is_real in zip(filled, real, strict=True)))

            return jax.vjp(of_real, *(o for o, is_real in zip(filled, real, strict=True) if is_real))[1](cotangent)

        def aval(operand: Value) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(operand.shape, jnp.bool_ if operand.node.op in BOOLEAN else jnp.float32)

        given = [cotangent, *(operands[i] for i in rows)]
        closed = jax.make_jaxpr(pull)(*map(aval, given))
        results = self._tracer.run(closed.jaxpr, closed.consts, given)
        chosen = [operand for operand, is_real in zip(operands, real, strict=True) if is_real]
        for operand, result in zip(chosen, results, strict=True):
            self.add(operand.node, self._tracer.node(result, operand), int(np.prod(operand.units)))
