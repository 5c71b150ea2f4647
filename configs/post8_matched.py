"""post8_matched: post8_seeds with cells of one size. The post's GRU has fewer parameters: does it end lower for that?

A GRU of 19 units has 1,394 parameters, an LSTM of 16 has 1,335.

Command:  python -m rnn_compare.main --config=configs/post8_matched.py
Hardware: 2 CPU cores, 3 GB of memory.  Time: 45 minutes.
Result:   experiments/post8_matched/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 14
    config.model.parameters = 1335
    config.claims.list = base.THE_POSTS
    config.sweep = {"model.cell": ("lstm", "gru")}
    config.speed.limit = 300.0
    return config
