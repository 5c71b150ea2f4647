"""Training a cohort: runs of the same shapes, stacked on a leading axis and trained by one compiled program.

Axis sizes: R runs, T time, B batch.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from ml_collections import ConfigDict, FrozenConfigDict

from rnn_compare import optimizers
from rnn_compare.data import Batch, make_batch
from rnn_compare.model import Model, losses, make_model
from rnn_compare.optimizers import Hyper

# A run's random numbers come from one root key; each purpose folds in its own constant.
DATA, WEIGHTS = 0, 1

METRICS = ("loss", "loss/flat", "loss/short", "loss/long", "grad_norm")


class TrainState(struct.PyTreeNode):
    """All that an update changes or reads besides the batch; a cohort's leaves have a leading axis R.

    Attributes:
        params: the model's parameters.
        opt_state: the optimizer's state.
        hyper: the optimizer's numbers.
        finite: false from the first epoch on whose loss or gradient is not finite; such a run stands still.
    """

    params: Any
    opt_state: Any
    hyper: Hyper
    finite: jax.Array


class Chunk(NamedTuple):
    """What the host sees of some epochs.

    Attributes:
        start: the first epoch of the chunk, counted from 0.
        metrics: name in `METRICS` -> values before each update, [epochs, R]; NaN once a run has diverged.
        params: the parameters after the chunk; leaves [R, ...].
    """

    start: int
    metrics: dict[str, np.ndarray]
    params: Any


def init_batch(config: ConfigDict, seed: int) -> Batch:
    """The data of one run."""
    make = jax.jit(make_batch, static_argnames="config")
    return make(jax.random.fold_in(jax.random.key(seed), DATA), config=FrozenConfigDict(config.data))


def init_state(config: ConfigDict, seed: int) -> TrainState:
    """The state of one run before its first epoch."""
    model = make_model(config)
    step = jnp.zeros((1, 1, config.data.window))
    init = jax.jit(lambda model, key: model.init(key, step)["params"], static_argnums=0)
    params = init(model, jax.random.fold_in(jax.random.key(seed), WEIGHTS))
    hyper = Hyper(
        learning_rate=jnp.float32(config.optimizer.learning_rate),
        clip_norm=jnp.float32(config.optimizer.clip_norm),
    )
    opt_state = optimizers.make(config.optimizer.name, hyper).init(params)
    return TrainState(params, opt_state, hyper, jnp.array(True))


def train_step(
    state: TrainState, batch: Batch, model: Model, optimizer: str
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One epoch of one run: a full-batch update. Pure.

    Returns:
        The new state, and the metrics of the parameters before the update. `grad_norm` is that before clipping.
    """

    def loss(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        errors: Any = model.apply({"params": params}, *batch, method="squared_error")
        parts = losses(errors)
        return parts["loss"], parts

    (_, metrics), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
    metrics["grad_norm"] = optax.tree.norm(grads)
    updates, opt_state = optimizers.make(optimizer, state.hyper).update(grads, state.opt_state, state.params)
    finite = state.finite & jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    updated = state.replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)
    state = jax.tree.map(partial(jnp.where, finite), updated, state).replace(finite=finite)
    return state, {name: jnp.where(finite, value, jnp.nan) for name, value in metrics.items()}


@partial(jax.jit, static_argnames=("model", "optimizer", "most"), donate_argnames="state")
def train_chunk(
    state: TrainState, batch: Batch, epochs: jax.Array, model: Model, optimizer: str, most: int
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Several epochs of a whole cohort in one dispatch.

    Args:
        state: the cohort's state, donated.
        batch: the cohort's data, leaves [R, T, B, ...].
        epochs: how many, a traced integer of at most `most`, so that a shorter last chunk recompiles nothing.
        model: shared by the cohort.
        optimizer: its name, shared by the cohort.
        most: rows of the metrics' buffers.

    Returns:
        The new state and the metrics [most, R], of which the first `epochs` rows are filled.
    """
    step = jax.vmap(partial(train_step, model=model, optimizer=optimizer))

    def epoch(i: jax.Array, carry: tuple) -> tuple:
        state, curves = carry
        state, metrics = step(state, batch)
        return state, {name: curves[name].at[i].set(metrics[name]) for name in curves}

    curves = {name: jnp.full((most, *state.finite.shape), jnp.nan) for name in METRICS}
    return jax.lax.fori_loop(0, epochs, epoch, (state, curves))


class Cohort:
    """Runs on their way through training.

    Attributes:
        parameters: how many parameters each run has.
    """

    def __init__(self, runs: list[tuple[ConfigDict, int]]):
        """Makes the data and the initial state of the (config, seed) pairs, which differ in stacking keys only."""
        config = runs[0][0]
        self._model = make_model(config)
        self._train = config.train
        self._optimizer = config.optimizer.name
        self._batch = _stack([init_batch(config, seed) for config, seed in runs])
        self._state = _stack([init_state(config, seed) for config, seed in runs])
        self.parameters = sum(leaf[0].size for leaf in jax.tree.leaves(self._state.params))

    def compile(self) -> None:
        """Compiles the training program, so that the first chunk is as fast as the others."""
        self._program = train_chunk.lower(
            self._state, self._batch, 0, self._model, self._optimizer, self._train.chunk
        ).compile()

    def advance(self, epochs: int) -> dict[str, jax.Array]:
        """Dispatches up to `train.chunk` epochs; the metrics, [chunk, R], are filled up to `epochs`."""
        self._state, curves = self._program(self._state, self._batch, epochs)
        return curves

    def fit(self, stop_every: int) -> Iterator[Chunk]:
        """Trains for the config's epochs, and yields each chunk when it is done.

        Args:
            stop_every: besides its own length, a chunk ends at every multiple of this many epochs.
        """
        start = 0
        while start < self._train.epochs:
            epochs = min(self._train.chunk, self._train.epochs - start, stop_every - start % stop_every)
            metrics = {name: curve[:epochs] for name, curve in jax.device_get(self.advance(epochs)).items()}
            yield Chunk(start, metrics, jax.device_get(self._state.params))
            start += epochs


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
