"""What one time step computes, as a graph that knows no target.

Values are those of one row of the batch, each so many units wide:

    state i, input i      what the step is given
    vector i              an array of the parameters, one number per unit
    product i, T          a row times an array of the parameters [inputs, outputs], or its transpose
    constant              a number
    cotangent i           what the step before in the backward pass, or who used the output, hands back
    concat                rows side by side; only until they are multiplied or taken apart again
    anything else         a pointwise primitive of JAX, by its name

A value of width 1 stands for every unit of a wider one. Nodes are interned: what is written the same way is one node.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

BOOLEAN = ("lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not")  # nodes that are true or false: 1 or 0
LEAVES = ("state", "input", "vector", "constant", "cotangent")
SAME = ("custom", "stop_gradient")  # nodes that are their input, but for the derivative


class UnsupportedError(ValueError):
    """A step that no kernel can be made of; the message says what stands in the way."""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One value; see the module."""

    index: int
    op: str
    inputs: tuple["Node", ...]
    width: int
    value: Any = None

    def __repr__(self) -> str:
        parts = [f"%{node.index}" for node in self.inputs]
        if self.value is not None:
            parts.append(str(self.value))
        return f"%{self.index} [{self.width}] = {self.op} {' '.join(parts)}"


class Graph:
    """Makes nodes, each once, and in the simplest form."""

    def __init__(self) -> None:
        self._nodes: dict[Any, Node] = {}

    def leaf(self, op: str, width: int, value: Any = None) -> Node:
        """A state, an input, a vector or a cotangent."""
        return self._intern(op, (), width, value)

    def constant(self, value: float) -> Node:
        """A number."""
        return self._intern("constant", (), 1, float(value))

    def product(self, row: Node, array: int, transposed: bool, width: int) -> Node:
        """A row times an array of the parameters."""
        return self._intern("product", (row,), width, (array, transposed))

    def concat(self, parts: Iterable[Node]) -> Node:
        """Rows side by side."""
        parts = tuple(one for part in parts for one in (part.inputs if part.op == "concat" else (part,)))
        return parts[0] if len(parts) == 1 else self._intern("concat", parts, sum(p.width for p in parts))

    def pointwise(self, op: str, *inputs: Node, value: Any = None) -> Node:
        """A primitive of JAX applied to each unit."""
        return self._simple(op, inputs) or self._intern(op, inputs, max(node.width for node in inputs), value)

    def known(self, op: str, *inputs: Node) -> Node | None:
        """A primitive of JAX applied to each unit, if it is there already."""
        return self._nodes.get(self._key(op, inputs, max(node.width for node in inputs)))

    def _key(self, op: str, inputs: tuple[Node, ...], width: int, value: Any = None) -> Any:
        return op, tuple(node.index for node in inputs), width, repr(value)

    def _intern(self, op: str, inputs: tuple[Node, ...], width: int, value: Any = None) -> Node:
        key = self._key(op, inputs, width, value)
        if key not in self._nodes:
            self._nodes[key] = Node(len(self._nodes), op, inputs, width, value)
        return self._nodes[key]

    def _simple(self, op: str, inputs: tuple[Node, ...]) -> Node | None:
        """A simpler node for the same value, if a rule knows one."""
        rule = SIMPLER.get(op)
        return rule(self, *inputs) if rule else None


def is_constant(node: Node | None, value: float) -> bool:
    """Whether a node is this number."""
    return node is not None and node.op == "constant" and node.value == value


def _add(graph: Graph, a: Node, b: Node) -> Node | None:
    if is_constant(a, 0) or is_constant(b, 0):
        return _as_wide(b if is_constant(a, 0) else a, a, b)
    for x, y in ((a, b), (b, a)):  # z·p + (1 − z)·q = q + z·(p − q)
        if x.op == y.op == "mul":
            for z, p in (x.inputs, x.inputs[::-1]):
                for rest, q in (y.inputs, y.inputs[::-1]):
                    if rest.op == "sub" and is_constant(rest.inputs[0], 1) and rest.inputs[1] is z:
                        difference = graph.pointwise("sub", p, q)
                        return graph.pointwise("add", q, graph.pointwise("mul", z, difference))
    return None


