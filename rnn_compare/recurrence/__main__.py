"""`python -m rnn_compare.recurrence --cell=lstm`: what a cell's step becomes, its graph and its kernels' sources.

Exit codes: 0 it is printed, 2 something in the input is wrong, or no kernel can be made of the cell; says why.
"""

import jax
import jax.numpy as jnp
from absl import app, flags

from rnn_compare import config
from rnn_compare.cells import CELLS
from rnn_compare.console.errors import UserError
from rnn_compare.console.flags import complaining, parse_flags
from rnn_compare.console.terminal import say
from rnn_compare.recurrence.cpu import kernels_of
from rnn_compare.recurrence.step.graph import UnsupportedError
from rnn_compare.recurrence.step.read import read

CELL = flags.DEFINE_string("cell", "lstm", "Name of the cell.")
FILE = flags.DEFINE_string("config", None, "A config file that registers it, if the package does not.")
UNITS = flags.DEFINE_integer("units", 16, "Size of its state.", lower_bound=1)
FEATURES = flags.DEFINE_integer("features", 1, "Size of its input.", lower_bound=1)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags.

    Raises:
        UserError: a flag is wrong.
    """
    if left := parse_flags(argv, "rnn_compare.recurrence", [CELL, FILE, UNITS, FEATURES]):
        raise UserError(f"{left[0]} is not a flag: write --cell=NAME")
    return left


def main(_: list[str]) -> None:
    """Prints the graph, the forward pass and the backward pass."""
    if FILE.value:
        config.run(FILE.value)
    if CELL.value not in CELLS:
        raise UserError(f"--cell={CELL.value}: there are {', '.join(CELLS)}")
    cell, x = CELLS[CELL.value](units=UNITS.value), jnp.zeros((1, FEATURES.value))
    carry = cell.initialize_carry(None, x.shape)
    try:
        graph = read(cell.step, cell.init(jax.random.key(0), carry, x)["params"], carry, x)[0]
    except UnsupportedError as error:
        raise UserError(f"--cell={CELL.value}: no kernel can be made of it: {error}") from None
    kernels = kernels_of(graph)
    say(kernels.forward.source, "", kernels.backward((False,)).source)


if __name__ == "__main__":
    app.run(complaining(main), flags_parser=complaining(parse))
