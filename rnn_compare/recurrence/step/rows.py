"""Rows of a graph and the arrays that they are multiplied with: what needs no jaxpr."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence.step.graph import Graph, Node, Region, UnsupportedError, ancestors


class Rows:
    """Makes nodes of rows.

    Attributes:
        graph: the nodes.
        arrays: the parameters' arrays that the nodes name by their index.
    """

    def __init__(self) -> None:
        self.graph = Graph()
        self.arrays: list[Any] = []
        self._chained: dict[tuple[int, int], Any] = {}
        self._parts: dict[tuple[int, int, int, int], Any] = {}
        self._regions: dict[int, Region] = {}  # of parts
        self._taken: dict[tuple[Node, int, int], Node] = {}

    def vector(self, array: Any) -> Node:
        """An array of the parameters as a node."""
        return self.graph.leaf("vector", array.shape[0], self._number(array))

    def multiply(self, node: Node, matrix: Any) -> Node:
        """A row times a matrix [inputs, outputs]."""
        graph = self.graph
        if node.op == "concat":
            start, terms = 0, []
            for part in node.inputs:
                stop = start + part.width
                terms.append(self.multiply(part, self._part(self._number(matrix), start, stop, axis=0)))
                start = stop
            return functools.reduce(lambda a, b: graph.pointwise("add", a, b), terms)
        if node.op == "constant":
            return self.vector(np.full(matrix.shape[0], node.value, np.float32) @ matrix)
        if node.width == 1 and matrix.shape[0] > 1:
            matrix = matrix.sum(axis=0, keepdims=True)
        if node.op == "vector":
            return self.vector(self._chain(node.value, matrix))
        if self._is_chained(node, matrix):
            return self.multiply(node.inputs[0], self._chain(node.value[0], matrix))
        if matrix.dtype != jnp.float32:
            raise UnsupportedError(f"a product's weights are {matrix.dtype}")
        return graph.product(node, self._number(matrix), False, matrix.shape[1])

    def take(self, node: Node, start: int, stop: int) -> Node:
        """Some neighbouring units of a row."""
        if (start, stop) == (0, node.width) or node.width == 1:
            return node
        key = node, start, stop
        if key not in self._taken:
            self._taken[key] = self._take(node, start, stop)
        return self._taken[key]

    def _take(self, node: Node, start: int, stop: int) -> Node:
        if is_plain_product(node):
            return self.multiply(node.inputs[0], self._part(node.value[0], start, stop))
        if node.op == "vector":
            return self.vector(self._part(node.value, start, stop))
        if node.op == "concat":
            parts, at = [], 0
            for part in node.inputs:
                low, high = max(start - at, 0), min(stop - at, part.width)
                if low < high:
                    parts.append(self.take(part, low, high))
                at += part.width
            return self.graph.concat(parts)
        if is_whole(node):
            return self.multiply(node, np.eye(node.width, dtype=np.float32)[:, start:stop])
        inputs = [self.take(input_, start, stop) for input_ in node.inputs]
        return self.graph.pointwise(node.op, *inputs, value=node.value)

    def widened(self, node: Node, width: int) -> Node:
        """A row of so many units, of one that is as wide or a single number."""
        if node.width == width:
            return node
        if node.op == "constant":
            return self.vector(np.full(width, node.value, np.float32))
        return self.multiply(node, np.ones((1, width), np.float32))

    def by_part(self, nodes: list[Node], function: Callable[..., Node]) -> Node:
        """A pointwise function of nodes: of rows that are joined, each part by itself."""
        joined = next((node for node in nodes if node.op == "concat"), None)
        if joined is None:
            return function(*nodes)
        ends = itertools.accumulate(part.width for part in joined.inputs)
        bounds = [(end - part.width, end) for part, end in zip(joined.inputs, ends, strict=True)]
        parts = (self.by_part([self.take(node, *part) for node in nodes], function) for part in bounds)
        return self.graph.concat(self.widened(n, stop - start) for n, (start, stop) in zip(parts, bounds, strict=True))

    def in_parts(self, roots: list[Node]) -> list[Node]:
        """The same results, of products that are made of those of their parts that are there anyway.

        A layer normalisation reads all gates together, and the cell each by itself.
        """
        cuts: dict[int, set[int]] = {}
        for array, axis, *bounds in self._parts:
            if axis == -1:
                cuts.setdefault(array, set()).update(bounds)
        new: dict[Node, Node] = {}
        for node in ancestors(roots):
            inputs = [new[input_] for input_ in node.inputs]
            if is_plain_product(node) and node.value[0] in cuts:
                bounds = sorted(cuts[node.value[0]] | {0, node.width})
                new[node] = self.graph.concat(self.take(node, *part) for part in itertools.pairwise(bounds))
            elif inputs == list(node.inputs):
                new[node] = node
            elif node.op == "product":
                new[node] = self.multiply(inputs[0], self.arrays[node.value[0]])
            elif node.op == "custom" or (
                any(input_.op == "concat" for input_ in inputs)
                and any(is_whole(input_) and input_.width > 1 for input_ in inputs)
            ):
                return roots  # it would have to be taken apart itself
            else:
                apply = functools.partial(self.graph.pointwise, node.op, value=node.value)
                new[node] = self.by_part(inputs, apply)
        return roots if any(new[root].op == "concat" for root in roots) else [new[root] for root in roots]

    def _is_chained(self, node: Node, matrix: Any) -> bool:
        """Whether a node is better multiplied as what it is a product of, as one of both only moves units."""
        if not is_plain_product(node) or min(node.inputs[0].width, matrix.shape[1]) > node.width:
            return False
        return moves_units(self.arrays[node.value[0]]) or moves_units(matrix)

    def _chain(self, array: int, matrix: Any) -> Any:
        """An array of the parameters times a matrix: the same ones are the same array."""
        key, first = (array, self._number(matrix)), self.arrays[array]
        if key not in self._chained:
            self._chained[key] = times(first, matrix)
        return self._chained[key]

    def _part(self, array: int, start: int, stop: int, axis: int = -1) -> Any:
        """Columns or rows of an array of the parameters: the same ones are the same array."""
        key = array, axis, start, stop
        if key not in self._parts:
            whole = self.arrays[array]
            part = self._parts[key] = whole[start:stop] if axis == 0 else whole[..., start:stop]
            if not is_constant(part):
                region = self._regions.get(array) or Region(array, whole.shape)
                row, column = (start, 0) if axis == 0 else (0, start)
                region = dataclasses.replace(region, row=region.row + row, column=region.column + column)
                self._regions[self._number(part)] = region
        return self._parts[key]

    def regions(self, numbers: Iterable[int]) -> dict[int, Region]:
        """Where arrays lie: as parts in one that they are all of together, and others each in itself."""
        found = {number: Region(number, self.arrays[number].shape) for number in numbers}
        by_whole: dict[int, list[int]] = {}
        for number in found:
            if number in self._regions:
                by_whole.setdefault(self._regions[number].array, []).append(number)
        for whole, parts in by_whole.items():
            covered = np.zeros(as_matrix(self.arrays[whole]), np.int8)
            for number in parts:
                region, (rows, columns) = self._regions[number], as_matrix(self.arrays[number])
                covered[region.row : region.row + rows, region.column : region.column + columns] += 1
            if whole not in found and (covered == 1).all():
                found |= {number: self._regions[number] for number in parts}
        return found

    def _number(self, array: Any) -> int:
        """The index of an array, and of constants that are the same numbers."""
        for number, other in enumerate(self.arrays):
            if other is array or (is_constant(other) and is_constant(array) and np.array_equal(other, array)):
                return number
        self.arrays.append(array)
        return len(self.arrays) - 1


def is_constant(array: Any) -> bool:
    """Whether no parameter has a part in an array."""
    return isinstance(array, np.ndarray)


def as_matrix(array: Any) -> tuple[int, int]:
    """The shape of an array [inputs, outputs], or of [units] as one row."""
    return (1, *array.shape)[-2:]


def is_plain_product(node: Node) -> bool:
    """Whether a node is a row times an array, and not its transpose."""
    return node.op == "product" and not node.value[1]


def is_whole(node: Node) -> bool:
    """Whether a row's units can only be told apart by a product, other than those of a plain product or a vector."""
    return node.op in ("state", "input", "cotangent", "custom") or (node.op == "product" and node.value[1])


def moves_units(array: Any) -> bool:
    """Whether a row times an array has the row's units in other places, and no sums: it is made of constants."""
    return is_constant(array) and bool((np.count_nonzero(array, axis=0) <= 1).all())


def times(a: Any, b: Any) -> Any:
    """The product of two arrays; what only moves numbers is no multiplication, which of large ones would take long."""
    if moves_units(b):
        place = np.argmax(b != 0, axis=0)
        factor = b[place, np.arange(b.shape[1])]
        return a[..., place] if (factor == 1).all() else a[..., place] * factor
    if np.ndim(a) == 2 and is_constant(a) and moves_units(a.T):
        place = np.argmax(a != 0, axis=1)
        factor = a[np.arange(a.shape[0]), place][:, None]
        return b[place] if (factor == 1).all() else b[place] * factor
    return a @ b if is_constant(a) and is_constant(b) else jnp.matmul(a, b, precision="highest")
