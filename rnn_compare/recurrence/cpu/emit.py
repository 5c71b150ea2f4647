"""From a step's graph to the source of its kernels: Python that Numba compiles.

A task owns a few sequences (rows of the batch) of one run and steps through time alone. Lanes of a vector are units.
Memory is laid out for that:

    rows[row, :]             what is multiplied: states, a 1 that brings in the biases, the input, then computed rows
    columns[row, c, unit]    sums of products, each padded to whole vectors; in the backward pass their cotangents later
    weights[block, k, term, lane]

The backward pass goes through time in blocks of steps that fit in the cache. It recomputes the columns of all steps of
a block from the kept states, goes back through the steps, and then adds the whole block's share to the gradients of the
weights. Of size T it keeps the states; no [T, B, nH] array ever exists.
"""

import dataclasses
import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterable, Iterator

from rnn_compare.recurrence.cpu.support import CHUNK, chunks_of, steps_of_block, up
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.cpu.vector import GRADIENT_ROWS, TILE_ROWS, WIDTH
from rnn_compare.recurrence.graph import LEAVES, Node, Step, uses
from rnn_compare.recurrence.stages import CHEAP, Schedule, Stage, Sum, sums

MOST_COLUMNS = 4  # of a product: with the rows of a tile they have to stay in registers
ONE = Node(-1, "one", (), 1)

INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
CALLED = {name: name + "_" for name in ("max", "min", "abs", "pow", "and", "or", "not")}


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

    def product(self, source: Node, column: Sum) -> Node:
        """The product of one row in one column."""
        return next(product for product in column.products if product.inputs[0] is source)


@dataclasses.dataclass(frozen=True)
class Array:
    """An operand or a result of a kernel: its name in the source, and its shape, in words, without the runs."""

    name: str
    shape: tuple[str, ...]

    @property
    def size(self) -> str:
        """The number of its elements."""
        return " * ".join(self.shape)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel's source, and how to work out the numbers that it reads.

    Attributes:
        source: its functions `task` and perhaps `finish`.
        sizes: names and what each is, in terms of those before it.
        share: floats of the workspace that each task takes, in words.
        scratch: floats of scratch memory, in words.
        extras: products whose weights are operands besides those of the forward pass.
    """

    source: str
    sizes: tuple[tuple[str, str], ...]
    share: str
    scratch: str
    extras: tuple[Node, ...] = ()

    @functools.cached_property
    def name(self) -> str:
        """What tells the kernel from others."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:24]

    def plan(self, steps: int, batch: int, keep: bool = True) -> Plan:
        """How it works on so many steps and sequences.

        Args:
            steps: T.
            batch: B.
            keep: whether the forward pass keeps what the backward pass needs.
        """
        scope = {"steps": steps, "batch": batch, "keep": int(keep), **SIZES}
        for name, text in self.sizes:
            scope[name] = eval(text, scope)
        numbers = tuple(scope[name] for name, _ in self.sizes)
        return Plan(scope["chunks"], eval(self.share, scope), eval(self.scratch, scope), (steps, batch, *numbers))


SIZES = {
    "up": up.py_func,
    "chunks_of": chunks_of,
    "steps_of_block": steps_of_block,
    "WIDTH": WIDTH,
    "TILE_ROWS": TILE_ROWS,
    "GRADIENT_ROWS": GRADIENT_ROWS,
    "CHUNK": CHUNK,
}


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


