"""What a run starts with: its data and its initial state, from its seed.

The processor makes them, also where JAX computes on a GPU: the same bits, and a GPU's compiler takes seconds for each
initializer.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.network.model import Model, make_model
from rnn_compare.tasks import Task, make_task
from rnn_compare.tasks.task import Batch
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import Hyper, Recipe
from rnn_compare.training.step import TrainState

# A run's random numbers come from one root key; each purpose folds in its own constant.
DATA, WEIGHTS, HELD_OUT, CHOICE = 0, 1, 2, 3


class Source(NamedTuple):
    """What a run draws its batches from, a new one for each update.

    Of a cohort's, leaves have a leading axis R, but for those of a task that is `shared`.

    Attributes:
        task: the task.
        key: the data of a JAX random key.
        epoch: how many updates have been made.
    """

    task: Task
    key: jax.Array
    epoch: jax.Array

    def batch(self, later: jax.Array) -> Batch:
        """That of the update that comes so many later."""
        return self.task.batch(jax.random.fold_in(jax.random.wrap_key_data(self.key), self.epoch + later))


def on_host() -> AbstractContextManager:
    """Where what is computed is computed by the processor, if JAX has it."""
    if jax.default_backend() == "cpu":
        return nullcontext()
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # of platforms it was given others only
        return nullcontext()


def data_program(task: Task) -> Any:
    """The compiled `batch` of tasks of a size; their numbers are traced, so it is one for all of them."""
    leaves, structure = jax.tree.flatten(task)
    types = tuple(None if isinstance(leaf, float) else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    return _data_program(structure, types)


@cache
def _data_program(structure: Any, types: tuple[Any, ...]) -> Any:
    task = jax.tree.unflatten(structure, [1.0 if type_ is None else type_ for type_ in types])
    with on_host():
        return jax.jit(lambda key, task: task.batch(key)).lower(jax.random.key(0), task).compile()


def init_batch(config: ConfigDict, seed: int, purpose: int = DATA) -> Batch:
    """The data of one run: those it trains on, or as many for another purpose."""
    task = make_task(config)
    if purpose != DATA:
        task = task.judged() if purpose == HELD_OUT else task.choosing()
    make = data_program(task)
    with on_host():
        return make(jax.random.fold_in(jax.random.key(seed), purpose), task)


def init_data(config: ConfigDict, seed: int) -> Batch | Source:
    """What a run trains on: its batch, or what each update draws one from."""
    task = make_task(config)
    if not task.fresh:
        return init_batch(config, seed)
    return source(task, jax.random.fold_in(jax.random.key(seed), DATA))


def source(task: Task, key: jax.Array) -> Source:
    """What draws a task's batches from a key, before the first update."""
    return Source(task, jax.random.key_data(key), jnp.int32(0))


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
