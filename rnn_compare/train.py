"""Training a cohort: runs of the same shapes, stacked on a leading axis and trained by one compiled program.

Axis sizes: R runs, T time, B batch.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict, FrozenConfigDict

from rnn_compare import optimizers
from rnn_compare.config import KEYS, leaves, set_value
from rnn_compare.data import Batch, make_batch
from rnn_compare.model import Model, losses, make_model
from rnn_compare.optimizers import Hyper, Recipe

# A run's random numbers come from one root key; each purpose folds in its own constant.
DATA, WEIGHTS, HELD_OUT = 0, 1, 2

METRICS = ("loss", "loss/flat", "loss/short", "loss/long", "grad_norm")


class TrainState(struct.PyTreeNode):
    """All that an update changes or reads besides the batch; a cohort's leaves have a leading axis R.

    Attributes:
        params: the model's parameters.
        opt_state: the optimizer's state.
        hyper: the optimizer's numbers.
        before: the parameters before the last update.
        finite: false from the first epoch on whose loss or gradient is not finite; such a run stands still, with the
            last parameters that gave a finite loss and gradient.
    """

    params: Any
    opt_state: Any
    hyper: Hyper
    before: Any
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


def init_batch(config: ConfigDict, seed: int, purpose: int = DATA) -> Batch:
    """The data of one run: those it trains on, or as many for another purpose."""
    make = jax.jit(make_batch, static_argnames="config")
    return make(jax.random.fold_in(jax.random.key(seed), purpose), config=FrozenConfigDict(config.data))


def init_state(config: ConfigDict, seed: int) -> TrainState:
    """The state of one run before its first epoch."""
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
    return model.init(key, jnp.zeros((1, 1, model.cell.features)))["params"]


def recipe(config: ConfigDict) -> Recipe:
    """The config's optimizer, less its numbers."""
    return Recipe(config.optimizer.name, config.optimizer.clip, config.optimizer.schedule, config.train.epochs)


def gradients(params: Any, batch: Batch, model: Model) -> tuple[jax.Array, Any]:
    """The heavy half of one run's training step: forward and backward over the whole batch. Pure.

    Returns:
        Each output's mean squared error [7], and the gradients of the loss, shaped as `params`.
    """

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        errors: Any = model.apply({"params": params}, *batch, method="squared_error")
        return losses(errors)["loss"], errors

    (_, errors), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return errors, grads


def update(
    state: TrainState, errors: jax.Array, grads: Any, optimizer: Recipe
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The light half: clip, the update rule, and what is logged. Pure.

    Returns:
        The new state, and the metrics of the parameters before the update. `grad_norm` is that before clipping.
    """
    metrics = losses(errors) | {"grad_norm": optax.tree.norm(grads)}
    updates, opt_state = optimizers.make(optimizer, state.hyper).update(grads, state.opt_state, state.params)
    finite = state.finite & jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    params = optax.apply_updates(state.params, updates)
    updated = state.replace(params=params, opt_state=opt_state, before=state.params, finite=finite)
    stopped = state.replace(params=state.before, finite=finite)
    state = jax.tree.map(partial(jnp.where, finite), updated, stopped)
    return state, {name: jnp.where(finite, value, jnp.nan) for name, value in metrics.items()}


def over_runs(function: Callable, count: jax.Array, fused: bool = False) -> Callable:
    """The function of one run as a function of stacked runs.

    On a GPU all runs are one wide computation. On a CPU they go one after the other through the same code, because
    XLA's sums over [R, ...] round differently for each R, and no bit of a run may depend on those beside it. Fused
    kernels keep the runs apart themselves.

    Args:
        function: of one run; arrays in, arrays out.
        count: how many runs are stacked, traced: XLA would compile a loop of one step into other code.
        fused: whether the function's arithmetic is all in fused kernels.
    """
    if fused or jax.default_backend() != "cpu":
        return jax.vmap(function)

    def one_by_one(*stacked: Any) -> Any:
        if stacked_runs(stacked) == 1:  # for the same reason, the loop must see more than one
            doubled = one_by_one(*jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), stacked))
            return jax.tree.map(lambda leaf: leaf[:1], doubled)

        def run(r: jax.Array, results: Any) -> Any:
            result = function(*jax.tree.map(lambda leaf: leaf[r], stacked))
            return jax.tree.map(lambda rows, row: rows.at[r].set(row), results, result)

        results = jax.eval_shape(jax.vmap(function), *stacked)
        return jax.lax.fori_loop(0, count, run, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), results))

    return one_by_one


def stacked_runs(tree: Any) -> int:
    """How many runs a tree of stacked arrays has, R."""
    return jax.tree.leaves(tree)[0].shape[0]


@partial(jax.jit, static_argnames=("model", "optimizer", "most"), donate_argnames="state")
def train_chunk(
    state: TrainState, batch: Batch, epochs: jax.Array, runs: jax.Array, model: Model, optimizer: Recipe, most: int
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Several epochs of a whole cohort in one dispatch.

    Args:
        state: the cohort's state, donated.
        batch: the cohort's data, leaves [R, T, B, ...].
        epochs: how many, a traced integer of at most `most`, so that a shorter last chunk recompiles nothing.
        runs: how many, R, traced as well; see `over_runs`.
        model: shared by the cohort.
        optimizer: shared by the cohort, less its numbers.
        most: rows of the metrics' buffers.

    Returns:
        The new state and the metrics [most, R], of which the first `epochs` rows are filled.
    """

    def on_one_device(state: TrainState, batch: Batch, epochs: jax.Array, runs: jax.Array) -> tuple:
        heavy = over_runs(partial(gradients, model=model), runs, fused=model.backend != "scan")
        light = over_runs(partial(update, optimizer=optimizer), runs)

        def epoch(i: jax.Array, carry: tuple) -> tuple:
            state, curves = carry
            state, metrics = light(state, *heavy(state.params, batch))
            return state, {name: curves[name].at[i].set(metrics[name]) for name in curves}

        curves = {name: jnp.full((most, *state.finite.shape), jnp.nan) for name in METRICS}
        return jax.lax.fori_loop(0, epochs, epoch, (state, curves))

    mesh = devices_for(stacked_runs(state))
    each = jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(P("runs"), P("runs"), P(), P()),
        out_specs=(P("runs"), P(None, "runs")),
        check_vma=False,
    )
    return each(state, batch, epochs, runs // mesh.size)


def devices_for(runs: int) -> Mesh:
    """The local devices that share a cohort, as many as its runs can be divided among evenly."""
    devices = jax.local_devices()
    most = max(n for n in range(1, len(devices) + 1) if runs % n == 0)
    return Mesh(np.array(devices[:most]), ("runs",))


def program(config: ConfigDict, runs: int) -> Any:
    """The compiled training program of a cohort of so many runs, see `train_chunk`; nothing is computed."""
    alike = config.copy_and_resolve_references().unlock()
    for key, _ in leaves(config):
        if key in KEYS and KEYS[key].stacks:
            set_value(alike, key, KEYS[key].default)
    return _program(FrozenConfigDict(alike), runs)


@lru_cache(maxsize=16)  # what was compiled to know the memory need not be compiled again to train
def _program(config: FrozenConfigDict, runs: int) -> Any:
    shapes = jax.eval_shape(lambda: (init_state(config, 0), init_batch(config, 0)))
    placed = NamedSharding(devices_for(runs), P("runs"))
    state, batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype, sharding=placed), shapes
    )
    most = min(config.train.chunk, config.train.epochs)
    return train_chunk.lower(state, batch, 0, 0, make_model(config), recipe(config), most).compile()


