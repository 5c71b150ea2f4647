"""Shared fixtures. Keras runs on JAX here, and must be told before it is imported."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import numpy as np
import pytest

from rnn_compare import config as base


@pytest.fixture
def x64():
    """Double precision inside the test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def tiny():
    """A config that trains in a blink; to be changed by the test, then validated."""
    config = base.base()
    config.data.sequences = 3
    config.data.length = 20
    config.data.lookahead = 5
    config.model.units = 4
    config.train.epochs = 7
    config.train.chunk = 3
    config.log.histogram_every = 5
    return config


@pytest.fixture
def pair(tiny):
    """A study of both cells."""
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    return tiny


@pytest.fixture
def assert_same_results():
    """Compares what two workdirs hold of the runs of these names, but for the times it took."""

    def compare(a, b, names):
        for name in names:
            assert (a / name / "run.json").read_text() == (b / name / "run.json").read_text()
            for file in ("curves.npz", "params.npz"):
                left, right = np.load(a / name / file), np.load(b / name / file)
                for key in set(left.files) - {"seconds_per_epoch"}:
                    np.testing.assert_array_equal(left[key], right[key])

    return compare
