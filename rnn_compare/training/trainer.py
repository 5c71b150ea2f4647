"""Stacked runs on their way through training."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from rnn_compare.training.program import devices_for, parts, places, program, stacked_runs
from rnn_compare.training.start import Source, init_data, init_state


class Chunk(NamedTuple):
    """What the host sees of some epochs.

    Attributes:
        start: the first epoch of the chunk, counted from 0.
        metrics: name in `Model.metrics` -> values before each update, [epochs, R]; NaN once a run has diverged.
        params: the parameters after the chunk; leaves [R, ...].
    """

    start: int
    metrics: dict[str, np.ndarray]
    params: Any


class Trainer:
    """Runs of the same shapes on their way through training, stacked on a leading axis R.

    Attributes:
        parameters: how many parameters each run has.
        epoch: how many epochs they have done.
    """

    def __init__(self, runs: list[tuple[ConfigDict, int]]):
        """Makes the data and the initial state of the (config, seed) pairs, which differ in stacking keys only."""
        config = runs[0][0]
        self._config = config
        mesh, data = devices_for(len(runs)), [init_data(config, seed) for config, seed in runs]
        where = places(data[0])
        cohort = jax.tree.map(lambda place, *parts: _stack(parts) if place else parts[0], where, *data)
        self._data = jax.device_put(cohort, jax.tree.map(lambda place: NamedSharding(mesh, place), where))
        states = _stack([init_state(config, seed) for config, seed in runs])
        self._state = jax.device_put(states, NamedSharding(mesh, P("runs")))
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
        """Compiles the training program, one for each part of the training, so that no chunk waits for it."""
        runs = stacked_runs(self._state)
        self._programs = {begin: program(self._config, runs, steps) for begin, _, steps in parts(self._config)}

    def advance(self, epochs: int) -> dict[str, jax.Array]:
        """Dispatches up to `train.chunk` epochs of up to `train.epochs`; of the metrics' rows, `epochs` are filled."""
        data = self._data
        if isinstance(data, Source):
            data = data._replace(epoch=jnp.full_like(data.epoch, self.epoch))
        train = self._programs[max(begin for begin in self._programs if begin <= self.epoch)]
        self._state, curves = train(self._state, data, epochs, stacked_runs(self._state))
        return curves

    def fit(self, *stop_every: int) -> Iterator[Chunk]:
        """Trains up to the config's epochs, and yields each chunk when it is done.

        Args:
            stop_every: besides its own length and where `train.lengths` changes, a chunk ends at every multiple of
                these numbers of epochs.
        """
        ends = [end for _, end, _ in parts(self._config)]
        while self.epoch < ends[-1]:
            start = self.epoch
            until = min(end for end in ends if end > start)
            epochs = min(self._config.train.chunk, until - start, *(every - start % every for every in stop_every))
            metrics = {name: curve[:epochs] for name, curve in jax.device_get(self.advance(epochs)).items()}
            self.epoch += epochs
            yield Chunk(start, metrics, self.params)


def _stack(trees: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
