"""post8_league: the league's best six cells, its worst two and the LSTM at the post's full size, five seeds each.

Command:  python -m rnn_compare.main --config=configs/post8_league.py
Hardware: 2 CPU cores, 3 GB of memory.  Time: 75 minutes.
Result:   experiments/post8_league/README.md
"""

from rnn_compare import config as base

# By mean rank over ten seeds in experiments/cells.
BEST = "gru_reset_before", "lem", "gru", "lstm_multiplicative", "lstm_residual", "lstm_projected"
WORST = "lstm_noaf", "lru"


def get_config():
    config = base.base()
    config.seeds = 5
    config.sweep = {"model.cell": (*BEST, "lstm", *WORST)}
    config.speed.limit = 120.0
    return config
