"""How the threads of a GPU share a step.

A sequence has a thread for each unit of the widest value, or `split` of them that share the unit's products. All of a
sequence's time passes in one block of threads: weights, states and gradients of weights stay in registers, and a row
that is multiplied goes through shared memory. A thread multiplies four neighbouring numbers of a row, then those that
lie 4 · split further on.
"""

import dataclasses
import functools
from collections.abc import Iterable

from rnn_compare.recurrence.step.graph import Node, Step, UnsupportedError, ancestors

WARP = 32
REGISTERS = 255  # that a thread can have
FILE = 1 << 16  # registers of a block
OTHERS = 40  # registers, about, for all that is no weight: addresses, values on their way
MOST_THREADS = 1024
SHARED = 96 << 10  # bytes of shared memory that every generation grants a block


@dataclasses.dataclass(frozen=True)
class Matrix:
    """An array of the parameters [inputs, outputs] as products multiply with it.

    Attributes:
        array: its number.
        transposed: whether it is that array's transpose.
        inputs: the width of a row that is multiplied.
        outputs: that of the result.
    """

    array: int
    transposed: bool
    inputs: int
    outputs: int

    @property
    def other(self) -> "Matrix":
        """Its transpose."""
        return Matrix(self.array, not self.transposed, self.outputs, self.inputs)


def matrix(product: Node) -> Matrix:
    """What a product multiplies with."""
    array, transposed = product.value
    return Matrix(array, transposed, product.inputs[0].width, product.width)


class Layout:
    """What the kernels of a step work on.

    Attributes:
        step: the step.
        ending: whether sequences end early, see `fused.recurrence`.
        matrices: what the step multiplies with, in the order of the operands.
        vectors: its vectors, which are operands too.
        extras: what only the backward pass multiplies with.
        constant: the states that never change.
        separate: the states that are none of the outputs, and are kept on their own.
        units: threads side by side.
    """

    def __init__(self, step: Step, ending: bool) -> None:
        self.step, self.ending = step, ending
        forward = ancestors([*step.last, *step.outputs])
        self.matrices = list(dict.fromkeys(matrix(node) for node in forward if node.op == "product"))
        self.vectors = [node for node in forward if node.op == "vector"]
        behind = ancestors([*step.dstates, *step.dinputs, *step.gradients.values()])
        known = {*self.matrices, *(m.other for m in self.matrices)}
        self.extras = [m for m in dict.fromkeys(matrix(n) for n in behind if n.op == "product") if m not in known]
        self.constant = [i for i, node in enumerate(step.last) if node is step.states[i]]
        others = (i for i in range(len(step.last)) if i not in self.constant)
        self.separate = [i for i in others if step.output_of(i) is None]
        widest = max(node.width for node in (*forward, *behind, *step.doutputs, *step.states, *step.inputs))
        self.units = 1 << (widest - 1).bit_length()
        self.extra_vectors = [n for n in behind if n.op == "vector" and n not in self.vectors]

    def splits(self, multiplied: Iterable[Matrix], gradients: Iterable[Matrix], vectors: int) -> list[int]:
        """How many threads may share a unit's products, so that what they hold fits in their registers.

        An estimate that is rather too low: a compiler finds out.

        Args:
            multiplied: matrices that rows are multiplied with; those of one column lie elsewhere.
            gradients: matrices whose gradients are added up; those of one column take one number.
            vectors: numbers that each thread holds besides.

        Raises:
            UnsupportedError: no number does.
        """
        held = [m.inputs for m in multiplied if m.outputs > 1]
        held += [m.inputs if m.outputs > 1 else 1 for m in gradients]
        found = []
        for split in (1, 2, 4, 8, 16, 32):
            threads = max(WARP, self.units * split)
            most = min(REGISTERS, FILE // threads)
            if threads <= MOST_THREADS and sum(kept(count, split) for count in held) + vectors + OTHERS <= most:
                found.append(split)
        if not found:
            raise UnsupportedError(
                f"its {sum(held)} weights for each of {self.units} units are more than a GPU's registers hold"
            )
        return found


@functools.cache
def kept(count: int, split: int) -> int:
    """The numbers of a column, or of a row, that one of `split` threads holds."""
    return 1 if count == 1 else -(-count // (4 * split)) * 4
