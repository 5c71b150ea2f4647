"""Shared fixtures. Keras runs on JAX here, and must be told before it is imported."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
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
