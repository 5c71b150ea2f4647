"""table: your own data, an LSTM against a GRU. Give the file, and what of it is to be told how far ahead.

Command:  python -m rnn_compare.main --config=configs/table.py --config.task.path=FILE
Hardware: 2 CPU cores.  Time: 1 minute with the file that ships with it.
Result:   docs/tasks.md says what may be asked of a file.
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.task.name = "table"
    config.task.path = "configs/glucose.csv.gz"
    config.data.length = 256
    config.data.sequences = 32
    config.train.epochs = 1000
    config.train.chunk = 50
    config.seeds = 3
    config.compare.measure = "held_out_loss"
    config.sweep = {"model.cell": ("lstm", "gru")}
    return config
