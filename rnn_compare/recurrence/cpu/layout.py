"""What a step's kernels work on: rows, products of several columns, and the arrays that are operands and results."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rnn_compare.recurrence.step.graph import Node, Step, UnsupportedError, ancestors, arrays_of
from rnn_compare.recurrence.step.stages import Place, Schedule, Stage, Sum, sums

MOST_COLUMNS = 4  # of a product: with the rows of a tile they have to stay in registers
ONE = Node(-1, "one", (), 1)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Segment:
    """Neighbouring rows that are multiplied with the same columns of a product.

    Attributes:
        sources: the rows.
        sums: the columns.
    """

    sources: tuple[Node, ...]
    sums: tuple[Sum, ...]

    @property
    def width(self) -> int:
        """The columns' width."""
        return self.sums[0].node.width

    def arrays(self, source: Node, column: Sum) -> list[int]:
        """What one row is multiplied with in one column: the array of a product, or those whose sum is the bias."""
        if source is ONE:
            return [vector.value for vector in column.vectors]
        return [product.value[0] for product in column.products if product.inputs[0] is source]

    def pairs(self) -> Iterator[tuple[int, int, list[int]]]:
        """For each column and row their numbers and their arrays."""
        for i, column in enumerate(self.sums):
            for j, source in enumerate(self.sources):
                yield i, j, self.arrays(source, column)


@dataclasses.dataclass(frozen=True)
class Array:
    """An operand or a result of a kernel: its name in the source, and its shape, in words, without the runs."""

    name: str
    shape: tuple[str, ...]

    @property
    def size(self) -> str:
        """The number of its elements."""
        return " * ".join(self.shape)


