"""smoke: everything that post8 does, small enough for seconds.

Command:  python -m rnn_compare.main --config=configs/smoke.py
Hardware: anything.  Time: 20 seconds, most of it compiling.
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.data.sequences = 8
    config.data.length = 200
    config.train.epochs = 60
    config.log.histogram_every = 20
    config.claims.list = base.THE_POSTS
    config.sweep = {"model.cell": ("lstm", "gru")}
    config.speed.limit = 2.0
    return config
