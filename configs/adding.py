"""adding: the league's ten best, and the LSTM, on the adding problem with 200 steps.

Command:  python -m rnn_compare.main --config=configs/adding.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: 25 minutes, idle.
Result:   experiments/adding/README.md
"""

from rnn_compare import config as base

# By mean rank over ten seeds in experiments/cells.
TEN = (
    *("gru_reset_before", "lem", "gru", "lstm_multiplicative", "lstm_projected"),
    *("lstm_residual", "lstm_working_memory", "nbrc", "cfn", "mut2"),
)


def get_config():
    config = base.base()
    config.task.name = "adding"
    config.data.length = 200
    config.data.sequences = 50
    config.model.units = 32
    config.train.epochs = 3000
    config.train.chunk = 100
    config.seeds = 10
    config.sweep = {"model.cell": (*TEN, "lstm")}
    return config
