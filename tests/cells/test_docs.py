"""The page on cells says what the classes say."""

import re
from pathlib import Path

import jax

from rnn_compare.cells import CELLS
from rnn_compare.config import of_cells
from rnn_compare.workdir.runs import KERAS

PAGE = Path(__file__).parents[2] / "docs" / "cells.md"


def row(name):
    """A line of the table: name, what it is, parameters at 16 units and one input, and what it is made with."""
    cell = CELLS[name](units=16)
    about = re.match(r"(?:[^(:;.]|\([^)]*\))*", type(cell).__doc__)[0].replace("\n", " ")
    start = jax.eval_shape(lambda: {k: init(jax.random.key(0)) for k, init in cell.parameters(1).items()})
    own = {key: getattr(cell, key.partition(".")[2], None) for key in of_cells()}
    made = [
        f"`{key}` {v}" for key, v in getattr(CELLS[name], "keywords", {}).items() if f"model.{key}" not in of_cells()
    ]
    made += [f"`{key.partition('.')[2]}` {v}" for key, v in own.items() if v is not None and v != KERAS.get(key)]
    return f"| `{name}` | {about} | {sum(a.size for a in start.values())} | {', '.join(made)} |"


def test_every_cell_is_in_the_table_and_nothing_else():
    listed = re.findall(r"^\| `.*$", PAGE.read_text(), re.MULTILINE)
    assert "\n".join(listed) == "\n".join(map(row, CELLS))