class Source:
    """The sources of a step's kernels.

    Attributes:
        segments: the arrays of weights, in the order of the operands.
        vectors: the vectors among the operands, which are those that no sum has taken in.
        separate: the states that differ from the output, and are kept on their own.
        extras: products of the backward pass whose weights are no part of the segments.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        roots = [*step.last, step.output]
        self._sums = sums(roots)
        self._index = {node: i for i, node in enumerate(self._sums)}
        finals = {("last", i): node for i, node in enumerate(step.last)} | {("output",): step.output}
        used = uses(roots)
        taken = {vector for column in self._sums.values() for vector in column.vectors}
        self.vectors = [node for node in used if node.op == "vector" and node not in taken]
        sources = dict.fromkeys(source for column in self._sums.values() for source in column.sources)
        self._row_states = [state for state in step.states if state in sources]
        self._held_states = [state for state in step.states if state not in sources]
        adjacent = [*self._row_states, ONE, *([step.input] if step.input in sources else [])]
        self._rows = adjacent + [node for node in sources if node not in adjacent]
        self._adjacent = len(adjacent)
        self.separate = [i for i, node in enumerate(step.last) if node is not step.output]
        widths = [step.input.width, *(state.width for state in step.states), step.doutput.width]
        widths += [node.width for node in (*self._sums, *self.vectors, *sources)]
        self._names = {width: f"d{i}" for i, width in enumerate(dict.fromkeys(w for w in widths if w > 1))}
        readable = [*self._row_states, step.input]
        self.forward_schedule = Schedule(finals, self._sums, rows=readable, at_end=finals)
        self.products = [
            product for stage in self.forward_schedule.stages for product in grouped(stage.columns, self._with_one)
        ]
        self._segments = {product: self._segments_of(product) for product in self.products}
        self.segments = [segment for segments in self._segments.values() for segment in segments]
        self.extras: list[Node] = []
        self._readable = readable

    # Names and sizes.

    def dim(self, width: int) -> str:
        """A width in words."""
        return self._names.get(width, str(width))

    def units(self, width: int) -> str:
        """The floats that a padded row of such a width takes."""
        return f"u{self._names[width][1:]}" if width > 1 else "WIDTH"

    def count(self, sources: Iterable[Node]) -> str:
        """How many numbers neighbouring rows have."""
        return " + ".join(self.dim(source.width) for source in sources)

    def _with_one(self, column: Sum) -> tuple[Node, ...]:
        return (*column.sources, *((ONE,) if column.vectors else ()))

    def _segments_of(self, product: tuple[Sum, ...]) -> list[Segment]:
        segments: list[Segment] = []
        before = None
        for place, source in enumerate(self._rows):
            columns = tuple(column for column in product if source in self._with_one(column))
            if columns and before == (place - 1, columns) and place < self._adjacent:
                segments[-1] = Segment((*segments[-1].sources, source), columns)
            elif columns:
                segments.append(Segment((source,), columns))
            before = (place, columns)
        return segments

    def products_of(self, stage: Stage) -> list[tuple[Sum, ...]]:
        """The products that compute a stage's columns."""
        return [product for product in self.products if product[0] in stage.columns]

    # Operands.

    @functools.cached_property
    def operands(self) -> list[Array]:
        """Operands of the forward pass."""
        step = self.step
        arrays = [Array("x", ("steps", "batch", self.dim(step.input.width)))]
        arrays += [Array(f"carry{i}", ("batch", self.dim(s.width))) for i, s in enumerate(step.states)]
        arrays += [
            Array(f"w{i}", (f"({self.count(s.sources)})", str(len(s.sums)), self.dim(s.width)))
            for i, s in enumerate(self.segments)
        ]
        return arrays + [Array(f"v{i}", (self.dim(vector.width),)) for i, vector in enumerate(self.vectors)]

    @functools.cached_property
    def results(self) -> list[Array]:
        """Results of the forward pass."""
        states = list(enumerate(self.step.states))
        arrays = [Array("ys", ("steps", "batch", self.dim(self.step.doutput.width)))]
        arrays += [Array(f"last{i}", ("batch", self.dim(s.width))) for i, s in states]
        return arrays + [
            Array(f"kept{i}", ("steps", "batch", self.dim(self.step.states[i].width))) for i in self.separate
        ]

    @functools.cached_property
    def backward_operands(self) -> list[Array]:
        """Operands of the backward pass: those of the forward pass, its output, what it kept, and cotangents."""
        states = list(enumerate(self.step.states))
        (ys, *_), kept = self.results, [r for r in self.results if r.name.startswith("kept")]
        arrays = [*self.operands, Array("ys", ys.shape), *(Array(k.name, k.shape) for k in kept), Array("dys", ys.shape)]
        arrays += [Array(f"dlast{i}", ("batch", self.dim(s.width))) for i, s in states]
        return arrays + [
            Array(f"extra{i}", (self.dim(p.inputs[0].width), self.dim(p.width))) for i, p in enumerate(self.extras)
        ]

    @functools.cached_property
    def backward_results(self) -> list[Array]:
        """Results of the backward pass: the gradients of the operands of the forward pass, of x where it is wanted."""
        return [Array("d" + array.name, array.shape) for array in self.operands]

    # The two kernels.

    def forward(self) -> Kernel:
        """The kernel of the forward pass."""
        return _Forward(self).kernel()

    def backward(self, want_dx: bool) -> Kernel:
        """The kernel of the backward pass.

        Args:
            want_dx: whether it computes the gradient of the input.
        """
        return _Backward(self, want_dx).kernel()


def grouped(columns: Iterable[Sum], sources: Callable[[Sum], tuple[Node, ...]]) -> Iterator[tuple[Sum, ...]]:
    """Columns that are computed together: of one width, alike in what they multiply."""
    by_width: dict[int, list[Sum]] = {}
    for column in columns:
        by_width.setdefault(column.node.width, []).append(column)
    for alike in by_width.values():
        alike.sort(key=lambda column: (-len(sources(column)), [source.index for source in sources(column)]))
        for start in range(0, len(alike), MOST_COLUMNS):
            yield tuple(alike[start : start + MOST_COLUMNS])


