"""Runs trained to their end in a test."""

import numpy as np

from rnn_compare.training.trainer import Trainer


def fit(runs, stop_every=1000, restored=None):
    """A cohort's curves [epochs, R] by name, and its last parameters; from a snapshot (epoch, arrays) on, or anew."""
    cohort = Trainer(runs)
    if restored:
        cohort.restore(*restored)
    cohort.compile()
    chunks = list(cohort.fit(stop_every))
    return {name: np.concatenate([c.metrics[name] for c in chunks]) for name in chunks[0].metrics}, chunks[-1].params


def snapshot(runs, epochs):
    """A cohort after so many epochs: what `fit` can be restored from."""
    cohort = Trainer(runs)
    cohort.compile()
    while cohort.epoch < epochs:
        next(cohort.fit(epochs))
    return cohort.epoch, cohort.snapshot()
