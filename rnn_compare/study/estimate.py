"""How long a study will take, measured without training it."""

import time

import jax
from ml_collections import ConfigDict

from rnn_compare.training.trainer import Trainer


def seconds_per_epoch(config: ConfigDict) -> float:
    """How long one run takes for an epoch on this machine, measured."""
    trainer = Trainer([(config, 0)])
    trainer.compile()
    jax.block_until_ready(trainer.advance(1))
    start = time.perf_counter()
    jax.block_until_ready(trainer.advance(1))
    return time.perf_counter() - start
