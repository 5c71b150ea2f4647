"""The forward pass of a step as a kernel; see `source`."""

from rnn_compare.recurrence.cpu.kernel import Kernel
from rnn_compare.recurrence.cpu.layout import ONE, Layout
from rnn_compare.recurrence.cpu.source import Pass
from rnn_compare.recurrence.step.graph import Node, uses
from rnn_compare.recurrence.step.stages import Stage, Sum


def forward(layout: Layout) -> Kernel:
    """The kernel of the forward pass."""
    return _Forward(layout).kernel()


class _Forward(Pass):
    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, layout.operands, layout.results)
        self.schedule = layout.schedule
        self.uses = uses([*self.step.last, *self.step.outputs])

    def sums_read(self, node: Node) -> Sum | None:
        return self.of.sums.get(node)

    def kernel(self) -> Kernel:
        of, step, out = self.of, self.step, self.out
        temps = [place for stage in self.schedule.stages for place, _ in stage.stores if place[0] == "temp"]
        columns = [(f"c{i}", node.width) for node, i in of.index.items()]
        columns += [(f"t{i}", place[1].width) for i, place in enumerate(temps)]
        apart = [state for state in step.states if state not in of.rows]
        held = [(f"h{i}", state.width) for i, state in enumerate(apart)]
        for i, state in enumerate(apart):
            self.where[state] = "held_row", f"h{i}", True
        for i, row in enumerate(of.rows):
            self.where[row] = "row_here", f"r{i}", False
            self.places["source", row] = "row_here", f"r{i}", False, row.width
        for i, node in enumerate(step.inputs):
            self.where.setdefault(node, (f"x{i or ''} + at * {of.dim(node.width)}", "", False))
        for node, i in of.index.items():
            self.where[node] = "columns_row", f"c{i}", True
        for i, place in enumerate(temps):
            self.where[place[1]] = "columns_row", f"t{i}", True
            self.places[place] = "columns_row", f"t{i}", True, place[1].width
        for i, state in enumerate(step.states):
            self.places["last", i] = (*self.where[state], state.width)
        for i, node in enumerate(step.doutputs):
            self.places["output", i] = (f"ys{i or ''} + at * {of.dim(node.width)}", "", False, node.width)
        self.pack_weights(self.schedule)
        self.scratch = [
            ("rows", "most_rows * row_floats"),
            ("held", "most_rows * held_floats"),
            ("columns", "most_rows * column_floats"),
        ]

        self.layout()
        self.columns("column", columns)
        self.columns("held", held)
        if of.separate:
            self.size("keep", "keep")
        self.size("share", "0")
        self.size("ends", "0")
        self.size("workspace_floats", "packed_floats")
        self.sizes_of(self.scratch, "scratch_floats")
        with self.start("def task(frame, numbers, workspace, scratch, index):"):
            out("run, first, count = chunk(index, batch, chunks)")
            self.carve_packed()
            self.carve("of_width(as_floats(scratch))", self.scratch)
            self.pointers(self.operands, "arg")
            self.pointers(self.results, "result")
            out("fill_zeros(rows, most_rows * row_floats)", "fill_zeros(held, most_rows * held_floats)")
            with out.block("for row in range(count):"):
                out(f"rows[row * row_floats + r{of.rows.index(ONE)}] = 1.0")
                for i, state in enumerate(step.states):
                    carry, padded = f"carry{i} + (first + row) * {of.dim(state.width)}", self.where[state][2]
                    self.copy(carry, self._home(state), state.width, padded)
            with out.block(f"for t in range({self.end()}):"):
                out("start = t * batch + first")
                for i, node in enumerate(step.inputs):
                    if node in of.rows:
                        width = of.dim(node.width)
                        with out.block("for row in range(count):"):
                            place = f"rows + (row * row_floats + r{of.rows.index(node)})"
                            out(f"copy(x{i or ''} + (start + row) * {width}, {place}, {width})")
                for stage in self.schedule.stages:
                    self._stage(stage)
            self.zero_behind("ys")
            with out.block("for row in range(count):"):
                for i, state in enumerate(step.states):
                    dim = of.dim(state.width)
                    out(f"copy({self._home(state)}, last{i} + (first + row) * {dim}, {dim})")
        return self.assemble("forward")

    def _home(self, state: Node) -> str:
        base, offset, _ = self.where[state]
        name, floats = ("rows", "row_floats") if base == "row_here" else ("held", "held_floats")
        return f"{name} + (row * {floats} + {offset})"

    def _stage(self, stage: Stage) -> None:
        out = self.out
        for product in self.of.products_of(stage):
            self.forward_product(product, "count")
        if stage.stores:
            with out.block("for row in range(count):"):
                out("at = start + row", "row_here = rows + row * row_floats")
                out("held_row = held + row * held_floats", "columns_row = columns + row * column_floats")
                self.pointwise(stage)
