"""From a step's graph to the source of its kernels: Python that Numba compiles.

A task owns a few sequences (rows of the batch) of one run and steps through time alone. Lanes of a vector are units.
Memory is laid out for that:

    rows[row, :]             what is multiplied: states, a 1 that brings in the biases, the input, then computed rows
    columns[row, c, unit]    sums of products, each padded to whole vectors; in the backward pass their cotangents later
    weights                  packed, see `packing.packed`
"""

import collections
import functools
import math
import re
from collections.abc import Iterable, Iterator

from rnn_compare.recurrence.cpu.kernel import Kernel, names_of
from rnn_compare.recurrence.cpu.layout import Array, Layout, Segment
from rnn_compare.recurrence.cpu.tiles import at_once
from rnn_compare.recurrence.cpu.vector import width_for
from rnn_compare.recurrence.step.graph import SAME, Node
from rnn_compare.recurrence.step.stages import Schedule, Stage, Sum

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
CALLED = {name: name + "_" for name in ("max", "min", "abs", "pow", "and", "or", "not")}


class Lines:
    """Indented lines of a source."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._depth = 0

    def __call__(self, *lines: str) -> None:
        """Adds lines."""
        self.lines += ["    " * self._depth + line for line in lines]

    def block(self, head: str) -> "Lines":
        """Adds a line that opens a block, for `with`."""
        self(head)
        return self

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1


class Pass:
    """What both passes share: names of memory, products, pointwise work."""

    def __init__(self, layout: Layout, operands: list[Array], results: list[Array]) -> None:
        self.of, self.step = layout, layout.step
        self.operands, self.results = operands, results
        self.out = Lines()
        self.head: dict[str, str] = {}
        self.scratch: list[tuple[str, str]] = []
        self.packed: list[tuple[str, str]] = []  # likewise, what a run's tasks share
        self.packing: list[tuple[str, ...]] = []  # how it is made, as `phases.start` is told
        self.sizes: list[tuple[str, str]] = []
        self.where: dict[Node, tuple[str, str, bool]] = {}  # (a row's address, offset, whether it is padded)
        self.places: dict[tuple, tuple[str, str, bool, int]] = {}  # likewise, and the width
        self.uses: dict[Node, int] = {}
        self.widest = 1  # of what is computed
        for vector in layout.vectors:
            self.where[vector] = packed_vector(vector), "", True

    def factory(self, text: str) -> str:
        """The name of a product that `text` makes."""
        return self.head.setdefault(text, f"p{len(self.head)}")

    # Layout.

    def size(self, name: str, text: str) -> None:
        """A number that is worked out before the kernel is called."""
        self.sizes.append((name, text))

    def layout(self) -> None:
        """The sizes that both passes have, once everything that is packed is known."""
        for width, name in self.of.names.items():
            self.size(name, str(width))
            self.size(f"u{name[1:]}", f"up({name}, WIDTH)")
        offset = "0"
        for i, row in enumerate(self.of.rows):
            self.size(f"r{i}", offset if i < self.of.adjacent else f"up({offset}, 16)")
            offset = f"r{i} + {self.of.dim(row.width)}"
        self.size("row_floats", f"up({offset} + GRADIENT_ROWS, 16)")
        self.sizes_of(self.packed, "packed_floats")
        weights = " + ".join(
            f"({self.of.count(s.sources)}) * {len(s.sums)} * {self.of.dim(s.width)}" for s in self.of.segments
        )
        self.size("most_rows", f"rows_of_task(batch, {weights or '0'})")
        self.size("chunks", "chunks_of(batch, most_rows)")

    def sizes_of(self, parts: list[tuple[str, str]], total: str) -> None:
        """Where parts of some memory begin, and how many floats all of them take."""
        offset = "0"
        for name, size in parts:
            self.size(f"at_{name}", offset)
            offset = f"at_{name} + up({size}, 16)"
        self.size(total, offset)

    def columns(self, name: str, columns: list[tuple[str, int]]) -> None:
        """Offsets of padded columns, and the floats of a row of them."""
        offset = "0"
        for column, width in columns:
            self.size(column, offset)
            offset = f"{column} + {self.of.units(width)}"
        self.size(f"{name}_floats", offset)
        self.widest = max([self.widest, *(width for _, width in columns)])

    def start(self, head: str) -> Lines:
        """A function that reads the numbers."""
        lines = self.out.block(head)
        self.out.lines += [f"    {name} = peek(numbers + {8 * i})" for i, name in enumerate(names_of(self.sizes))]
        return lines

    def carve(self, address: str, parts: list[tuple[str, str]]) -> None:
        """Addresses of parts of some memory, see `sizes_of`."""
        for name, _ in parts:
            self.out(f"{name} = {address} + at_{name}")

    def carve_packed(self) -> None:
        """The addresses of what is packed for a run."""
        self.out("shared = of_width(as_floats(workspace)) + run * workspace_floats")
        self.carve("shared", self.packed)

    def pack(self, what: str, array: int, packed: str, *numbers: object) -> None:
        """A line of the first phase's table; see `phases.start`."""
        region = self.step.regions[array]
        operand, size = next((i, a.size) for i, a in enumerate(self.operands) if a.name == f"w{region.array}")
        words = what, operand, size, region.first, f"at_{packed}", *numbers
        self.packing.append(tuple(map(str, words)))

    def pointers(self, arrays: list[Array], function: str) -> None:
        """The addresses of a run's arrays, and how those of all steps are written."""
        for i, array in enumerate(arrays):
            self.out(f"{array.name} = of_width({function}(frame, {words(i)})) + run * ({array.size})")
            if function == "result" and array.shape[0] == "steps":
                self.out(f"far_{array.name} = past_caches({array.name}, {array.shape[-1]}, {array.size})")

    def end(self) -> str:
        """How many steps a task computes."""
        if not self.of.ending:
            return "steps"
        self.out("end = min(steps, largest(until + first, count))")
        return "end"

    def zero_behind(self, name: str) -> None:
        """Zeros, in the results of such names, for the steps that are not computed."""
        if self.of.ending:
            for array in (array for array in self.results if array.name.startswith(name)):
                with self.out.block("for t in range(end, steps):"):
                    dim = array.shape[-1]
                    self.out(f"zero({array.name} + (t * batch + first) * {dim}, count * {dim})")

    def pack_weights(self, schedule: Schedule) -> None:
        """The weights of a schedule's columns, and vectors, as the kernel reads them."""
        of = self.of
        for segment, packed, together in self._packed(schedule):
            count, terms = of.count(segment.sources), len(segment.sums)
            self.packed.append((packed, packed_size(of, count, terms, segment.width)))
            for term, row, arrays in segment.pairs():
                rows = of.count(segment.sources[:row]), of.dim(segment.sources[row].width), count
                for i, array in enumerate(arrays):
                    self.pack_rows(packed, rows, (term, terms, together), segment.width, array, adds=i > 0)
        for vector in of.vectors:
            self.pack_vector(vector)

    def pack_rows(
        self,
        packed: str,
        rows: tuple[str, str, str],
        order: tuple[int, int, int],
        width: int,
        array: int,
        transposed: bool = False,
        adds: bool = False,
    ) -> None:
        """Rows of the packed weights of a product.

        Args:
            packed: the name of the weights.
            rows: the first, how many, and how many all of them are.
            order: the number of the term, of all terms, and of blocks at once; see `packing.packed`.
            width: that of the columns.
            array: the array of the parameters that has them.
            transposed: whether its transpose does.
            adds: whether they are added to those of the line before.
        """
        stride = self.step.regions[array].stride
        if width == 1:
            self.pack("PACK_DOT", array, packed, int(adds), *rows, 1 if transposed else stride, order[0])
        else:
            what = "PACK_TRANSPOSED" if transposed else "PACK"
            self.pack(what, array, packed, int(adds), *rows, stride, *order, self.of.dim(width))

    def pack_vector(self, vector: Node) -> None:
        """A vector as the kernel reads it."""
        self.packed.append((packed_vector(vector), self.of.units(vector.width)))
        self.pack("PACK_VECTOR", vector.value, packed_vector(vector), 0, self.of.dim(vector.width))

    def _packed(self, schedule: Schedule) -> Iterator[tuple[Segment, str, int]]:
        """The weights of a schedule's columns: what they are, their name once they are packed, and blocks at once."""
        for stage in schedule.stages:
            for columns in self.of.products_of(stage):
                together = at_once(self._terms_of(columns))
                for i, segment in self.of.parts(columns):
                    yield segment, self._packed_name(i, columns), together

    def _terms_of(self, product: tuple[Sum, ...]) -> tuple[tuple[tuple[int, int], ...], ...]:
        """What each segment adds to which column, see `tiles.product`."""
        segments = enumerate(segment for _, segment in self.of.parts(product))
        return tuple(tuple((product.index(column), i) for column in segment.sums) for i, segment in segments)

    def _packed_name(self, segment: int, columns: tuple[Sum, ...]) -> str:
        return f"packed_w{segment}_{self.of.index[columns[0].node]}"

    def copy(self, source: str, target: str, width: int, padded: bool) -> None:
        """A row; one number fills a whole vector where rows are padded."""
        if width == 1 and padded:
            self.out(f"store({target}, broadcast({source}))")
        else:
            self.out(f"copy({source}, {target}, {self.of.dim(width)})")

    # Products.

    def forward_product(self, product: tuple[Sum, ...], rows: str) -> None:
        """A round's columns of one product, for so many rows."""
        of, parts = self.of, list(self.of.parts(product))
        segments = [segment for _, segment in parts]
        outputs = tuple((i,) for i in range(len(product)))
        name = self.factory(f"{maker_of(product[0].node.width)}({self._terms_of(product)}, {outputs}, False)")
        sources = tuple_of(f"rows + r{of.rows.index(segment.sources[0])}" for segment in segments)
        strides = tuple_of(["row_floats"] * len(segments))
        counts = tuple_of(of.count(segment.sources) for segment in segments)
        weights = tuple_of(self._packed_name(i, product) for i, _ in parts)
        targets = tuple_of(f"columns + c{of.index[column.node]}" for column in product)
        blocks = f"{of.units(product[0].node.width)} // WIDTH"
        self.out(f"{name}({rows}, {sources}, {strides}, {counts}, {weights}, {blocks}, {targets}, column_floats)")

    # Pointwise work.

    def pointwise(self, stage: Stage) -> None:
        """What a stage computes for the row whose addresses are set."""
        by_width: dict[int, list] = {}
        for place, node in stage.stores:
            by_width.setdefault(self.places[place][3], []).append((place, node))
        self.widest = max(self.widest, *by_width)
        for width in sorted(by_width, key=lambda width: width == 1):  # single numbers last: wider ones read old ones
            stores, dim = by_width[width], self.of.dim(width)
            if width == 1:
                self.out("u, left = 0, 1")
                self._units(stage, stores)
            else:
                with self.out.block(f"for u in range(0, {dim}, WIDTH):"):
                    self.out(f"left = {dim} - u")
                    self._units(stage, stores)

    def _units(self, stage: Stage, stores: list) -> None:
        names: dict[Node, str] = {}
        values = [self._value(node, stage, names) for _, node in stores]
        for (place, _), value in zip(stores, values, strict=True):
            base, offset, padded, width = self.places[place]
            address = f"{base} + ({offset + ' + ' if offset else ''}u)"
            array = base.split()[0]
            if padded:
                self.out(f"store({address}, {value})")
            elif array.startswith(("ys", "dx")):
                self.out(f"write({address}, {value}, left, far_{array})")
            else:
                self.out(f"store_some({address}, {value}, left)")
            if place[0] == "last" and f"kept{place[1]}" in {array.name for array in self.results}:
                with self.out.block("if keep:"):
                    kept = f"kept{place[1]}"
                    self.out(f"write({kept} + (at * {self.of.dim(width)} + u), {value}, left, far_{kept})")

    def _value(self, node: Node, stage: Stage, names: dict[Node, str]) -> str:
        if node.op == "constant":
            return literal(node.value)
        if node not in names:
            column = self.sums_read(node)
            if node in stage.loads:
                text = self._load(node)
                for part in column.rest if column else ():
                    text = f"{text} + {self._value(part, stage, names)}"
            else:
                text = self._operation(node, stage, names)
            if text.isidentifier():
                return text
            names[node] = f"n{node.index}"
            self.out(f"n{node.index} = {text}")
        return names[node]

    def sums_read(self, node: Node) -> Sum | None:
        """The sum whose column a node is read from, if it is."""
        raise NotImplementedError

    def _load(self, node: Node) -> str:
        base, offset, padded = self.where[node]
        parts = [part for part in (offset, "u" if node.width > 1 else "") if part]
        address = f"{base} + ({' + '.join(parts)})" if parts else base
        if node.width == 1:
            return f"load({address})" if padded else f"broadcast({address})"
        return f"load({address})" if padded else f"load_some({address}, left)"

    def _operation(self, node: Node, stage: Stage, names: dict[Node, str]) -> str:
        value = functools.partial(self._value, stage=stage, names=names)
        if node.op in SAME:
            return value(node.inputs[0])
        if node.op == "neg":
            return f"-{value(node.inputs[0])}"
        if node.op in ("add", "sub"):
            for i, (part, other) in enumerate(zip(node.inputs, node.inputs[::-1], strict=True)):
                there = node not in self.uses and (part in names or part in stage.loads)
                if part.op == "mul" and not there and self.uses.get(part, 1) < 2:
                    a, b, c = value(part.inputs[0]), value(part.inputs[1]), value(other)
                    if node.op == "sub":
                        a, c = (a, f"-{c}") if i == 0 else (f"-{a}", c)
                    return f"fma({a}, {b}, {c})"
        inputs = [value(input_) for input_ in node.inputs]
        if node.op in INFIX:
            return f"{inputs[0]} {INFIX[node.op]} {inputs[1]}"
        return f"{CALLED.get(node.op, node.op)}({', '.join(inputs)})"

    def assemble(self, name: str, adding: Iterable[tuple[str, ...]] = ()) -> Kernel:
        """The kernel: the products that its source uses, then its function."""
        width = width_for(self.widest)
        made = [f"WIDTH, of_width = {width}, lanes({width})"]
        made += [f"{variable} = {text}" for text, variable in self.head.items()]
        text = re.sub(r"\[(\d+)\]", lambda found: f"[{self.of.dim(int(found[1]))}]", self.step.text)
        lines = [f'"""The {name} pass of', "", text, '"""', "", *made, "", *read_names(self.out.lines), ""]
        return Kernel("\n".join(lines), width, tuple(self.sizes), tuple(self.packing), tuple(adding))


