"""Some values of a step in CUDA C: products, and what is computed for each unit on its own.

Every value of the graph is a variable of each thread: that of its unit, or of the last unit for threads beyond, whose
results nobody reads. What is multiplied goes through shared memory.

`float` and what ends in `f` are all that says how precise it is: F(0.1) is a number.
"""

import math
from typing import Any

from rnn_compare.recurrence.gpu.layout import kept, matrix
from rnn_compare.recurrence.step.graph import LEAVES, Node
from rnn_compare.recurrence.step.reverse import BOOLEAN

OPERATIONS = {
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "mul": "{0} * {1}",
    "div": "{0} / {1}",
    "neg": "-{0}",
    "max": "{0} > {1} || {0} != {0} ? {0} : {1}",  # what is not a number wins, as in JAX
    "min": "{0} < {1} || {0} != {0} ? {0} : {1}",
    "abs": "fabsf({0})",
    "sign": "{0} > 0 ? F(1.0) : {0} < 0 ? F(-1.0) : {0}",
    "sqrt": "sqrtf({0})",
    "rsqrt": "1 / sqrtf({0})",
    "exp": "expf({0})",
    "log": "logf({0})",
    "log1p": "log1pf({0})",
    "expm1": "expm1f({0})",
    "tanh": "tanhf({0})",
    "logistic": "logistic({0})",
    "sin": "sinf({0})",
    "cos": "cosf({0})",
    "erf": "erff({0})",
    "pow": "powf({0}, {1})",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "and": "{0} && {1}",
    "or": "{0} || {1}",
    "not": "!{0}",
    "select_n": "{0} ? {2} : {1}",
    "stop_gradient": "{0}",
    "custom": "{0}",
}


class Part:
    """Some values of a step."""

    def __init__(
        self,
        of: Any,
        nodes: list[Node],
        names: dict[Node, str],
        prefix: str = "n",
        rows: str = "rows",
        constant: bool = True,
    ) -> None:
        """Some values of a step.

        Args:
            of: the `source.Pass` that it is of: who the threads are, and what they hold.
            nodes: the values, each behind those that it is computed of.
            names: the variables of values that are there before.
            prefix: what its own variables begin with.
            rows: the variable that says where its rows are.
            constant: whether its variables never change.
        """
        self.of, self.nodes, self.names, self.prefix, self.rows = of, nodes, names, prefix, rows
        self.type = "const float" if constant else "float"

    def rounds(self) -> list[tuple[list[str], list[str]]]:
        """What is computed between one wait and the next, and the rows that are stored before that."""
        level: dict[Node, int] = {}
        for node in self.nodes:
            behind = [level[i] + (node.op == "product" and i.width > 1) for i in node.inputs if i in level]
            level[node] = max(behind, default=0)
        return [
            self._round([node for node in self.nodes if level[node] == number])
            for number in range(max(level.values(), default=-1) + 1)
        ]

    def _round(self, nodes: list[Node]) -> tuple[list[str], list[str]]:
        wide = [node for node in nodes if node.op == "product" and node.inputs[0].width > 1]
        products: dict[Node, list[Node]] = {}
        for node in wide:
            products.setdefault(node.inputs[0], []).append(node)
        lines = [line for row, columns in products.items() for line in self._products(row, columns)]
        lines += [self._operation(node) for node in nodes if node.op not in LEAVES and node not in wide]
        stores = []
        for node in nodes:
            if node in self.of.rows:
                guard = "lane == 0" if node.width == self.of.of.units else f"lane == 0 && unit < {node.width}"
                stores.append(f"if ({guard}) ((float*){self.rows})[{self.of.rows[node]} + unit] = {self.value(node)};")
        return lines, stores

    def _products(self, row: Node, columns: list[Node]) -> list[str]:
        of, names = self.of, [self.value(node) for node in columns]
        lines = [f"float {name} = 0;" for name in names]
        lines += ["#pragma unroll", f"for (int i = 0; i < {kept(row.width, of.split) // 4}; ++i) {{"]
        lines += [f"    const float4 four = {self.row(row)};"]
        for node, name in zip(columns, names, strict=True):
            m = matrix(node)
            weights = [f"w{of.matrices.index(m)}[4 * i + {j}]" for j in range(4)]
            if m in of.narrow:
                at = of.stays(of.narrow.index(m)) // 4
                lines.append(f"    const float4 by_{name} = shared[{at} + i * {of.split} + lane];")
                weights = [f"by_{name}.{axis}" for axis in "xyzw"]
            lines += [f"    {name} += four.{axis} * {w};" for axis, w in zip("xyzw", weights, strict=True)]
        return [*lines, "}", *(f"{name} = total({name});" for name in names)]

    def _operation(self, node: Node) -> str:
        if node.op == "product":
            text = f"{self.value(node.inputs[0])} * w{self.of.matrices.index(matrix(node))}[0]"
        else:
            text = OPERATIONS[node.op].format(*(self.value(input_) for input_ in node.inputs))
        type_ = self.type.replace("float", "bool") if node.op in BOOLEAN else self.type
        return f"{type_} {self.value(node)} = {text};"

    def row(self, node: Node) -> str:
        """Four numbers of a row in shared memory."""
        return f"{self.rows}[{self.of.rows[node] // 4} + i * {self.of.split} + lane]"

    def value(self, node: Node) -> str:
        """A value, by its variable, or as a number."""
        if node.op == "constant":
            return number(node.value)
        return self.names.get(node, f"{self.prefix}{node.index}")


def number(value: float) -> str:
    """A constant."""
    if math.isfinite(value):
        return f"F({value!r})"
    return "NAN" if value != value else "INFINITY" if value > 0 else "-INFINITY"
