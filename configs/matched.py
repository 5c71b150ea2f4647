"""matched: three cells at 16 units, and with some 2,000 parameters each; six contestants, ten seeds.

Command:  python -m rnn_compare.main --config=configs/matched.py
Hardware: 2 CPU cores, 3 GB of memory.  Time: 15 minutes.
Result:   experiments/matched/README.md
"""

from rnn_compare import config as base


def get_config():
    config = base.base()
    config.seeds = 10
    config.data.length = 5000
    config.train.epochs = 500
    config.sweep = {
        "model.cell,model.units": (
            *(("lstm", 16), ("gru", 16), ("gru_reset_before", 16)),
            *(("lstm", 20), ("gru", 23), ("gru_reset_before", 23)),
        )
    }
    config.speed.limit = 60.0
    return config
