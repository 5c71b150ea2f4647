import pytest

from rnn_compare.config import validate
from rnn_compare.study.board import Board, Row
from rnn_compare.workdir.runs import Run


@pytest.fixture
def cohort(tiny):
    """Makes a cohort of runs with these names."""
    config = validate(tiny)
    return lambda *names: [Run(name, {}, seed, config) for seed, name in enumerate(names)]


@pytest.fixture
def board():
    """A board for up to five cohorts."""
    with Board([Row(str(i), 1, 7) for i in range(5)], lambda: "") as board:
        yield board