def maker_of(width: int) -> str:
    """What makes a product of so wide columns, see `tiles`."""
    return "dots" if width == 1 else "product"


def packed_vector(vector: Node) -> str:
    """The name of a packed vector."""
    return f"packed_v{vector.value}"


def packed_size(layout: Layout, count: str, terms: int, width: int) -> str:
    """The floats of the packed weights of a product of so wide columns."""
    return f"up({count}, LANES) * {terms}" if width == 1 else f"({count}) * {terms} * {layout.units(width)}"


def read_names(lines: list[str]) -> list[str]:
    """A function's lines without the names that it gives and never reads, which take time to compile."""
    kept, words = [], collections.Counter(re.findall(r"\w+", "\n".join(lines)))
    for line in reversed(lines):
        given = re.match(r"    (\w+) = ", line)
        if given and words[given[1]] == 1:
            words.subtract(re.findall(r"\w+", line))
        else:
            kept.append(line)
    return kept[::-1]


def words(*values: object) -> str:
    """Numbers given to a helper, all of one type.

    To Numba each number in a source has a type of its own, and a helper is compiled for all types it is called with.
    """
    return ", ".join(f"word({value})" for value in values)


def tuple_of(parts: Iterable[str]) -> str:
    """A tuple in words."""
    return f"({', '.join(parts)},)"


def literal(value: float) -> str:
    """A number in words."""
    return repr(value) if math.isfinite(value) else f"np.{value}".replace("np.-", "-np.")
