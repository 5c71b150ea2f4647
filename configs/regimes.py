"""regimes: periods × discount × cost × window, at a size that fits, asking where each claim holds.

Command:  python -m rnn_compare.main --config=configs/regimes.py
Hardware: 2 CPU cores, 2 GB of memory.  Time: 12 minutes.
Result:   experiments/regimes/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 10
    config.data.length = 1000
    config.train.epochs = 500
    config.claims.list = base.THE_POSTS
    config.sweep = {
        "model.cell": ("lstm", "gru"),
        "data.periods": ((40, 200), (20, 100)),
        "data.discount": (0.95, 0.985),
        "data.trade_cost": (0.3, 0.7),
        "data.window": (1, 4),
    }
    return config
