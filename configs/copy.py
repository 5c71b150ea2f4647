"""copy: the league's ten best, and the LSTM, on the copy task with 50 steps between what is said and what is asked.

Command:  python -m rnn_compare.main --config=configs/copy.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: 15 minutes.
Result:   not run yet
"""

from rnn_compare import config as base

# By mean rank over ten seeds in experiments/cells.
TEN = (
    *("gru_reset_before", "lem", "gru", "lstm_multiplicative", "lstm_projected"),
    *("lstm_residual", "lstm_working_memory", "nbrc", "cfn", "mut2"),
)


def get_config():
    config = base.base()
    config.task.name = "copy"
    config.data.length = 50
    config.data.sequences = 50
    config.model.units = 32
    config.train.epochs = 3000
    config.train.chunk = 100
    config.seeds = 10
    config.sweep = {"model.cell": (*TEN, "lstm")}
    return config
