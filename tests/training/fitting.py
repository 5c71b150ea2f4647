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


def assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(config, at=(3,)):
    """Of a run: cut otherwise, beside another, and gone on with after so many epochs."""
    alone, _ = fit([(config, 1)])
    chopped, _ = fit([(config, 1)], stop_every=2)
    beside, _ = fit([(config, 0), (config, 1)])
    rests = {epoch: fit([(config, 1)], restored=snapshot([(config, 1)], epoch))[0] for epoch in at}
    for name, curve in alone.items():
        np.testing.assert_array_equal(curve, chopped[name])
        np.testing.assert_array_equal(curve[:, 0], beside[name][:, 1])
        for epoch, rest in rests.items():
            np.testing.assert_array_equal(curve[epoch:], rest[name])
