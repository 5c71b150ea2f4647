"""The backward pass of a step as a kernel; see `source`.

It goes through time in blocks of steps that fit in the cache. It recomputes the columns of all steps of a block from
the kept states where it needs them, goes back through the steps, and then adds the whole block's share to the gradients
of the weights. Of size T it keeps the states; no [T, B, nH] array ever exists.
"""

import itertools
from collections.abc import Iterable, Iterator

from rnn_compare.recurrence.cpu.kernel import Kernel
from rnn_compare.recurrence.cpu.layout import MOST_COLUMNS, ONE, Layout
from rnn_compare.recurrence.cpu.source import Pass, maker_of, packed_size, packed_vector, tuple_of, words
from rnn_compare.recurrence.cpu.tiles import at_once
from rnn_compare.recurrence.step.graph import LEAVES, SAME, Node, ancestors, uses
from rnn_compare.recurrence.step.stages import CHEAP, Schedule, Stage, Sum, sums


def backward(layout: Layout, wanted: tuple[bool, ...]) -> Kernel:
    """The kernel of the backward pass.

    Args:
        layout: what it works on.
        wanted: of which inputs it computes the gradient.
    """
    return _Backward(layout, wanted).kernel()


def read_again(layout: Layout, roots: Iterable[Node]) -> dict[Node, str]:
    """What a step gave out or handed on that is read where the forward pass kept it, and the array that has it.

    That is what spares a product or a slow function: of a state that is tanh(…), its own derivative asks for no more.
    """
    step, roots = layout.step, list(roots)
    arrays = [(node, layout.history(i), step.states[i].width) for i, node in enumerate(step.last)]
    arrays += [(n, f"ys{i or ''}", d.width) for i, (n, d) in enumerate(zip(step.outputs, step.doutputs, strict=True))]
    known: dict[Node, str] = {}
    for node, array, width in arrays:
        while node.width == width and node.op not in LEAVES:
            known.setdefault(node, array)
            if node.op not in SAME:
                break
            (node,) = node.inputs

    def dear(known: dict[Node, str]) -> set[Node]:
        return {n for n in ancestors(roots, known) if n.op not in (*CHEAP, *LEAVES) and n not in known}

    for array in dict.fromkeys(known.values()):
        others = {node: other for node, other in known.items() if other != array}
        if dear(others) == dear(known):
            known = others
    return known