class _Pass:
    """What both passes share: names of memory, products, pointwise work."""

    def __init__(self, source: Source, operands: list[Array], results: list[Array]) -> None:
        self.of, self.step = source, source.step
        self.operands, self.results = operands, results
        self.out = Lines()
        self.head: dict[str, str] = {}
        self.scratch: list[tuple[str, str]] = []
        self.sizes: list[tuple[str, str]] = []
        self.where: dict[Node, tuple[str, str, bool]] = {}  # (a row's address, offset, whether it is padded)
        self.places: dict[tuple, tuple[str, str, bool, int]] = {}  # likewise, and the width
        self.uses: dict[Node, int] = {}
        for i, vector in enumerate(source.vectors):
            self.where[vector] = f"packed_v{i}", "", True

    def factory(self, text: str) -> str:
        """The name of a product that `text` makes."""
        return self.head.setdefault(text, f"p{len(self.head)}")

    # Layout.

    def size(self, name: str, text: str) -> None:
        """A number that is worked out before the kernel is called."""
        self.sizes.append((name, text))

    def layout(self) -> None:
        """The sizes that both passes have."""
        self.size("chunks", "chunks_of(batch)")
        for width, name in self.of._names.items():
            self.size(name, str(width))
            self.size(f"u{name[1:]}", f"up({name}, WIDTH)")
        offset = "0"
        for i, row in enumerate(self.of._rows):
            self.size(f"r{i}", offset if i < self.of._adjacent else f"up({offset}, 16)")
            offset = f"r{i} + {self.of.dim(row.width)}"
        self.size("row_floats", f"up({offset} + GRADIENT_ROWS, 16)")

    def columns(self, name: str, columns: list[tuple[str, int]]) -> None:
        """Offsets of padded columns, and the floats of a row of them."""
        offset = "0"
        for column, width in columns:
            self.size(column, offset)
            offset = f"{column} + {self.of.units(width)}"
        self.size(f"{name}_floats", offset)

    def start(self, head: str) -> Lines:
        """A function that reads the numbers."""
        lines = self.out.block(head)
        names = ["steps", "batch", *(name for name, _ in self.sizes)]
        self.out.lines += [f"    {name} = peek(numbers + {8 * i})" for i, name in enumerate(names)]
        return lines

    def carve(self) -> None:
        """Addresses in the scratch memory."""
        address = "as_floats(scratch)"
        for name, size in self.scratch:
            self.out(f"{name} = {address}")
            address = f"{name} + up({size}, 16)"

    def scratch_floats(self) -> str:
        """How much of it there is."""
        return " + ".join(f"up({size}, 16)" for _, size in self.scratch)

    def pointers(self, arrays: list[Array], function: str) -> None:
        """The addresses of a run's arrays."""
        for i, array in enumerate(arrays):
            self.out(f"{array.name} = {function}(frame, {i}) + run * ({array.size})")

    def pack_weights(self) -> None:
        of = self.of
        for i, segment in enumerate(of.segments):
            rows, n, width = f"({of.count(segment.sources)})", len(segment.sums), of.dim(segment.width)
            for j in range(n):
                self.out(f"pack(w{i}, {rows}, {n}, {j}, {width}, packed_w{i}, {n}, {j})")
        for i, vector in enumerate(of.vectors):
            self.out(f"pack_vector(v{i}, {of.dim(vector.width)}, packed_v{i})")

    def weights_scratch(self) -> None:
        of = self.of
        for i, segment in enumerate(of.segments):
            size = f"({of.count(segment.sources)}) * {len(segment.sums)} * {of.units(segment.width)}"
            self.scratch.append((f"packed_w{i}", size))
        self.scratch += [(f"packed_v{i}", of.units(vector.width)) for i, vector in enumerate(of.vectors)]

    # Products.

    def forward_product(self, product: tuple[Sum, ...], row: str, columns: str) -> None:
        """A round's columns of one product, for the rows of a tile.

        Args:
            product: its sums.
            row: the number of the tile's first row among `rows`.
            columns: the address of the tile's first row of columns.
        """
        of, segments = self.of, self.of._segments[product]
        terms = tuple(
            tuple((product.index(column), number) for column in segment.sums) for number, segment in enumerate(segments)
        )
        name = self.factory(f"product({terms}, {tuple((i,) for i in range(len(product)))}, False)")
        first = of.segments.index(segments[0])
        sources = [f"rows + ({row} * row_floats + r{of._rows.index(s.sources[0])})" for s in segments]
        outputs = [f"{columns} + c{of._index[column.node]}" for column in product]
        self.out(
            f"{name}({tuple_of(sources)}, {tuple_of(['row_floats'] * len(segments))}, "
            f"{tuple_of(of.count(s.sources) for s in segments)}, "
            f"{tuple_of(f'packed_w{first + i}' for i in range(len(segments)))}, "
            f"{of.units(product[0].node.width)} // WIDTH, {tuple_of(outputs)}, column_floats)"
        )

    # Pointwise work.

    def pointwise(self, schedule: Schedule, stage: Stage) -> None:
        """What a stage computes for the row whose addresses are set."""
        by_width: dict[int, list] = {}
        for place, node in stage.stores:
            by_width.setdefault(self.places[place][3], []).append((place, node))
        for width, stores in by_width.items():
            dim = self.of.dim(width)
            if width == 1:
                self.out("u, left = 0, 1")
                self._units(schedule, stage, stores)
            else:
                with self.out.block(f"for u in range(0, {dim}, WIDTH):"):
                    self.out(f"left = {dim} - u")
                    self._units(schedule, stage, stores)

    def _units(self, schedule: Schedule, stage: Stage, stores: list) -> None:
        names: dict[Node, str] = {}
        values = [self._value(node, stage, names) for _, node in stores]
        values = [value if value.isidentifier() else f"every_lane({value})" for value in values]
        for (place, _), value in zip(stores, values, strict=True):
            base, offset, padded, width = self.places[place]
            address = f"{base} + ({offset + ' + ' if offset else ''}u)"
            self.out(f"store({address}, {value})" if padded else f"store_some({address}, {value}, left)")
            if place[0] == "last" and f"kept{place[1]}" in {array.name for array in self.results}:
                with self.out.block("if keep:"):
                    self.out(f"store_some(kept{place[1]} + (at * {self.of.dim(width)} + u), {value}, left)")

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
        if node.op in ("custom", "stop_gradient"):
            return value(node.inputs[0])
        if node.op == "neg":
            return f"-{value(node.inputs[0])}"
        if node.op in ("add", "sub"):
            for i, (part, other) in enumerate(zip(node.inputs, node.inputs[::-1], strict=True)):
                if part.op == "mul" and part not in names and part not in stage.loads and self.uses.get(part, 1) < 2:
                    a, b, c = value(part.inputs[0]), value(part.inputs[1]), value(other)
                    if node.op == "sub":
                        a, c = (a, f"-{c}") if i == 0 else (f"-{a}", c)
                    return f"fma({a}, {b}, {c})"
        inputs = [value(input_) for input_ in node.inputs]
        if node.op in INFIX:
            return f"{inputs[0]} {INFIX[node.op]} {inputs[1]}"
        return f"{CALLED.get(node.op, node.op)}({', '.join(inputs)})"

    def assemble(self, name: str) -> str:
        """The source: the products that it uses, then its functions."""
        made = [f"{variable} = {text}" for text, variable in self.head.items()]
        text = re.sub(r"\[(\d+)\]", lambda found: f"[{self.of.dim(int(found[1]))}]", self.step.text)
        return "\n".join([f'"""The {name} pass of', "", text, '"""', "", *made, "", *self.out.lines, ""])


