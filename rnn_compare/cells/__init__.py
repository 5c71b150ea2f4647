"""Recurrent cells, ONE step each, and the parameters that they start with. Time is the business of `recurrence`.

To add a cell, subclass `RecurrentCell`, say what one step does, and give it a line in `CELLS`.
"""

from collections.abc import Callable
from functools import partial

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, matmul, project, recur
from rnn_compare.cells.gru import GRUCell
from rnn_compare.cells.lstm import LSTMCell

CELLS: dict[str, Callable[..., RecurrentCell]] = {
    "lstm": LSTMCell,
    "gru": GRUCell,
    "gru_reset_before": partial(GRUCell, reset_after=False),
}

__all__ = ["CELLS", "Carry", "GRUCell", "LSTMCell", "Params", "RecurrentCell", "matmul", "project", "recur"]