def _sub(graph: Graph, a: Node, b: Node) -> Node | None:
    if is_constant(a, 0):
        return graph.pointwise("neg", b)
    return _as_wide(a, a, b) if is_constant(b, 0) else None


def _mul(graph: Graph, a: Node, b: Node) -> Node | None:
    for x, y in ((a, b), (b, a)):
        if is_constant(x, 1):
            return y
        if is_constant(x, -1):
            return graph.pointwise("neg", y)
    return None


def _neg(graph: Graph, a: Node) -> Node | None:
    if a.op == "constant":
        return graph.constant(-a.value)
    return a.inputs[0] if a.op == "neg" else None


def _gt(graph: Graph, a: Node, b: Node) -> Node | None:
    """What a relu's derivative asks of its argument, asked of its value: which may be a state that is kept."""
    larger = graph.known("max", a, b)
    return larger and graph.pointwise("gt", larger, b)


def _as_wide(node: Node, a: Node, b: Node) -> Node | None:
    return node if node.width == max(a.width, b.width) else None


SIMPLER: dict[str, Callable[..., Node | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "neg": _neg,
    "gt": _gt,
    "div": lambda graph, a, b: a if is_constant(b, 1) else None,
}


def ancestors(roots: Iterable[Node], given: Iterable[Node] = ()) -> list[Node]:
    """All that the roots depend on, themselves included, inputs first; what is given is not looked behind."""
    order: dict[Node, None] = {}
    given = set(given)
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if node in order:
            continue
        if ready or node in given:
            order[node] = None
        else:
            stack.append((node, True))
            stack.extend((input_, False) for input_ in reversed(node.inputs))
    return list(order)


def uses(roots: Iterable[Node]) -> dict[Node, int]:
    """How often each node behind the roots is used by another or as a root."""
    roots = list(roots)
    count = dict.fromkeys(ancestors(roots), 0)
    for used in roots + [input_ for node in count for input_ in node.inputs]:
        count[used] += 1
    return count


def arrays_of(node: Node) -> tuple[int, ...]:
    """The arrays of the parameters that a node names."""
    return (node.value[0],) if node.op == "product" else (node.value,) if node.op == "vector" else ()


@dataclasses.dataclass(frozen=True)
class Region:
    """Where an array of the parameters lies: in another that it is a part of, or in itself.

    Attributes:
        array: the number of the other.
        shape: the shape of that, [inputs, outputs] or [units].
        row: where in it the part begins; so does `column`.
    """

    array: int
    shape: tuple[int, ...]
    row: int = 0
    column: int = 0

    @property
    def stride(self) -> int:
        """Numbers from one row to the next."""
        return self.shape[-1]

    @property
    def first(self) -> int:
        """Numbers before the part."""
        return self.row * self.stride + self.column


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """A cell's step as a graph, forward and backward; equal to another if both are written the same way.

    Attributes:
        text: all of it, a line for each node and each result.
        states: the states that the step is given.
        inputs: the inputs, one at least.
        last: the states that it hands on.
        outputs: what it gives out at every step, one at least.
        dlast: the cotangent of each state that is handed on.
        doutputs: the cotangent of each output.
        dstates: the cotangent of each state that is given.
        dinputs: the cotangent of each input.
        gradients: the cotangent of each product and vector of the forward step.
        constants: the arrays that are no parameters, whose gradients nobody asks for.
        regions: where each array lies that a product or vector names, forward or backward.
    """

    text: str
    states: tuple[Node, ...]
    inputs: tuple[Node, ...]
    last: tuple[Node, ...]
    outputs: tuple[Node, ...]
    dlast: tuple[Node, ...]
    doutputs: tuple[Node, ...]
    dstates: tuple[Node, ...]
    dinputs: tuple[Node, ...]
    gradients: dict[Node, Node]
    constants: frozenset[int]
    regions: dict[int, Region]

    def output_of(self, state: int) -> int | None:
        """The output that is a state handed on, and as wide: one number can be the next of states of several widths."""
        for i, (node, cotangent) in enumerate(zip(self.outputs, self.doutputs, strict=True)):
            if node is self.last[state] and cotangent.width == self.states[state].width:
                return i
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and (self.text, self.regions) == (other.text, other.regions)

    def __hash__(self) -> int:
        return hash(self.text)
