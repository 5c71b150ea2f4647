"""post8: an LSTM and a GRU of 16 units on 40 sequences of 20,000 steps, 1000 epochs.

Command:  python -m rnn_compare.main --config=configs/post8.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: 2 minutes, and up to 1 more to measure the cells' speed.
Result:   experiments/post8/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.claims.list = base.THE_POSTS
    config.sweep = {"model.cell": ("lstm", "gru")}
    config.speed.limit = 60.0
    return config
