import io

import numpy as np
import pytest
from rich.console import Console

from rnn_compare.console import terminal
from rnn_compare.study import board as module


@pytest.fixture
def screen(monkeypatch):
    """What is printed, on a stream that is no terminal."""
    stream = io.StringIO()
    for place in (terminal, module):
        monkeypatch.setattr(place, "console", Console(file=stream, highlight=False, markup=False, soft_wrap=True))
    return stream


def test_without_a_terminal_the_board_says_a_line_now_and_then(screen, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    tallies = iter(["1 finished, 0 failed", "3 finished, 0 failed"])
    rows = [module.Row("lstm-s0", 2, 100), module.Row("gru-s0", 1, 100)]
    with module.Board(rows, lambda: next(tallies)) as board:
        board.state(0, "preparing")
        now[0] = 5.0
        board.train(0, 20)  # goes on from epoch 20; what came before is not counted
        for now[0], epoch in ((6.0, 30), (35.0, 50), (45.0, 100)):  # the first is too soon for a line
            board.train(0, epoch, np.array([1.5, np.nan]))
        board.state(0, "done", ended=True)
        board.state(1, "preparing")
        board.train(1, 0)
        now[0] = 85.0
        board.train(1, 40, np.array([0.5]))
    assert screen.getvalue().splitlines() == [
        "lstm-s0: epoch 50 of 100, loss 1.5000 (median of 1), 2.0 run-epochs/s, 50 s left; "
        "cohorts 0/2, runs 1 finished, 0 failed, all 1.9 min left",
        "lstm-s0: epoch 100 of 100, loss 1.5000 (median of 1), 4.0 run-epochs/s, 0 s left; "
        "cohorts 0/2, runs 1 finished, 0 failed, all 28 s left",
        "gru-s0: epoch 40 of 100, loss 0.5000, 1.0 run-epochs/s, 60 s left; "
        "cohorts 1/2, runs 3 finished, 0 failed, all 26 s left",
    ]


def test_on_a_terminal_the_board_is_a_table_of_the_cohorts_around_the_one_at_work(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=stream, force_terminal=True, width=120))
    with module.Board([module.Row(f"cohort-{i}", 3, 10) for i in range(40)], lambda: "60 finished, 3 failed") as board:
        for i in range(20):
            board.state(i, "done", ended=True)
        board.state(20, "preparing")
        board.train(20, 0)
        board.train(20, 5, np.array([1.0, 3.0, 2.0]))
        stream.truncate(0)
    shown = stream.getvalue()
    assert [f"cohort-{i} " in shown for i in (15, 16, 27, 28)] == [False, True, True, False]
    for word in (
        "5/10",
        "2.0000 (median of 3)",
        "training",
        "done",
        "waiting",
        "60 finished, 3 failed",
        "cohorts 20/40",
    ):
        assert word in shown