def memory_needed(config: ConfigDict, runs: int) -> int:
    """Bytes that a cohort takes on each of its devices while it trains, read off the compiled program."""
    memory = program(config, runs).memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return used - memory.alias_size_in_bytes


class Cohort:
    """Runs on their way through training.

    Attributes:
        parameters: how many parameters each run has.
        epoch: how many epochs they have done.
    """

    def __init__(self, runs: list[tuple[ConfigDict, int]]):
        """Makes the data and the initial state of the (config, seed) pairs, which differ in stacking keys only."""
        config = runs[0][0]
        self._config = config
        placed = NamedSharding(devices_for(len(runs)), P("runs"))
        self._batch = jax.device_put(_stack([init_batch(config, seed) for config, seed in runs]), placed)
        self._state = jax.device_put(_stack([init_state(config, seed) for config, seed in runs]), placed)
        self.parameters = sum(leaf[0].size for leaf in jax.tree.leaves(self._state.params))
        self.epoch = 0

    @property
    def params(self) -> Any:
        """Their parameters, on the host; leaves [R, ...]."""
        return jax.device_get(self._state.params)

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that an epoch changes, on the host: name -> array [R, ...]."""
        leaves, _ = jax.tree.flatten_with_path(jax.device_get(self._state))
        return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}

    def restore(self, epoch: int, snapshot: dict[str, np.ndarray]) -> None:
        """Goes on after `epoch` epochs, from a snapshot of the same runs.

        Raises:
            ValueError: it is none of these runs.
        """
        state = self.snapshot()
        shapes, expected = ({k: (v.shape, v.dtype) for k, v in tree.items()} for tree in (snapshot, state))
        if shapes != expected:
            raise ValueError("the snapshot is of other runs")
        placed = jax.tree.leaves(self._state)[0].sharding
        leaves = [jax.device_put(snapshot[key], placed) for key in state]
        self._state, self.epoch = jax.tree.unflatten(jax.tree.structure(self._state), leaves), epoch

    def compile(self) -> None:
        """Compiles the training program, so that the first chunk is as fast as the others."""
        self._program = program(self._config, stacked_runs(self._state))

    def advance(self, epochs: int) -> dict[str, jax.Array]:
        """Dispatches up to `train.chunk` epochs of up to `train.epochs`; of the metrics' rows, `epochs` are filled."""
        self._state, curves = self._program(self._state, self._batch, epochs, stacked_runs(self._state))
        return curves

    def fit(self, stop_every: int) -> Iterator[Chunk]:
        """Trains up to the config's epochs, and yields each chunk when it is done.

        Args:
            stop_every: besides its own length, a chunk ends at every multiple of this many epochs.
        """
        train = self._config.train
        while self.epoch < train.epochs:
            start = self.epoch
            epochs = min(train.chunk, train.epochs - start, stop_every - start % stop_every)
            metrics = {name: curve[:epochs] for name, curve in jax.device_get(self.advance(epochs)).items()}
            self.epoch += epochs
            yield Chunk(start, metrics, self.params)


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
