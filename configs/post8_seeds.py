"""post8_seeds: post8 ten times over, the data and the initial weights both drawn from the seed.

Command:  python -m rnn_compare.main --config=configs/post8_seeds.py
Hardware: 2 CPU cores, 2 GB of memory.  Time: 25 minutes.
Result:   experiments/post8_seeds/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 10
    config.sweep = {"model.cell": ("lstm", "gru")}
    config.speed.limit = 120.0
    return config
