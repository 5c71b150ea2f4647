"""The forward pass of a step in CUDA C; see `source`."""

from rnn_compare.recurrence.gpu.layout import Layout
from rnn_compare.recurrence.gpu.part import Part
from rnn_compare.recurrence.gpu.source import Kernel, Pass


def forward(layout: Layout) -> list[Kernel]:
    """The forward pass, in the ways in which it can be split; operands and results as in `fused.Kernels.outputs`."""
    return _Forward(layout).kernels()


class _Forward(Pass):
    name = "forward"
    single = 16

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout, [*layout.step.last, *layout.step.outputs], {})

    def kernel(self, ahead: bool) -> Kernel:
        step = self.step
        outputs = [(f"ys{i}", node.width) for i, node in enumerate(step.doutputs)]
        results = [name for name, _ in outputs]
        results += [f"last{i}" for i in range(len(step.states))] + [f"kept{i}" for i in self.of.separate]
        body = self.start()
        for i, state in enumerate(step.states):
            body.append(f"float s{i} = {self.read(f'carry{i}', state.width, 'place')};")
        part = Part(self, self.order, self.names)
        inner = self.together(part)
        for (name, width), node in zip(outputs, step.outputs, strict=True):
            inner.append(self.write(name, part.value(node), width))
        for i in self.of.separate:
            inner.append(f"if (keep) {{ {self.write(f'kept{i}', part.value(step.last[i]), step.states[i].width)} }}")
        moving = [i for i in range(len(step.states)) if i not in self.of.constant]
        inner += [f"const float after{i} = {part.value(step.last[i])};" for i in moving]
        inner += [f"s{i} = after{i};" for i in moving]
        body += [self.barrier, *self.over_time(self.inputs(), inner), *self.ends(outputs)]
        body += [self.write(f"last{i}", f"s{i}", state.width, "place") for i, state in enumerate(step.states)]
        return self.source(results, body)
