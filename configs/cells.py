"""cells: the league, every cell of the package beside all others, ten seeds each, on the post's data.

Command:  python -m rnn_compare.main --config=configs/cells.py
Hardware: 2 CPU cores, 2 GB of memory.  Time: 85 minutes.
Result:   experiments/cells/README.md
"""

from rnn_compare import config as base
from rnn_compare.cells import CELLS


def get_config():
    config = base.base()
    config.seeds = 10
    config.data.length = 3000
    config.train.epochs = 500
    config.sweep = {"model.cell": tuple(CELLS)}
    config.speed.limit = 120.0
    return config
