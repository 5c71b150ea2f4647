"""indrnn: the adding problem with 1,000 steps, as in the example of github.com/batzner/indrnn.

Command:  python -m rnn_compare.main --config=experiments/published/indrnn.py
Hardware: 2 CPU cores, 1 GB of memory.  Time: see README.md.
"""

from jax.nn import initializers

from rnn_compare import config as base
from rnn_compare.cells.initializers import MATRICES

T = 1000
MATRICES |= {"normal_0.001": initializers.normal(0.001), "ones": initializers.ones}


def get_config():
    """Two layers, whose recurrent weights start at one and stay within the bound."""
    config = base.base()
    config.task.name = "adding"
    config.data.length, config.data.sequences = T, 50
    config.model.cell, config.model.units, config.model.layers = "indrnn", 128, 2
    config.model.kernel_init, config.model.recurrent_init, config.model.bound = "normal_0.001", "ones", 2 ** (1 / T)
    config.optimizer.learning_rate, config.optimizer.clip = 0.0002, "none"
    config.train.epochs, config.train.chunk = 10_000, 100
    return config