class _Forward(_Pass):
    def __init__(self, source: Source) -> None:
        super().__init__(source, source.operands, source.results)
        self.schedule = source.forward_schedule
        self.uses = uses([*self.step.last, self.step.output])

    def sums_read(self, node: Node) -> Sum | None:
        return self.of._sums.get(node)

    def kernel(self) -> Kernel:
        of, step, out = self.of, self.step, self.out
        temps = [place for stage in self.schedule.stages for place, _ in stage.stores if place[0] == "temp"]
        columns = [(f"c{i}", node.width) for node, i in of._index.items()]
        columns += [(f"t{i}", place[1].width) for i, place in enumerate(temps)]
        held = [(f"h{i}", state.width) for i, state in enumerate(of._held_states)]
        for i, state in enumerate(of._held_states):
            self.where[state] = "held_row", f"h{i}", True
        for i, row in enumerate(of._rows):
            self.where[row] = "row_here", f"r{i}", False
            self.places["source", row] = "row_here", f"r{i}", False, row.width
        self.where.setdefault(step.input, (f"x + at * {of.dim(step.input.width)}", "", False))
        for node, i in of._index.items():
            self.where[node] = "columns_row", f"c{i}", True
        for i, place in enumerate(temps):
            self.where[place[1]] = "columns_row", f"t{i}", True
            self.places[place] = "columns_row", f"t{i}", True, place[1].width
        for i, state in enumerate(step.states):
            self.places["last", i] = (*self.where[state], state.width)
        self.places["output",] = (f"ys + at * {of.dim(step.doutput.width)}", "", False, step.doutput.width)
        self.weights_scratch()
        self.scratch += [("rows", "CHUNK * row_floats"), ("held", "CHUNK * held_floats"), ("columns", "TILE_ROWS * column_floats")]

        self.layout()
        self.columns("column", columns)
        self.columns("held", held)
        if of.separate:
            self.size("keep", "keep")
        with self.start("def task(frame, numbers, workspace, scratch, index):"):
            self.carve()
            out("run, first, count = chunk(index, batch, chunks)")
            self.pointers(self.operands, "arg")
            self.pointers(self.results, "result")
            self.pack_weights()
            out("fill_zeros(rows, CHUNK * row_floats)", "fill_zeros(held, CHUNK * held_floats)")
            with out.block("for row in range(count):"):
                out(f"rows[row * row_floats + r{of._rows.index(ONE)}] = 1.0")
                for i, state in enumerate(step.states):
                    out(f"copy(carry{i} + (first + row) * {of.dim(state.width)}, {self._home(state)}, {of.dim(state.width)})")
            with out.block("for t in range(steps):"), out.block("for tile in range(0, count, TILE_ROWS):"):
                out("end, start = min(tile + TILE_ROWS, count), t * batch + first")
                if step.input in of._rows:
                    width = of.dim(step.input.width)
                    with out.block("for row in range(tile, end):"):
                        out(f"copy(x + (start + row) * {width}, rows + (row * row_floats + r{of._rows.index(step.input)}), {width})")
                for stage in self.schedule.stages:
                    self._stage(stage)
            with out.block("for row in range(count):"):
                for i, state in enumerate(step.states):
                    out(f"copy({self._home(state)}, last{i} + (first + row) * {of.dim(state.width)}, {of.dim(state.width)})")
        return Kernel(self.assemble("forward"), tuple(self.sizes), "0", self.scratch_floats())

    def _home(self, state: Node) -> str:
        base, offset, _ = self.where[state]
        name, floats = ("rows", "row_floats") if base == "row_here" else ("held", "held_floats")
        return f"{name} + (row * {floats} + {offset})"

    def _stage(self, stage: Stage) -> None:
        out = self.out
        for product in self.of.products_of(stage):
            self.forward_product(product, "tile", "columns")
        if stage.stores:
            with out.block("for row in range(tile, end):"):
                out("at = start + row", "row_here = rows + row * row_floats")
                out("held_row = held + row * held_floats", "columns_row = columns + (row - tile) * column_floats")
                self.pointwise(self.schedule, stage)


