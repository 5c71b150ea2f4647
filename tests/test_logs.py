import io

import numpy as np
import pytest
from rich.console import Console

from rnn_compare import logs


@pytest.fixture
def screen(monkeypatch):
    """What is printed, on a stream that is no terminal."""
    stream = io.StringIO()
    monkeypatch.setattr(logs, "console", Console(file=stream, highlight=False, markup=False, soft_wrap=True))
    return stream


def test_progress_without_a_terminal_says_a_line_now_and_then(screen, monkeypatch):
    clock = iter([0.0, 1.0, 31.0, 40.0])
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(clock))
    with logs.Progress("lstm-s0", 100, 2, "3 finished") as progress:
        progress.update(10, np.array([2.0]))  # too soon for a line
        progress.update(50, np.array([1.5]))
        progress.update(100, np.array([1.0]))
    assert screen.getvalue().splitlines() == [
        "lstm-s0: epoch 50 of 100, loss 1.5000, 3.2 run-epochs/s, 31 s left; before it 3 finished",
        "lstm-s0: epoch 100 of 100, loss 1.0000, 5.0 run-epochs/s, 0 s left; before it 3 finished",
    ]


def test_progress_of_a_stack_shows_the_median_of_the_living(screen):
    with logs.Progress("all", 10, 4, "") as progress:
        progress.update(10, np.array([1.0, np.nan, 3.0, 2.0]))
    assert "loss 2.0000 (median of 3)" in screen.getvalue()