class Layout:
    """What the kernels of a step work on.

    Attributes:
        step: the step.
        ending: whether sequences end early: the operand `until` says when, and no step behind that is computed.
        sums: its columns.
        index: the number of each.
        rows: what is multiplied, in the order in which it lies in memory; the first `adjacent` without gaps.
        readable: rows that are there without being computed.
        schedule: the stages of the forward pass.
        products: columns that are computed together.
        segments: what they are made of.
        vectors: the vectors that no sum has taken in.
        arrays: the parameters' arrays among the operands.
        extras: those that only the backward pass reads.
        constant: the states that never change, of which the initial ones are all there is to keep.
        separate: the states that are none of the outputs, and are kept on their own.
        names: the name of each width.
        learnt: the segments whose weights are not constants alone and get a gradient, with their numbers.
        learnt_vectors: the vectors likewise, (number, vector), in groups of one width.
    """

    def __init__(self, step: Step, ending: bool = False) -> None:
        self.step, self.ending = step, ending
        roots = [*step.last, *step.outputs]
        self.sums = sums(roots)
        for column in self.sums.values():
            parts = (*column.products, *column.vectors)
            if len({step.gradients[part] for part in parts}) > 1:
                raise UnsupportedError("a function's own derivative is handed to a part of a sum")
        self.index = {node: i for i, node in enumerate(self.sums)}
        taken = {vector for column in self.sums.values() for vector in column.vectors}
        self.vectors = [node for node in ancestors(roots) if node.op == "vector" and node not in taken]
        sources = dict.fromkeys(source for column in self.sums.values() for source in column.sources)
        states, inputs = ([node for node in given if node in sources] for given in (step.states, step.inputs))
        self.readable = states + inputs
        adjacent = [*states, ONE, *inputs]
        self.rows = adjacent + [node for node in sources if node not in adjacent]
        self.adjacent = len(adjacent)
        self.constant = [i for i, node in enumerate(step.last) if node is step.states[i]]
        others = (i for i in range(len(step.last)) if i not in self.constant)
        self.separate = [i for i in others if step.output_of(i) is None]
        widths = [*(node.width for node in (*step.inputs, *step.states, *step.doutputs))]
        widths += [node.width for node in (*self.sums, *self.vectors, *sources)]
        widths += [node.width for node in ancestors([*step.dstates, *step.dinputs, *step.gradients.values()])]
        self.names = {width: f"d{i}" for i, width in enumerate(dict.fromkeys(w for w in widths if w > 1))}
        finals: dict[Place, Node] = {("last", i): node for i, node in enumerate(step.last)}
        finals |= {("output", i): node for i, node in enumerate(step.outputs)}
        self.schedule = Schedule(finals, self.sums, rows=self.readable, at_end=finals)
        self.products = [product for stage in self.schedule.stages for product in grouped(stage.columns)]
        self.segments = [segment for product in self.products for segment in self._segments_of(product)]
        named = [{array for *_, arrays in segment.pairs() for array in arrays} for segment in self.segments]
        self.learnt = [(i, s) for i, s in enumerate(self.segments) if not named[i] <= step.constants]
        vectors = [(i, vector) for i, vector in enumerate(self.vectors) if vector.value not in step.constants]
        self.learnt_vectors = list(alike(vectors, lambda vector: vector[1].width))
        self.arrays = self._arrays(roots)
        behind = self._arrays([*step.dstates, *step.dinputs, *step.gradients.values()])
        self.extras = [array for array in behind if array not in self.arrays]

    def _arrays(self, roots: Iterable[Node]) -> list[int]:
        named = (number for node in ancestors(roots) for number in arrays_of(node))
        return list(dict.fromkeys(self.step.regions[number].array for number in named))

    # Names and sizes.

    def dim(self, width: int) -> str:
        """A width in words."""
        return self.names.get(width, str(width))

    def units(self, width: int) -> str:
        """The floats that a padded row of such a width takes."""
        return f"u{self.names[width][1:]}" if width > 1 else "WIDTH"

    def count(self, sources: Iterable[Node]) -> str:
        """How many numbers neighbouring rows have."""
        return " + ".join(self.dim(source.width) for source in sources) or "0"

    def _segments_of(self, product: tuple[Sum, ...]) -> list[Segment]:
        segments: list[Segment] = []
        before = None
        for place, source in enumerate(self.rows):
            columns = tuple(column for column in product if source in multiplied(column))
            if columns and before == (place - 1, columns) and place < self.adjacent:
                segments[-1] = Segment((*segments[-1].sources, source), columns)
            elif columns:
                segments.append(Segment((source,), columns))
            before = (place, columns)
        return segments

    def products_of(self, stage: Stage) -> Iterator[tuple[Sum, ...]]:
        """A stage's columns, as they are computed together."""
        for product in self.products:
            columns = tuple(column for column in product if column in stage.columns)
            if columns:
                yield columns

    def parts(self, columns: tuple[Sum, ...]) -> Iterator[tuple[int, Segment]]:
        """What makes some columns of a product: the numbers of its segments, and which of their columns are wanted."""
        for i, segment in enumerate(self.segments):
            chosen = tuple(column for column in segment.sums if column in columns)
            if chosen:
                yield i, Segment(segment.sources, chosen)

    def history(self, state: int) -> str:
        """The array that has a state as each step hands it on."""
        return f"kept{state}" if state in self.separate else f"ys{self.step.output_of(state) or ''}"

    # Operands.

    @functools.cached_property
    def operands(self) -> list[Array]:
        """Operands of the forward pass."""
        step = self.step
        arrays = [Array(f"x{i or ''}", ("steps", "batch", self.dim(s.width))) for i, s in enumerate(step.inputs)]
        arrays += [Array("until", ("batch",))] if self.ending else []
        arrays += [Array(f"carry{i}", ("batch", self.dim(s.width))) for i, s in enumerate(step.states)]
        return arrays + self._weights(self.arrays)

    def _weights(self, arrays: list[int]) -> list[Array]:
        shapes = {region.array: region.shape for region in self.step.regions.values()}
        return [Array(f"w{array}", tuple(map(str, shapes[array]))) for array in arrays]

    @functools.cached_property
    def results(self) -> list[Array]:
        """Results of the forward pass."""
        states = list(enumerate(self.step.states))
        arrays = [
            Array(f"ys{i or ''}", ("steps", "batch", self.dim(d.width))) for i, d in enumerate(self.step.doutputs)
        ]
        arrays += [Array(f"last{i}", ("batch", self.dim(s.width))) for i, s in states]
        return arrays + [
            Array(f"kept{i}", ("steps", "batch", self.dim(self.step.states[i].width))) for i in self.separate
        ]

    @functools.cached_property
    def backward_operands(self) -> list[Array]:
        """Operands of the backward pass: those of the forward pass, its output, what it kept, cotangents, extras."""
        count = len(self.step.outputs)
        ys, others = self.results[:count], self.results[count:]
        last, kept = others[: len(self.step.states)], others[len(self.step.states) :]
        arrays = [*self.operands, *ys, *kept, *(Array(f"d{array.name}", array.shape) for array in ys + last)]
        return arrays + self._weights(self.extras)

    @functools.cached_property
    def backward_results(self) -> list[Array]:
        """Results of the backward pass: the gradients of the operands of the forward pass, of inputs where wanted."""
        return [Array("d" + array.name, array.shape) for array in self.operands if array.name != "until"]


def multiplied(column: Sum) -> tuple[Node, ...]:
    """The rows that make a column: the bias is a 1 times the vectors."""
    return (*column.sources, *((ONE,) if column.vectors else ()))


def grouped(columns: Iterable[Sum]) -> Iterator[tuple[Sum, ...]]:
    """Columns that are computed together: of one width, alike in what they multiply."""
    columns = sorted(columns, key=lambda c: (-len(multiplied(c)), [source.index for source in multiplied(c)]))
    return alike(columns, lambda column: column.node.width)


def alike(things: Iterable[T], width: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """Things of one width, as many as are computed together."""
    by_width: dict[int, list[T]] = {}
    for thing in things:
        by_width.setdefault(width(thing), []).append(thing)
    for same in by_width.values():
        for start in range(0, len(same), MOST_COLUMNS):
            yield tuple(same[start : start + MOST_COLUMNS])
