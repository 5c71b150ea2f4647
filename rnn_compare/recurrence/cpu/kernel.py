"""A generated kernel: its source, and the numbers that it is told."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from types import CodeType

from rnn_compare.recurrence.cpu import phases
from rnn_compare.recurrence.cpu.support import chunks_of, ends_of, rows_of_task, steps_of_block, up
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.cpu.vector import GRADIENT_ROWS, LANES, TILE_ROWS


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel's source, and how to work out the numbers that it reads.

    Attributes:
        source: its function `task`, the phase between those of `phases`.
        width: how many lanes its vectors have.
        sizes: names and what each is, in terms of those before it; so are the next two, in words.
        packing: the lines of the first phase's table.
        adding: the lines of the last phase's.
    """

    source: str
    width: int
    sizes: tuple[tuple[str, str], ...]
    packing: tuple[tuple[str, ...], ...]
    adding: tuple[tuple[str, ...], ...]

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
        scope = {"steps": steps, "batch": batch, "keep": int(keep), "WIDTH": self.width, **SIZES}
        for name, text in self.sizes:
            scope[name] = eval(_code(text), scope)
        tables = ([[eval(_code(t), scope) for t in line] for line in lines] for lines in (self.packing, self.adding))
        packing, adding = tables
        first, last = phases.tables(packing, adding)
        names = names_of(self.sizes)
        scope |= {"packing": len(names), "adding": len(names) + len(first)}
        numbers = (*(scope[name] for name in names), *first, *last)
        tasks = len(packing), scope["chunks"], scope["ends"]
        return Plan(tasks, scope["workspace_floats"], scope["scratch_floats"], numbers)


@functools.cache
def _code(text: str) -> CodeType:
    return compile(text, "<size>", "eval")


SIZES = {
    "up": up.py_func,
    "chunks_of": chunks_of,
    "ends_of": ends_of,
    "rows_of_task": rows_of_task,
    "steps_of_block": steps_of_block,
    "LANES": LANES,
    "TILE_ROWS": TILE_ROWS,
    "GRADIENT_ROWS": GRADIENT_ROWS,
    **{name: value for name, value in vars(phases).items() if name.startswith("PACK")},
}


def names_of(sizes: Iterable[tuple[str, str]]) -> list[str]:
    """The numbers that a kernel is told, in their order: those that all are, then its own sizes."""
    return list(dict.fromkeys([*phases.HEAD, *(name for name, _ in sizes)]))
