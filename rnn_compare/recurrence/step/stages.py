"""In which order a graph is computed: rounds of products, and pointwise work between them.

A stage is a round of products followed by what is pointwise. A sum of products is one column, computed in one go. What
a later stage needs of an earlier one is stored there, unless it is cheap to compute again.

Where a slow function waits for another, as tanh(c) for the gates of an LSTM, it gets a stage without products: each
stage is a loop over rows, and a processor that waits looks for other rows' work hardly further than one row ahead.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rnn_compare.recurrence.step.graph import LEAVES, SAME, Node, ancestors, uses

CHEAP = (
    *("add", "sub", "mul", "neg", "abs", "max", "min", "lt", "le", "gt", "ge", "eq", "ne", "and", "or", "not"),
    *("select_n", *SAME),
)

SLOW = ("exp", "expm1", "logistic", "tanh", "erf", "log", "log1p", "pow", "sin", "cos")
STAY = ("dsum", "kept", "source")  # places that later stages can read, besides ("temp", node)
Level = tuple[int, int]  # rounds of products behind a value, and slow functions on the path since
Place = tuple[Any, ...]  # where a value is stored: ("last", 0), ("source", node), …


@dataclasses.dataclass(frozen=True)
class Sum:
    """A sum that contains products.

    Attributes:
        node: the whole sum.
        products: what the column holds the sum of, together with the vectors.
        vectors: the bias.
        rest: what is added to the column where it is read.
    """

    node: Node
    products: tuple[Node, ...]
    vectors: tuple[Node, ...] = ()
    rest: tuple[Node, ...] = ()

    @property
    def sources(self) -> tuple[Node, ...]:
        """The rows that are multiplied."""
        return tuple(dict.fromkeys(product.inputs[0] for product in self.products))


def sums(roots: Iterable[Node], given: Iterable[Node] = (), bias: bool = True) -> dict[Node, Sum]:
    """The sums behind the roots; a product or vector that is used elsewhere too is not a part of any.

    Args:
        roots: values.
        given: those that are there, which are not looked behind.
        bias: whether vectors are a part of a column.
    """
    roots, given = list(roots), set(given)
    used = uses(roots)
    found: dict[Node, Sum] = {}
    absorbed: set[Node] = set()

    def alone(part: Node, op: str, like: Node) -> bool:
        return part.op == op and used[part] == 1 and part.width == like.width and part not in given

    def terms(node: Node) -> tuple[list[Node], list[Node]]:
        """The leaves of a tree of additions, and the additions."""
        leaves: list[Node] = []
        inner = [node]
        for part in node.inputs:
            more, within = terms(part) if alone(part, "add", node) else ([part], [])
            leaves, inner = leaves + more, inner + within
        return leaves, inner

    for node in reversed(ancestors(roots, given)):
        if node.op == "product" and node not in absorbed and node not in given:
            found[node] = Sum(node, (node,))
        if node.op == "add" and node not in absorbed and node not in given:
            leaves, inner = terms(node)
            alike = {part.inputs[0]: part for part in reversed(leaves) if alone(part, "product", node)}
            products = list(alike.values())[::-1]  # of each row one: a column has one weight for it
            vectors = [part for part in leaves if bias and alone(part, "vector", node)]
            if products:
                rest = [part for part in leaves if part not in products and part not in vectors]
                found[node] = Sum(node, tuple(products), tuple(vectors), tuple(rest))
                absorbed |= {*inner, *products, *vectors}
    return found


@dataclasses.dataclass
class Stage:
    """A round.

    Attributes:
        columns: the sums whose columns are computed first.
        stores: what is then computed and stored: (place, node); at ("addend", *place) is what a column is
            added to.
        loads: what the pointwise work reads: leaves, columns, and what was stored.
    """

    columns: list[Sum] = dataclasses.field(default_factory=list)
    stores: list[tuple[Place, Node]] = dataclasses.field(default_factory=list)
    loads: set[Node] = dataclasses.field(default_factory=set)


class Schedule:
    """The stages that compute some roots.

    Args:
        roots: what is wanted where.
        found: the sums, see `sums`.
        columns: sums whose columns are wanted besides.
        computed: nodes of sums whose columns are there from the start.
        given: nodes whose values are there from the start, besides leaves.
        rows: leaves that products can read where they are.
        at_end: places that are only written in the last stage.
        in_place: places where a column can be added to what has been stored there.

    Attributes:
        stages: in their order.
        found: the sums.
        direct: the sums whose columns come to a place of the roots.
        evaluated: the nodes that pointwise work computes.
    """

    def __init__(
        self,
        roots: Mapping[Place, Node],
        found: Mapping[Node, Sum],
        columns: Iterable[Sum] = (),
        computed: Iterable[Node] = (),
        given: Iterable[Node] = (),
        rows: Iterable[Node] = (),
        at_end: Iterable[Place] = (),
        in_place: Iterable[Place] = (),
    ) -> None:
        self.found, self._computed, self._given = found, set(computed), set(given)
        self._levels: dict[Node, Level] = {}
        self._crossing: dict[Node, int] = {}
        self._reached: set[tuple[Node, int]] = set()
        self.evaluated: dict[Node, int] = {}
        columns = list(columns)
        behind = ancestors([*roots.values(), *(column.node for column in columns)], self._given)
        columns = [found[node] for node in behind if node in found and node not in self._computed | self._given]
        sources = {source: None for column in columns for source in column.sources}
        staying = {node for place, node in roots.items() if place[0] in STAY}
        self._sources = [node for node in sources if node not in staying | self._given | set(rows)]
        self._kept = {*self._sources, *staying}
        self.direct = {
            p: found[n] for p, n in roots.items() if p in in_place and self._is_direct(n, list(roots.values()))
        }

        wanted = [(place, node, self._level(node)) for place, node in roots.items() if place not in self.direct]
        wanted += [(("source", node), node, self._level(node)) for node in self._sources]
        for place, column in self.direct.items():
            wanted += [(("addend", *place), part, self._level(part)) for part in column.rest]
        early = self._waited_for(behind)
        levels = [level for _, _, level in wanted] + [self._column_level(column) for column in columns]
        levels += [self._level(node) for node in early]
        in_order = sorted({_stage(level) for level in levels} or {(0, 1)})
        numbers = {level: number for number, level in enumerate(in_order)}
        self.stages = [Stage() for _ in numbers]
        for column in columns:
            self.stages[numbers[_stage(self._column_level(column))]].columns.append(column)
        for place, node, level in wanted:
            self.stages[-1 if place in at_end else numbers[_stage(level)]].stores.append((place, node))
        for level, number in numbers.items():
            first = [node for node in early if _stage(self._level(node)) == level]
            for node in first + [node for _, node in self.stages[number].stores]:
                self._reach(node, number)
        for node, number in self._crossing.items():
            self.stages[number].stores.append((("temp", node), node))

    def _is_direct(self, node: Node, roots: list[Node]) -> bool:
        """Whether a column can come to its place at once, onto what is there of the rest of its sum."""
        column = self.found.get(node)
        if column is None or node in self._computed or roots.count(node) > 1 or len(column.rest) > 1:
            return False
        used = any(node in other.inputs for other in ancestors(roots, self._given))
        return not used and all(self._level(part) < self._column_level(column) for part in column.rest)

    def _waited_for(self, nodes: list[Node]) -> list[Node]:
        """Slow functions that others of the same round wait for."""
        slow = [node for node in nodes if node.op in SLOW and node not in self._given]
        behind = {
            part
            for node in slow
            for part in ancestors(node.inputs, self._given)
            if self._level(part)[0] == self._level(node)[0]
        }
        return [node for node in slow if node in behind]

    def _level(self, node: Node) -> Level:
        if node in self._given or node.op in LEAVES:
            return 0, 0
        if node not in self._levels:
            column = self.found.get(node)
            own = [self._column_level(column)] if column else []
            rounds, slow = max([*own, *map(self._level, column.rest if column else node.inputs)], default=(0, 0))
            self._levels[node] = rounds, slow + (node.op in SLOW)
        return self._levels[node]

    def _column_level(self, column: Sum) -> Level:
        return (0, 0) if column.node in self._computed else (1 + max(map(self._level, column.sources))[0], 0)

    def _reach(self, node: Node, stage: int) -> None:
        """Finds what a stage computes for a node: all that is not there yet, or is cheaper made again than kept."""
        if (node, stage) in self._reached:
            return
        self._reached.add((node, stage))
        loads, column = self.stages[stage].loads, self.found.get(node)
        if node in self._given or node.op in LEAVES:
            loads.add(node)
        elif column is not None:
            loads.add(node)
            for part in column.rest:
                self._reach(part, stage)
        elif self.evaluated.setdefault(node, stage) < stage and (node.op not in CHEAP or node in self._kept):
            loads.add(node)
            if node not in self._kept:
                self._crossing[node] = self.evaluated[node]
        else:
            for input_ in node.inputs:
                self._reach(input_, stage)


def _stage(level: Level) -> Level:
    """What values of one stage have in common: the first slow functions come right after the products."""
    return level[0], max(level[1], 1)
