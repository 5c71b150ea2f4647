"""The compiled program that trains stacked runs: many epochs per dispatch, on all local devices.

Axis sizes: R runs, T time, B batch.
"""

import gc
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict, FrozenConfigDict

from rnn_compare.config import KEYS, leaves, set_value
from rnn_compare.network.model import Model, make_model
from rnn_compare.tasks import make_task
from rnn_compare.tasks.task import Batch
from rnn_compare.training.optimizers import Recipe
from rnn_compare.training.start import Source, init_state, recipe, source
from rnn_compare.training.step import TrainState, gradients, gradients_onward, update

MOST_MAPPINGS = 65_530


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


@partial(jax.jit, static_argnames=("model", "optimizer", "most", "bptt", "steps"), donate_argnames="state")
def train_chunk(
    state: TrainState,
    data: Batch | Source,
    epochs: jax.Array,
    runs: jax.Array,
    model: Model,
    optimizer: Recipe,
    most: int,
    bptt: int = 0,
    steps: int = 0,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Several epochs of a whole cohort in one dispatch.

    Args:
        state: the cohort's state, donated.
        data: the cohort's batches, leaves [R, T, B, ...], or what each epoch draws them from.
        epochs: how many, a traced integer of at most `most`, so that a shorter last chunk recompiles nothing.
        runs: how many, R, traced as well; see `over_runs`.
        model: shared by the cohort.
        optimizer: shared by the cohort, less its numbers.
        most: rows of the metrics' buffers.
        bptt: steps after which an update is made; 0 for one after all of them. Metrics are means over an epoch's.
        steps: that are trained on, the first ones of each sequence; 0 for all of them.

    Returns:
        The new state and the metrics [most, R], of which the first `epochs` rows are filled.
    """

    def on_one_device(state: TrainState, data: Batch | Source, epochs: jax.Array, runs: jax.Array) -> tuple:
        heavy = over_runs(partial(gradients, model=model), runs, fused=model.backend != "scan")
        light = over_runs(partial(update, optimizer=optimizer, model=model), runs)

        def in_parts(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
            onward = over_runs(partial(gradients_onward, model=model), runs, fused=model.backend != "scan")
            (R, T, B, _), dtype = batch.inputs.shape, batch.inputs.dtype
            start = model.carry(B, dtype)
            start = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (R, *leaf.shape)), start)

            def part(j: jax.Array, going: tuple) -> tuple:
                state, carry, sums = going
                own = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, j * bptt, bptt, 1), batch)
                errors, grads, carry = onward(state.params, own, carry)
                state, metrics = light(state, errors, grads)
                return state, carry, {name: sums[name] + metrics[name] for name in sums}

            sums = {name: jnp.zeros(state.finite.shape) for name in model.metrics}
            state, _, sums = jax.lax.fori_loop(0, T // bptt, part, (state, start, sums))
            return state, {name: total / (T // bptt) for name, total in sums.items()}

        def epoch(i: jax.Array, carry: tuple) -> tuple:
            state, curves = carry
            batch = drawn(data, i, runs) if isinstance(data, Source) else data
            if steps:
                batch = jax.tree.map(lambda leaf: leaf[:, :steps], batch)
            if bptt:
                state, metrics = in_parts(state, batch)
            else:
                state, metrics = light(state, *heavy(state.params, batch))
            return state, {name: curves[name].at[i].set(metrics[name]) for name in curves}

        curves = {name: jnp.full((most, *state.finite.shape), jnp.nan) for name in model.metrics}
        return jax.lax.fori_loop(0, epochs, epoch, (state, curves))

    mesh = devices_for(stacked_runs(state))
    each = jax.shard_map(
        on_one_device,
        mesh=mesh,
        in_specs=(P("runs"), places(data), P(), P()),
        out_specs=(P("runs"), P(None, "runs")),
        check_vma=False,
    )
    return each(state, data, epochs, runs // mesh.size)


def drawn(source: Source, later: jax.Array, runs: jax.Array) -> Batch:
    """The batches of a cohort, [R, T, B, ...], of the update that comes so many later."""
    if not source.task.shared:
        return over_runs(lambda source: source.batch(later), runs)(source)
    own = source.key, source.epoch
    return over_runs(lambda key, epoch: Source(source.task, key, epoch).batch(later), runs)(*own)


def devices_for(runs: int) -> Mesh:
    """The local devices that share a cohort, as many as its runs can be divided among evenly."""
    devices = jax.local_devices()
    most = max(n for n in range(1, len(devices) + 1) if runs % n == 0)
    return Mesh(np.array(devices[:most]), ("runs",))


def places(data: Batch | Source) -> Any:
    """Which arrays of a cohort's data have an axis of runs, that is shared out among devices: a prefix of the tree."""
    if isinstance(data, Source) and data.task.shared:
        return Source(P(), P("runs"), P("runs"))  # type: ignore[arg-type]
    return P("runs")


def shapes(config: ConfigDict, runs: int) -> tuple[TrainState, Batch | Source]:
    """What a cohort of so many runs trains with: shapes, types and places, and no numbers."""
    task = make_task(config)
    key = jax.random.key(0)
    one = jax.eval_shape(lambda: (init_state(config, 0), source(task, key) if task.fresh else task.batch(key)))
    mesh, (state, data) = devices_for(runs), one

    def stacked(place: Any, part: Any) -> Any:
        sharding, lead = NamedSharding(mesh, place), (runs,) if place else ()
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((*lead, *leaf.shape), leaf.dtype, sharding=sharding), part
        )

    return stacked(P("runs"), state), jax.tree.map(stacked, places(data), data)