class _Backward(Pass):
    def __init__(self, layout: Layout, wanted: tuple[bool, ...]) -> None:
        step = layout.step
        gradients = [step.gradients[column.products[0]] for column in layout.sums.values()]
        roots = {("dsum", i): node for i, node in enumerate(gradients)}
        vectors = [vector for group in layout.learnt_vectors for vector in group]
        roots |= {("dvector", i): step.gradients[vector] for i, vector in vectors}
        roots |= {("dstate", i): node for i, node in enumerate(step.dstates)}
        roots |= {("dinput", i): node for i, node in enumerate(step.dinputs) if wanted[i]}
        forward = layout.sums
        rows = [node for node in layout.rows if node not in layout.readable and node is not ONE]
        self.read = read_again(layout, [*roots.values(), *rows])
        behind = ancestors([*roots.values(), *rows], self.read)
        needed = [forward[node] for node in behind if node in forward and node not in self.read]
        computed = {("source", node): node for node in rows if node not in self.read}
        found = sums(roots.values(), given=[*forward, *self.read], bias=False) | forward
        recomputed = Schedule(computed, forward, columns=needed, given=self.read, rows=layout.readable)
        given = [node for node in recomputed.evaluated if node.op not in CHEAP]
        given += [*rows, *self.read]
        in_place = [place for place in roots if place[0] == "dstate"]
        self.schedule = Schedule(roots, found, computed=forward, given=given, in_place=in_place)
        loaded = {node for stage in self.schedule.stages for node in stage.loads}
        kept = [n for n in dict.fromkeys(given) if n in loaded and n not in layout.rows and n not in self.read]
        computed |= {("kept", node): node for node in kept}
        self.recompute = Schedule(computed, forward, columns=needed, given=self.read, rows=layout.readable)
        self.kept = kept
        taken = {*forward, *given, *layout.vectors}
        read = ancestors(roots.values(), taken)
        self.vectors = [node for node in read if node.op == "vector" and node not in taken]
        inputs, others = layout.backward_results[: len(wanted)], layout.backward_results[len(wanted) :]
        results = [array for array, want in zip(inputs, wanted, strict=True) if want] + others
        super().__init__(layout, layout.backward_operands, results)
        self.uses = uses([*step.last, *step.outputs])  # what is computed again is rounded as it was
        self.where |= {node: (packed_vector(node), "", True) for node in self.vectors}

    def sums_read(self, node: Node) -> Sum | None:
        column = self.of.sums.get(node) or self.schedule.found.get(node)
        in_a_row = node in self.where and self.where[node][0] == "row_here"  # where the whole sum is, not its column
        return None if in_a_row or node in self.read or column in self.schedule.direct.values() else column

    def kernel(self) -> Kernel:
        self._place()
        self.pack_weights(self.recompute)
        self._pack_back()
        of, step, out = self.of, self.step, self.out
        partials = [
            (f"partial_w{i}", f"up({of.count(s.sources)}, GRADIENT_ROWS) * {len(s.sums)} * {of.units(s.width)}")
            for i, s in of.learnt
        ]
        partials += [
            (f"partial_v{n}", f"GRADIENT_ROWS * {len(group)} * {of.units(group[0][1].width)}")
            for n, group in enumerate(of.learnt_vectors)
        ]
        self.layout()
        self.columns("column", self._block_columns)
        self.columns("temp", self._temp_columns)
        self.columns("dstate", [(f"s{i}", state.width) for i, state in enumerate(step.states)])
        width = " + ".join(of.dim(width) for _, width in self._block_columns) or "1"
        self.size("block_steps", f"min(max(steps, 1), steps_of_block(min(batch, most_rows), {width}))")
        # A step's last tile may reach beyond its rows.
        self.size("block_rows", "block_steps * min(batch, most_rows) + TILE_ROWS")
        self.sizes_of(partials, "share")
        self.sizes_of(self.scratch, "scratch_floats")
        self.size("workspace_floats", "packed_floats + chunks * share")
        self.size("ends", "ends_of(share)")
        with self.start("def task(frame, numbers, workspace, scratch, index):"):
            out("run, first, count = chunk(index, batch, chunks)")
            self.carve_packed()
            self.carve("of_width(as_floats(scratch))", self.scratch)
            out("shares = shared + packed_floats + index % chunks * share")
            self.carve("shares", partials)
            self.pointers(self.operands, "arg")
            self.pointers(self.results, "result")
            out(
                "fill_zeros(rows, block_rows * row_floats)",
                "fill_zeros(columns, block_rows * column_floats)",
                "fill_zeros(dstates, most_rows * dstate_floats)",
                "fill_zeros(dstates_before, most_rows * dstate_floats)",
                "fill_zeros(temps, most_rows * temp_floats)",
                *(f"fill_zeros({name}, {size})" for name, size in partials),
            )
            with out.block("for row in range(count):"):
                self._copy_dstates("dlast{i} + (first + row) * {dim}", "dstates + (row * dstate_floats + s{i})", True)
            end = self.end()
            with out.block(f"for block_start in range(({end} - 1) // block_steps * block_steps, -1, -block_steps):"):
                out(f"block_count = min(block_steps, {end} - block_start)")
                self._fill()
                columns = {n: ("columns_row", f"c{i}", True) for n, i in of.index.items() if n not in self.read}
                later, self.where = self.where, self.where | columns  # cotangents come to the columns later
                for stage in self.recompute.stages:
                    for product in of.products_of(stage):
                        self.forward_product(product, "block_count * count")
                    if stage.stores:
                        with out.block("for s in range(block_count):"):
                            self._step_start()
                            self._rows(stage)
                self.where = later
                with out.block("for s in range(block_count - 1, -1, -1):"):
                    self._step_start()
                    self._prefetch()
                    for stage in self.schedule.stages:
                        for column in stage.columns:
                            self._back_product(column)
                        if stage.stores:
                            self._rows(stage)
                    out("dstates, dstates_before = dstates_before, dstates")
                self._gradients()
            self.zero_behind("dx")
            with out.block("for row in range(count):"):
                self._copy_dstates("dstates + (row * dstate_floats + s{i})", "dcarry{i} + (first + row) * {dim}", False)
        return self.assemble("backward", self._adding())

    def _adding(self) -> Iterator[tuple[str, ...]]:
        """The lines of the last phase's table; see `phases.finish`."""
        of, step = self.of, self.step
        shares = []  # of an array's gradient: where it begins, its rows, floats from row to row, and its width
        for i, s in of.learnt:
            units = of.units(s.width)
            for column, row, arrays in s.pairs():
                first = f"at_partial_w{i} + (({of.count(s.sources[:row])}) * {len(s.sums)} + {column}) * {units}"
                shape = of.dim(s.sources[row].width), f"{len(s.sums)} * {units}", of.dim(s.width)
                shares += [(array, first, *shape) for array in arrays]
        for n, group in enumerate(of.learnt_vectors):
            for number, (_, v) in enumerate(group):
                shares.append((v.value, f"at_partial_v{n} + {number} * {of.units(v.width)}", "1", "0", of.dim(v.width)))
        shares = [share for share in shares if share[0] not in step.constants]
        first = len(self.results) - len(of.arrays)
        for i, whole in enumerate(of.arrays, first):
            size, written = self.results[i].size, set()
            for array, *share in shares:
                region = step.regions[array]
                if region.array == whole:
                    yield tuple(map(str, (i, size, *share, region.first, region.stride, int(region in written))))
                    written.add(region)
            if not written:
                yield str(i), size, *["0"] * 7

    def _place(self) -> None:
        of, step = self.of, self.step
        last_read = {node: i for i, stage in enumerate(self.schedule.stages) for node in stage.loads}
        written = {place: i for i, stage in enumerate(self.schedule.stages) for place, _ in stage.stores}
        self._block_columns = [(f"c{i}", node.width) for node, i in of.index.items()]
        self._dsum = {}
        for node, i in of.index.items():
            self.where[node] = "columns_row", f"c{i}", True
            self._dsum[i] = f"c{i}"
            if last_read.get(node, 0) > written["dsum", i] or node.width == 1:
                self._dsum[i] = f"e{i}"
                self._block_columns.append((f"e{i}", node.width))
            self.places["dsum", i] = "columns_row", self._dsum[i], True, node.width
        self._source_of = {}
        for i, node in enumerate(of.sums):
            gradient = step.gradients[of.sums[node].products[0]]
            if gradient.op != "constant" and gradient not in self._source_of:
                self._source_of[gradient] = "columns", "column_floats", self._dsum[i], node.width
                if gradient.op not in LEAVES:  # which are read where they are
                    self.where.setdefault(gradient, ("columns_row", self._dsum[i], True))
        for i, vector in (vector for group in of.learnt_vectors for vector in group):
            self._block_columns.append((f"g{i}", vector.width))
            self.places["dvector", i] = "columns_row", f"g{i}", True, vector.width
        for i, node in enumerate(self.kept):
            self._block_columns.append((f"k{i}", node.width))
            self.where[node] = "columns_row", f"k{i}", True
            self.places["kept", node] = "columns_row", f"k{i}", True, node.width
        for i, row in enumerate(of.rows):
            self.where[row] = "row_here", f"r{i}", False
            self.places["source", row] = "row_here", f"r{i}", False, row.width
        for i, node in enumerate(step.inputs):
            self.where.setdefault(node, (f"x{i or ''} + at * {of.dim(node.width)}", "", False))
            self.places["dinput", i] = f"dx{i or ''} + at * {of.dim(node.width)}", "", False, node.width
        for i, state in enumerate(step.states):
            self.where.setdefault(state, (f"before{i} + row * {of.dim(state.width)}", "", False))
            self.where[step.dlast[i]] = "dstates_row", f"s{i}", True
            self.places["dstate", i] = self.places["addend", "dstate", i] = "before_row", f"s{i}", True, state.width
        for i, node in enumerate(step.doutputs):
            self.where[node] = f"dys{i or ''} + at * {of.dim(node.width)}", "", False
        for node, array in self.read.items():
            if node not in of.rows:
                self.where[node] = f"{array} + at * {of.dim(node.width)}", "", False
        self._temp_columns = []
        back = [column for stage in self.schedule.stages for column in stage.columns]
        self._targets = {
            column.node: ("dstates_before", "dstate_floats", f"s{place[1]}")
            for place, column in self.schedule.direct.items()
        }
        temps = [column.node for column in back if column.node not in self._targets]
        for stage in self.schedule.stages:
            for place, node in stage.stores:
                if place[0] in ("temp", "source"):
                    self.places[place] = "temps_row", f"t{len(temps)}", True, node.width
                    if place[0] == "source":
                        self._source_of[node] = "temps", "temp_floats", f"t{len(temps)}", node.width
                    temps.append(node)
        crossing = [place for stage in self.recompute.stages for place, _ in stage.stores if place[0] == "temp"]
        for i, place in enumerate(crossing):
            self._block_columns.append((f"q{i}", place[1].width))
            self.places[place] = "columns_row", f"q{i}", True, place[1].width
            self.where.setdefault(place[1], ("columns_row", f"q{i}", True))
        for i, node in enumerate(temps):
            self._temp_columns.append((f"t{i}", node.width))
            if node.op not in LEAVES:  # a leaf is copied here to be multiplied, and read where it was
                self.where[node] = "temps_row", f"t{i}", True
        for column in back:
            if column.node not in self._targets:
                self._targets[column.node] = "temps", "temp_floats", self.where[column.node][1]
        self._added = {column.node for column in self.schedule.direct.values() if column.rest}
        self._back = [(column, self._groups(column)) for column in back]
        self.scratch = [
            ("rows", "block_rows * row_floats"),
            ("columns", "block_rows * column_floats"),
            ("dstates", "most_rows * dstate_floats"),
            ("dstates_before", "most_rows * dstate_floats"),
            ("temps", "most_rows * temp_floats"),
        ]

    def _groups(self, column: Sum) -> list[tuple[int, list[Node]]]:
        """The products of a sum, by the width of what is multiplied."""
        by_width: dict[int, list[Node]] = {}
        for product in column.products:
            by_width.setdefault(self._source_of[product.inputs[0]][3], []).append(product)
        return list(by_width.items())

    def _pack_back(self) -> None:
        of = self.of
        for vector in self.vectors:
            self.pack_vector(vector)
        for i, (column, groups) in enumerate(self._back):
            together = at_once(_segments(groups))
            for j, (width, terms) in enumerate(groups):
                packed, count, wide = f"back{i}_{j}", of.dim(width), column.node.width
                self.packed.append((packed, packed_size(of, count, len(terms), wide)))
                for term, product in enumerate(terms):
                    order = term, len(terms), together
                    self.pack_rows(packed, ("0", count, count), order, wide, *product.value)

    def _copy_dstates(self, source: str, target: str, padded: bool) -> None:
        for i, state in enumerate(self.step.states):
            dim = self.of.dim(state.width)
            self.copy(source.format(i=i, dim=dim), target.format(i=i, dim=dim), state.width, padded)

    def _earlier(self, i: int, at: str, row: str) -> str:
        """Where a state lies that a step was given."""
        dim = self.of.dim(self.step.states[i].width)
        initial = f"carry{i} + {row} * {dim}"
        if i in self.of.constant:
            return initial
        return f"{self.of.history(i)} + ({at} - batch) * {dim} if block_start + s > 0 else {initial}"

    def _fill(self) -> None:
        """The rows of a block, from the kept states."""
        of, step, out = self.of, self.step, self.out
        with out.block("for s in range(block_count):"), out.block("for row in range(count):"):
            out("at = (block_start + s) * batch + first + row", "row_here = rows + (s * count + row) * row_floats")
            for i, state in enumerate(step.states):
                if state in of.rows:
                    dim, offset = of.dim(state.width), f"r{of.rows.index(state)}"
                    out(f"before = {self._earlier(i, 'at', '(first + row)')}")
                    out(f"copy(before, row_here + {offset}, {dim})")
            out(f"row_here[r{of.rows.index(ONE)}] = 1.0")
            given = {node: f"x{i or ''}" for i, node in enumerate(step.inputs)} | self.read
            for node, array in given.items():
                if node in of.rows:
                    dim = of.dim(node.width)
                    out(f"copy({array} + at * {dim}, row_here + r{of.rows.index(node)}, {dim})")

    def _step_start(self) -> None:
        self.out("start = (block_start + s) * batch + first")
        for i, state in enumerate(self.step.states):
            if state not in self.of.rows:
                self.out(f"before{i} = {self._earlier(i, 'start', 'first')}")

    def _prefetch(self) -> None:
        states = enumerate(self.step.states)
        arrays = {self.of.history(i): state.width for i, state in states if i not in self.of.constant}
        for array, width in (arrays | {array: node.width for node, array in self.read.items()}).items():
            dim = self.of.dim(width)
            self.out(f"prefetch_rows({array} + (start - (block_steps + 1) * batch) * {dim}, count * {dim})")
        for i, node in enumerate(self.step.doutputs):
            dim = self.of.dim(node.width)
            self.out(f"prefetch_rows(dys{i or ''} + (start - block_steps * batch) * {dim}, count * {dim})")

    def _rows(self, stage: Stage) -> None:
        """The pointwise work of a stage for the rows of step s."""
        with self.out.block("for row in range(count):"):
            self.out("at, here = start + row, s * count + row")
            self.out("row_here, columns_row = rows + here * row_floats, columns + here * column_floats")
            self.out("dstates_row, before_row = dstates + row * dstate_floats, dstates_before + row * dstate_floats")
            self.out("temps_row = temps + row * temp_floats")
            self.pointwise(stage)

    def _back_product(self, column: Sum) -> None:
        of = self.of
        number = next(i for i, (other, _) in enumerate(self._back) if other is column)
        groups = self._back[number][1]
        sources, strides = [], []
        for product in (product for _, terms in groups for product in terms):
            base, floats, offset, _ = self._source_of[product.inputs[0]]
            start = "s * count * column_floats + " if base == "columns" else ""
            sources.append(f"{base} + ({start}{offset})")
            strides.append(floats)
        counts = [of.dim(width) for width, _ in groups]
        base, floats, offset = self._targets[column.node]
        outputs = (tuple(range(min(len(sources), MOST_COLUMNS))),)
        maker = maker_of(column.node.width)
        name = self.factory(f"{maker}({_segments(groups)}, {outputs}, {column.node in self._added})")
        weights = tuple_of(f"back{number}_{j}" for j in range(len(groups)))
        blocks, target = f"{of.units(column.node.width)} // WIDTH", f"({base} + {offset},)"
        operands = f"{tuple_of(sources)}, {tuple_of(strides)}, {tuple_of(counts)}, {weights}"
        self.out(f"{name}(count, {operands}, {blocks}, {target}, {floats})")

    def _gradients(self) -> None:
        """A block's share of the gradients of the weights."""
        of = self.of
        for i, segment in of.learnt:
            columns = [f"columns + {self._dsum[of.index[column.node]]}" for column in segment.sums]
            self._outer(segment.sources, columns, segment.width, f"partial_w{i}")
        for n, group in enumerate(of.learnt_vectors):
            self._outer((ONE,), [f"columns + g{i}" for i, _ in group], group[0][1].width, f"partial_v{n}")

    def _outer(self, sources: tuple[Node, ...], columns: list[str], width: int, target: str) -> None:
        name = self.factory(f"outer({len(columns)})")
        source = f"rows + r{self.of.rows.index(sources[0])}, row_floats, {words(self.of.count(sources))}"
        blocks = f"{self.of.units(width)} // WIDTH"
        self.out(f"{name}({source}, block_count * count, {tuple_of(columns)}, column_floats, {blocks}, {target})")


def _segments(groups: list[tuple[int, list[Node]]]) -> tuple[tuple[tuple[int, int], ...], ...]:
    """A sum's products as the segments of `tiles.product`: each is a source, and they take turns with its sums."""
    numbers = itertools.count()
    return tuple(tuple((i % MOST_COLUMNS, i) for i in itertools.islice(numbers, len(terms))) for _, terms in groups)