class _Backward(_Pass):
    def __init__(self, source: Source, want_dx: bool) -> None:
        step = source.step
        self.want_dx = want_dx
        gradients = [step.gradients[column.products[0]] for column in source._sums.values()]
        roots = {("dsum", i): node for i, node in enumerate(gradients)}
        roots |= {("dvector", i): step.gradients[vector] for i, vector in enumerate(source.vectors)}
        roots |= {("dstate", i): node for i, node in enumerate(step.dstates)}
        if want_dx:
            roots["dinput",] = step.dinput
        forward = source._sums
        found = sums(roots.values(), given=forward) | forward
        recomputed = Schedule({}, forward, columns=forward.values(), rows=source._readable)
        given = {node for node in recomputed.evaluated if node not in CHEAP and node.op not in CHEAP}
        given |= {node for node in source._rows if node not in source._readable and node is not ONE}
        in_place = [place for place in roots if place[0] == "dstate"]
        self.schedule = Schedule(roots, found, computed=forward, given=given, in_place=in_place)
        loaded = {node for stage in self.schedule.stages for node in stage.loads}
        kept = [node for node in given if node in loaded and node not in source._rows]
        self.recompute = Schedule({("kept", n): n for n in kept}, forward, columns=forward.values(), rows=source._readable)
        self.kept = kept
        self.uses = uses(roots.values())
        back = [node for node in found if node not in forward]
        self._by_product = {
            (step.gradients[p], p.value[0]): (segment, p, column)
            for segment in source.segments
            for column in segment.sums
            for p in column.products
            if p.inputs[0] in segment.sources
        }
        products = [p for node in back for p in found[node].products]
        source.extras = [p for p in products if not (p.value[1] and (p.inputs[0], p.value[0]) in self._by_product)]
        source.__dict__.pop("backward_operands", None)
        results = source.backward_results if want_dx else source.backward_results[1:]
        super().__init__(source, source.backward_operands, results)

    def sums_read(self, node: Node) -> Sum | None:
        column = self.of._sums.get(node) or self.schedule._found.get(node)
        return None if column and column in self.schedule.direct.values() else column

    def kernel(self) -> Kernel:
        self._place()
        of, step, out = self.of, self.step, self.out
        partials = [(f"partial_w{i}", f"up({of.count(s.sources)}, GRADIENT_ROWS) * {len(s.sums)} * {of.units(s.width)}") for i, s in enumerate(of.segments)]
        partials += [(f"partial_v{i}", f"GRADIENT_ROWS * {of.units(v.width)}") for i, v in enumerate(of.vectors)]
        share = " + ".join(size for _, size in partials) or "0"

        self.layout()
        self.columns("column", self._block_columns)
        self.columns("temp", self._temp_columns)
        self.columns("dstate", [(f"s{i}", state.width) for i, state in enumerate(step.states)])
        width = " + ".join(of.dim(width) for _, width in self._block_columns) or "1"
        self.size("block_steps", f"steps_of_block({width})")
        self.size("share", share)

        def carve_partials() -> None:
            address = "as_floats(workspace) + index * share"
            for name, size in partials:
                out(f"{name} = {address}")
                address = f"{name} + {size}"

        with self.start("def task(frame, numbers, workspace, scratch, index):"):
            self.carve()
            carve_partials()
            out("run, first, count = chunk(index, batch, chunks)", "padded = up(count, TILE_ROWS)")
            self.pointers(self.operands, "arg")
            self.pointers(self.results, "result")
            self.pack_weights()
            self._pack_back()
            out("fill_zeros(rows, block_steps * CHUNK * row_floats)", "fill_zeros(columns, block_steps * CHUNK * column_floats)")
            out("fill_zeros(dstates, CHUNK * dstate_floats)", "fill_zeros(dstates_before, CHUNK * dstate_floats)")
            out("fill_zeros(temps, TILE_ROWS * temp_floats)", *(f"fill_zeros({name}, {size})" for name, size in partials))
            with out.block("for row in range(count):"):
                self._copy_dstates("dlast{i} + (first + row) * {dim}", "dstates + (row * dstate_floats + s{i})")
            with out.block("for block_start in range((steps - 1) // block_steps * block_steps, -1, -block_steps):"):
                out("block_count = min(block_steps, steps - block_start)")
                self._fill()
                columns = {node: ("columns_row", f"c{i}", True) for node, i in of._index.items()}
                later, self.where = self.where, self.where | columns  # cotangents come to the columns later
                with out.block("for s in range(block_count):"):
                    self._step_start()
                    with out.block("for tile in range(0, count, TILE_ROWS):"):
                        out("end = min(tile + TILE_ROWS, count)")
                        for stage in self.recompute.stages:
                            self._stage(self.recompute, stage)
                self.where = later
                with out.block("for s in range(block_count - 1, -1, -1):"):
                    self._step_start()
                    self._prefetch()
                    with out.block("for tile in range(0, count, TILE_ROWS):"):
                        out("end = min(tile + TILE_ROWS, count)")
                        for stage in self.schedule.stages:
                            self._stage(self.schedule, stage)
                    out("dstates, dstates_before = dstates_before, dstates")
                self._gradients()
            with out.block("for row in range(count):"):
                self._copy_dstates("dstates + (row * dstate_floats + s{i})", "dcarry{i} + (first + row) * {dim}")
        with self.start("def finish(frame, numbers, workspace, tasks):"):
            for i, array in enumerate(self.results):
                if array.name[1] in "wv":
                    out(f"zero(result(frame, {i}), tasks // chunks * ({array.size}))")
            with out.block("for index in range(tasks):"):
                out("run = index // chunks")
                carve_partials()
                self.pointers(self.results, "result")
                for i, s in enumerate(of.segments):
                    out(f"add_partial(partial_w{i}, ({of.count(s.sources)}), {len(s.sums)}, {of.dim(s.width)}, dw{i})")
                for i, v in enumerate(of.vectors):
                    out(f"add_partial(partial_v{i}, 1, 1, {of.dim(v.width)}, dv{i})")
        source = self.assemble("backward")
        return Kernel(source, tuple(self.sizes), "share", self.scratch_floats(), tuple(of.extras))

    def _place(self) -> None:
        of, step = self.of, self.step
        last_read = {node: i for i, stage in enumerate(self.schedule.stages) for node in stage.loads}
        written = {place: i for i, stage in enumerate(self.schedule.stages) for place, _ in stage.stores}
        self._block_columns = [(f"c{i}", node.width) for node, i in of._index.items()]
        self._dsum = {}
        for node, i in of._index.items():
            self.where[node] = "columns_row", f"c{i}", True
            self._dsum[i] = f"c{i}"
            if last_read.get(node, 0) > written["dsum", i] or node.width == 1:
                self._dsum[i] = f"e{i}"
                self._block_columns.append((f"e{i}", node.width))
            self.places["dsum", i] = "columns_row", self._dsum[i], True, node.width
        self._source_of = {}
        for i, node in enumerate(of._sums):
            gradient = step.gradients[of._sums[node].products[0]]
            if gradient.op != "constant" and gradient not in self._source_of:
                self._source_of[gradient] = "columns", "column_floats", self._dsum[i], node.width
                self.where.setdefault(gradient, ("columns_row", self._dsum[i], True))
        for i, vector in enumerate(of.vectors):
            self._block_columns.append((f"g{i}", vector.width))
            self.places["dvector", i] = "columns_row", f"g{i}", True, vector.width
        for i, node in enumerate(self.kept):
            self._block_columns.append((f"k{i}", node.width))
            self.where[node] = "columns_row", f"k{i}", True
            self.places["kept", node] = "columns_row", f"k{i}", True, node.width
        for i, row in enumerate(of._rows):
            self.where[row] = "row_here", f"r{i}", False
            self.places["source", row] = "row_here", f"r{i}", False, row.width
        self.where.setdefault(step.input, (f"x + at * {of.dim(step.input.width)}", "", False))
        for i, state in enumerate(step.states):
            self.where.setdefault(state, (f"before{i} + row * {of.dim(state.width)}", "", False))
            self.where[step.dlast[i]] = "dstates_row", f"s{i}", True
            self.places["dstate", i] = self.places["addend", "dstate", i] = "before_row", f"s{i}", True, state.width
        self.where[step.doutput] = f"dys + at * {of.dim(step.doutput.width)}", "", False
        self.places["dinput",] = f"dx + at * {of.dim(step.input.width)}", "", False, step.input.width
        self._temp_columns = []
        back = [column for stage in self.schedule.stages for column in stage.columns]
        self._targets = {column.node: ("dstates_before", "dstate_floats", f"s{place[1]}") for place, column in self.schedule.direct.items()}
        temps = [column.node for column in back if column.node not in self._targets]
        for schedule in (self.schedule, self.recompute):
            for stage in schedule.stages:
                for place, node in stage.stores:
                    if place[0] == "temp" or (place[0] == "source" and place not in self.places):
                        self.places[place] = "temps_row", f"t{len(temps)}", True, node.width
                        if place[0] == "source":
                            self._source_of[node] = "temps", "temp_floats", f"t{len(temps)}", node.width
                        temps.append(node)
        for i, node in enumerate(temps):
            self._temp_columns.append((f"t{i}", node.width))
            if node.op not in LEAVES:  # a leaf is copied here to be multiplied, and read where it was
                self.where[node] = "temps_row", f"t{i}", True
        for column in back:
            if column.node not in self._targets:
                self._targets[column.node] = "temps", "temp_floats", self.where[column.node][1]
        self._added = {column.node for column in self.schedule.direct.values() if column.rest}
        self._back = [(column, list(self._terms(column))) for column in back]
        self.weights_scratch()
        for i, (column, groups) in enumerate(self._back):
            for j, (width, terms) in enumerate(groups):
                size = f"{of.dim(width)} * {len(terms)} * {of.units(column.node.width)}"
                self.scratch.append((f"back{i}_{j}", size))
        self.scratch += [
            ("rows", "block_steps * CHUNK * row_floats"),
            ("columns", "block_steps * CHUNK * column_floats"),
            ("dstates", "CHUNK * dstate_floats"),
            ("dstates_before", "CHUNK * dstate_floats"),
            ("temps", "TILE_ROWS * temp_floats"),
        ]

    def _terms(self, column: Sum) -> Iterator[tuple[int, list[Node]]]:
        """The products of a sum, by the width of what is multiplied."""
        by_width: dict[int, list[Node]] = {}
        for product in column.products:
            by_width.setdefault(self._source_of[product.inputs[0]][3], []).append(product)
        yield from by_width.items()

    def _pack_back(self) -> None:
        of = self.of
        for i, (column, groups) in enumerate(self._back):
            target = of.dim(column.node.width)
            for j, (width, terms) in enumerate(groups):
                for n, product in enumerate(terms):
                    end = f"back{i}_{j}, {len(terms)}, {n})"
                    if product in of.extras:
                        self.out(f"pack(extra{of.extras.index(product)}, {of.dim(width)}, 1, 0, {target}, {end}")
                        continue
                    segment, forward, sum_ = self._by_product[product.inputs[0], product.value[0]]
                    before = segment.sources[: segment.sources.index(forward.inputs[0])]
                    offset = f"({of.count(before) or '0'}) * {len(segment.sums)} * {of.dim(width)}"
                    self.out(
                        f"pack_transposed(w{of.segments.index(segment)} + {offset}, {target}, {len(segment.sums)}, "
                        f"{segment.sums.index(sum_)}, {of.dim(width)}, {end}"
                    )

    def _copy_dstates(self, source: str, target: str) -> None:
        for i, state in enumerate(self.step.states):
            dim = self.of.dim(state.width)
            self.out(f"copy({source.format(i=i, dim=dim)}, {target.format(i=i, dim=dim)}, {dim})")

    def _history(self, i: int) -> str:
        return f"kept{i}" if i in self.of.separate else "ys"

    def _fill(self) -> None:
        """The rows of a block, from the kept states."""
        of, step, out = self.of, self.step, self.out
        with out.block("for s in range(block_count):"), out.block("for row in range(count):"):
            out("at = (block_start + s) * batch + first + row", "row_here = rows + (s * padded + row) * row_floats")
            for i, state in enumerate(step.states):
                if state in of._row_states:
                    dim, offset = of.dim(state.width), f"r{of._rows.index(state)}"
                    out(f"before = {self._history(i)} + (at - batch) * {dim} if block_start + s > 0 else carry{i} + (first + row) * {dim}")
                    out(f"copy(before, row_here + {offset}, {dim})")
            out(f"row_here[r{of._rows.index(ONE)}] = 1.0")
            if step.input in of._rows:
                dim = of.dim(step.input.width)
                out(f"copy(x + at * {dim}, row_here + r{of._rows.index(step.input)}, {dim})")

    def _step_start(self) -> None:
        self.out("start = (block_start + s) * batch + first")
        for i, state in enumerate(self.step.states):
            if state in self.of._held_states:
                dim = self.of.dim(state.width)
                self.out(f"before{i} = {self._history(i)} + (start - batch) * {dim} if block_start + s > 0 else carry{i} + first * {dim}")

    def _prefetch(self) -> None:
        for i, state in enumerate(self.step.states):
            dim = self.of.dim(state.width)
            self.out(f"prefetch_rows({self._history(i)} + (start - (block_steps + 1) * batch) * {dim}, count * {dim})")
        dim = self.of.dim(self.step.doutput.width)
        self.out(f"prefetch_rows(dys + (start - block_steps * batch) * {dim}, count * {dim})")

    def _stage(self, schedule: Schedule, stage: Stage) -> None:
        out, of = self.out, self.of
        if schedule is self.recompute:
            for product in of.products_of(stage):
                self.forward_product(product, "(s * padded + tile)", "columns + (s * padded + tile) * column_floats")
        else:
            for column in stage.columns:
                self._back_product(column)
        if stage.stores:
            with out.block("for row in range(tile, end):"):
                out("at = start + row", "row_here = rows + (s * padded + row) * row_floats")
                out("columns_row = columns + (s * padded + row) * column_floats", "temps_row = temps + (row - tile) * temp_floats")
                out("dstates_row = dstates + row * dstate_floats", "before_row = dstates_before + row * dstate_floats")
                self.pointwise(schedule, stage)

    def _back_product(self, column: Sum) -> None:
        of = self.of
        number = next(i for i, (other, _) in enumerate(self._back) if other is column)
        groups = self._back[number][1]
        sources, strides, segments, counts, total = [], [], [], [], 0
        for width, terms in groups:
            segment = []
            for product in terms:
                base, floats, offset, _ = self._source_of[product.inputs[0]]
                row = "(s * padded + tile)" if base == "columns" else "0"
                segment.append((total % MOST_COLUMNS, len(sources)))
                sources.append(f"{base} + ({row} * {floats} + {offset})")
                strides.append(floats)
                total += 1
            segments.append(tuple(segment))
            counts.append(of.dim(width))
        base, floats, offset = self._targets[column.node]
        row = "tile" if base == "dstates_before" else "0"
        outputs = (tuple(range(min(total, MOST_COLUMNS))),)
        name = self.factory(f"product({tuple(segments)}, {outputs}, {column.node in self._added})")
        self.out(
            f"{name}({tuple_of(sources)}, {tuple_of(strides)}, {tuple_of(counts)}, "
            f"{tuple_of(f'back{number}_{j}' for j in range(len(groups)))}, {of.units(column.node.width)} // WIDTH, "
            f"({base} + ({row} * {floats} + {offset}),), {floats})"
        )

    def _gradients(self) -> None:
        """A block's share of the gradients of the weights."""
        of = self.of
        for i, segment in enumerate(of.segments):
            columns = [f"columns + {self._dsum[of._index[column.node]]}" for column in segment.sums]
            self._outer(segment.sources, columns, segment.width, f"partial_w{i}")
        for i, vector in enumerate(of.vectors):
            self._outer((ONE,), [f"columns + g{i}"], vector.width, f"partial_v{i}")

    def _outer(self, sources: tuple[Node, ...], columns: list[str], width: int, target: str) -> None:
        name = self.factory(f"outer({len(columns)})")
        self.out(
            f"{name}(rows + r{self.of._rows.index(sources[0])}, row_floats, {self.of.count(sources)}, block_count * padded, "
            f"{tuple_of(columns)}, column_floats, {self.of.units(width)} // WIDTH, {target})"
        )


def tuple_of(parts: Iterable[str]) -> str:
    """A tuple in words."""
    return f"({', '.join(parts)},)"


def literal(value: float) -> str:
    """A number in words."""
    return repr(value) if math.isfinite(value) else f"np.{value}".replace("np.-", "-np.")
