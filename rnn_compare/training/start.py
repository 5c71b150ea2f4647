"""What a run starts with: its data and its initial state, from its seed.

The processor makes them, also where JAX computes on a GPU: the same bits, and a GPU's compiler takes seconds for each
initializer.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.network.model import Model, make_model
from rnn_compare.tasks.price import Batch, Price, make_batch
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import Hyper, Recipe
from rnn_compare.training.step import TrainState

# A run's random numbers come from one root key; each purpose folds in its own constant.
DATA, WEIGHTS, HELD_OUT = 0, 1, 2


def on_host() -> AbstractContextManager:
    """Where what is computed is computed by the processor, if JAX has it."""
    if jax.default_backend() == "cpu":
        return nullcontext()
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # of platforms it was given others only
        return nullcontext()


@cache
def data_program(sequences: int, length: int, window: int, lookahead: int) -> Any:
    """The compiled `make_batch` for a config's sizes; the numbers are traced, so it is one for all of them."""
    price = Price((1.0, 1.0), 1.0, 1.0, 1.0, 1.0, 1.0, sequences, length, window, lookahead)
    with on_host():
        return jax.jit(make_batch).lower(jax.random.key(0), price).compile()


def init_batch(config: ConfigDict, seed: int, purpose: int = DATA) -> Batch:
    """The data of one run: those it trains on, or as many for another purpose."""
    data = config.data
    make = data_program(data.sequences, data.length, data.window, data.lookahead)
    with on_host():
        return make(jax.random.fold_in(jax.random.key(seed), purpose), Price(**data))


def init_state(config: ConfigDict, seed: int) -> TrainState:
    """The state of one run before its first epoch."""
    with on_host():
        params = init_params(jax.random.fold_in(jax.random.key(seed), WEIGHTS), make_model(config))
    hyper = Hyper(
        learning_rate=jnp.float32(config.optimizer.learning_rate),
        clip_norm=jnp.float32(config.optimizer.clip_norm),
    )
    opt_state = optimizers.make(recipe(config), hyper).init(params)
    return TrainState(params, opt_state, hyper, params, jnp.array(True))


@partial(jax.jit, static_argnames="model")
def init_params(key: jax.Array, model: Model) -> Any:
    """The model's initial parameters."""
    return model.init(key, jnp.zeros((1, 1, model.features)))["params"]


def recipe(config: ConfigDict) -> Recipe:
    """The config's optimizer, less its numbers."""
    return Recipe(config.optimizer.name, config.optimizer.clip, config.optimizer.schedule, config.train.epochs)
