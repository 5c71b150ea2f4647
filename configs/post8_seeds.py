"""post8_seeds: post8 with 14 seeds, from each of which the data and the initial weights are drawn.

Command:  python -m rnn_compare.main --config=configs/post8_seeds.py
Hardware: 2 CPU cores, 3 GB of memory.  Time: 30 minutes.
Result:   experiments/post8_seeds/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 14  # a claim needs ten pairs that finished, and some LSTMs diverge
    config.claims.list = base.THE_POSTS
    config.sweep = {"model.cell": ("lstm", "gru")}
    config.speed.limit = 300.0
    return config
