"""The backward pass of a step in CUDA C; see `source`.

It goes back through time once, computes each step's values again from the kept states, and adds up the gradients of the
weights in registers.
"""

from rnn_compare.recurrence.gpu.layout import Layout, Matrix, kept
from rnn_compare.recurrence.gpu.part import Part
from rnn_compare.recurrence.gpu.source import Kernel, Load, Pass
from rnn_compare.recurrence.step.graph import LEAVES, Node


def backward(layout: Layout, wanted: tuple[bool, ...]) -> list[Kernel]:
    """The backward pass, in the ways in which it can be split; operands and results as in `fused.Kernels.gradients`.

    A weight's gradient is one of each sequence.

    Args:
        layout: what it works on.
        wanted: of which inputs it computes the gradient.
    """
    return _Backward(layout, wanted).kernels()


class _Backward(Pass):
    name = "backward"
    single = 4
    kinds = True, False

    def __init__(self, layout: Layout, wanted: tuple[bool, ...]) -> None:
        step = layout.step
        self.wanted = [i for i, want in enumerate(wanted) if want]
        roots = [*step.dstates, *(step.dinputs[i] for i in self.wanted), *(step.gradients[v] for v in layout.vectors)]
        super().__init__(layout, roots, {p: gradient for p, gradient in step.gradients.items() if p.op == "product"})
        self.names |= {node: f"d{i}" for i, node in enumerate(step.dlast)}
        self.names |= {node: f"dy{i}" for i, node in enumerate(step.doutputs)}

    @property
    def given(self) -> list[Matrix]:
        return self.of.matrices + self.of.extras

    @property
    def vectors(self) -> list[Node]:
        return self.of.vectors + self.of.extra_vectors

    def operands(self) -> list[str]:
        step, count = self.step, len(self.of.matrices)
        names = super().operands() + [f"given_w{count + i}" for i in range(len(self.of.extras))]
        names += self._named_vectors(self.of.extra_vectors)
        names += [f"ys{i}" for i in range(len(step.outputs))] + [f"kept{i}" for i in self.of.separate]
        return names + [f"dys{i}" for i in range(len(step.outputs))] + [f"dlast{i}" for i in range(len(step.states))]

    def kernel(self, ahead: bool) -> Kernel:
        of, step = self.of, self.step
        inputs = [(f"dx{i}", step.inputs[i].width) for i in self.wanted]
        results = [name for name, _ in inputs] + [f"dcarry{i}" for i in range(len(step.states))]
        results += [f"dgiven_w{i}" for i in range(len(of.matrices))] + [f"dgiven_v{i}" for i in range(len(of.vectors))]
        self.turns = 4 if ahead else 2
        body = self.start()
        for i, state in enumerate(step.states):
            body.append(f"float d{i} = {self.read(f'dlast{i}', state.width, 'place')};")
        for i, m in enumerate(of.matrices):
            body.append(f"float dw{i}[{kept(m.inputs, self.split) if m.outputs > 1 else 1}] = {{}};")
        body += [f"float dv{i} = 0;" for i in range(len(of.vectors))]
        loads = self.inputs()
        for i, state in enumerate(step.states):
            if i in of.constant:
                body.append(f"const float s{i} = {self.read(f'carry{i}', state.width, 'place')};")
            else:
                array = f"kept{i}" if i in of.separate else f"ys{step.output_of(i)}"
                loads.append(Load(f"s{i}", array, state.width, f"carry{i}"))
        loads += [Load(f"dy{i}", f"dys{i}", node.width) for i, node in enumerate(step.doutputs)]
        first, inner, part, moves = self._ahead({load.name for load in loads}) if ahead else self._in_order()
        inner += self._add_up(part)
        inner += [self.write(f"dx{i}", part.value(step.dinputs[i]), step.inputs[i].width) for i in self.wanted]
        inner += [f"const float before{i} = {part.value(node)};" for i, node in enumerate(step.dstates)]
        inner += [f"d{i} = before{i};" for i in range(len(step.dstates))] + moves
        body += [self.barrier, *self.over_time(loads, inner, True, first), *self.ends(inputs)]
        body += [self.write(f"dcarry{i}", f"d{i}", state.width, "place") for i, state in enumerate(step.states)]
        return self.source(results, body + self._write_gradients())

    def _in_order(self) -> tuple[None, list[str], Part, list[str]]:
        """Nothing before the loop, a step, what names its values, and nothing at a step's end."""
        part = Part(self, self.order, self.names)
        return None, self.together(part), part, []

    def _ahead(self, loaded: set[str]) -> tuple[list[str], list[str], Part, list[str]]:
        """What is computed before the loop, a step, what names its values, and what moves on at its end.

        While a step's cotangents are computed, so are the values of the step before, which do not depend on them: two
        chains of operations, neither of which waits for the other.
        """
        alone: dict[Node, bool] = {}
        for node in self.order:
            alone[node] = node.op != "cotangent" and all(alone[input_] for input_ in node.inputs)
        values = [node for node in self.order if alone[node]]
        first = Part(self, values, self.names, constant=False)
        following = {node: f"next_{name}" if name in loaded else name for node, name in self.names.items()}
        ahead = Part(self, values, following, prefix="next_n", rows="next_rows")
        own = [node for node in values if node.op not in LEAVES]
        behind = Part(self, [n for n in self.order if not alone[n]], self.names | {n: first.value(n) for n in own})
        return (
            self.together(first),
            self.together(behind, ahead),
            behind,
            [f"{first.value(node)} = {ahead.value(node)};" for node in own],
        )

    def _add_up(self, part: Part) -> list[str]:
        lines = []
        for m, pairs in self.outer.items():
            sum_ = f"dw{self.of.matrices.index(m)}"
            for row, gradient in pairs:
                value = part.value(gradient)
                if m.inputs == 1 or m.outputs == 1:
                    lines.append(f"{sum_}[0] += {part.value(row)} * {value};")
                    continue
                lines += ["#pragma unroll", f"for (int i = 0; i < {kept(m.inputs, self.split) // 4}; ++i) {{"]
                lines += [f"    const float4 four = {part.row(row)};"]
                lines += [f"    {sum_}[4 * i + {j}] += four.{axis} * {value};" for j, axis in enumerate("xyzw")]
                lines += ["}"]
        for i, vector in enumerate(self.of.vectors):
            lines.append(f"dv{i} += {part.value(self.step.gradients[vector])};")
        return lines

    def _write_gradients(self) -> list[str]:
        lines = []
        for i, m in enumerate(self.of.matrices):
            size = m.inputs * m.outputs
            if m.inputs == 1 or m.outputs == 1:
                lines.append(self.write(f"dgiven_w{i}", f"dw{i}[0]", size, "place"))
                continue
            lines += ["#pragma unroll", f"for (int i = 0; i < {kept(m.inputs, self.split)}; ++i) {{"]
            lines += [f"    const int k = {self.k};", f"    if (live && k < {m.inputs} && unit < {m.outputs})"]
            lines += [f"        dgiven_w{i}[place * {size} + k * {m.outputs} + unit] = dw{i}[i];", "}"]
        for i, vector in enumerate(self.of.vectors):
            lines.append(self.write(f"dgiven_v{i}", f"dv{i}", vector.width, "place"))
        return lines