def program(config: ConfigDict, runs: int, steps: int = 0) -> Any:
    """The compiled training program of a cohort of so many runs, of whole sequences or first steps of them.

    Nothing is computed.
    """
    make_room()
    return _compiled(alike(config), runs, steps)


def make_room() -> None:
    """Forgets the programs that nobody holds once they take half of the memory mappings that a process may have.

    On a CPU each takes some 600, and Linux grants 65,530: beyond, LLVM ends the process.
    """
    if mappings() > MOST_MAPPINGS // 2:
        forget()


def forget() -> None:
    """Forgets the programs that nobody holds."""
    traced.cache_clear()
    _compiled.cache_clear()
    jax.clear_caches()
    gc.collect()


def mappings() -> int:
    """How many memory mappings this process has; 0 where nobody counts them."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


def alike(config: ConfigDict) -> FrozenConfigDict:
    """The config with all at its default that only changes the numbers of a run: what a program depends on."""
    same = config.copy_and_resolve_references().unlock()
    for key, _ in leaves(config):
        if key in KEYS and KEYS[key].stacks:
            set_value(same, key, KEYS[key].default)
    return FrozenConfigDict(same)


@cache
def traced(config: FrozenConfigDict, runs: int, steps: int = 0) -> Any:
    """The training program of so many runs that are `alike`, as JAX traces it; nothing is compiled."""
    most = min(config.train.chunk, config.train.epochs)
    static = make_model(config), recipe(config), most, config.train.bptt, steps
    return train_chunk.trace(*shapes(config, runs), 0, 0, *static)


@cache  # what was compiled to know the memory need not be compiled again to train
def _compiled(config: FrozenConfigDict, runs: int, steps: int = 0) -> Any:
    return traced(config, runs, steps).lower().compile()


def parts(config: ConfigDict) -> list[tuple[int, int, int]]:
    """The parts of a training: first epoch, the one after the last, and how many first steps are trained on.

    Of all steps that is 0.
    """
    found = config.train.lengths or ((0, 0),)
    ends = [begin for begin, _ in found[1:]] + [config.train.epochs]
    return [(begin, end, steps) for (begin, steps), end in zip(found, ends, strict=True)]


def memory_needed(config: ConfigDict, runs: int) -> int:
    """Bytes that a cohort takes on each of its devices while it trains, read off the program of whole sequences."""
    return bytes_of(program(config, runs))


def bytes_of(compiled: Any) -> int:
    """What a compiled program takes of each device's memory: what it is given, what it returns and what it needs."""
    memory = compiled.memory_analysis()
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return used - memory.alias_size_in_bytes
