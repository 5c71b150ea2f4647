"""One training step of the same network, as users of each library would write it.

The network is post8's: one recurrent layer, linear heads of 3, 2 and 2 outputs on every hidden state, the sum of their
mean squared errors, clipping by the global norm, Adam. A contender is a function of the sizes and the cell that returns
`run(steps)`: it makes that many updates and returns when the last one is done. Imports are inside, because each
contender has a process of its own and only needs its own library.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

HEADS = {"flat": 3, "short": 2, "long": 2}
Run = Callable[[int], None]


class Size(NamedTuple):
    """What is trained: T steps, B sequences, F inputs, H units, R stacked runs."""

    T: int = 20_000
    B: int = 40
    F: int = 1
    H: int = 16
    R: int = 1


def data(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [T, B, F] and targets [T, B, 7]: noise, since no contender's speed depends on the values."""
    rng = np.random.default_rng(0)
    return tuple(rng.normal(scale=s, size=(size.T, size.B, n)).astype(np.float32) for s, n in ((0.2, size.F), (1, 7)))


def ours(backend: str) -> Callable[[str, Size], Run]:
    """rnn_compare's own training program, several epochs in one dispatch as in a study."""

    def contender(cell: str, size: Size) -> Run:
        import jax

        from rnn_compare import config as base
        from rnn_compare.training.trainer import Trainer

        config = base.base()
        config.model.cell, config.model.units = cell, size.H
        config.data.length, config.data.sequences, config.data.window = size.T, size.B, size.F
        config.train.backend = backend
        cohort = Trainer([(base.validate(config), seed) for seed in range(size.R)])
        cohort.compile()
        return lambda steps: jax.block_until_ready(cohort.advance(steps))

    return contender


def flax(cell: str, size: Size) -> Run:
    """Flax's `nn.RNN` over its own cells, Optax, one jitted step per update."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[cell](size.H)
            h = nn.RNN(layer, time_major=True)(x)
            return [nn.Dense(outputs)(h) for outputs in HEADS.values()]

    x, y = map(jnp.asarray, data(size))
    targets = jnp.split(y, [3, 5], axis=-1)
    network, tx = Network(), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    params = network.init(jax.random.key(0), x[:1])
    state = params, tx.init(params)

    @jax.jit
    def update(state):
        def loss(params):
            return sum(jnp.mean((p - t) ** 2) for p, t in zip(network.apply(params, x), targets, strict=True))

        params, opt_state = state
        updates, opt_state = tx.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def run(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            state = update(state)
        jax.block_until_ready(state)

    return run


def flax_tuned(cell: str, size: Size) -> Run:
    """The same, written to be fast: one head of seven outputs, many updates in one dispatch."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            layer = {"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[cell](size.H)
            return nn.Dense(sum(HEADS.values()))(nn.RNN(layer, time_major=True)(x))

    x, y = map(jnp.asarray, data(size))
    weights = jnp.concatenate([jnp.full(outputs, 1 / outputs) for outputs in HEADS.values()])
    network, tx = Network(), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    params = network.init(jax.random.key(0), x[:1])
    state = params, tx.init(params)

    def update(_, state):
        params, opt_state = state
        gradient = jax.grad(lambda params: jnp.mean((network.apply(params, x) - y) ** 2, axis=(0, 1)) @ weights)(params)
        updates, opt_state = tx.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    updates = jax.jit(lambda state, steps: jax.lax.fori_loop(0, steps, update, state), donate_argnums=0)

    def run(steps: int) -> None:
        nonlocal state
        state = jax.block_until_ready(updates(state, steps))

    return run


def keras(cell: str, size: Size) -> Run:
    """Keras 3 on its JAX backend: `compile` and `train_on_batch`."""
    import os

    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    x, y = (array.swapaxes(0, 1).copy() for array in data(size))
    targets = [array.copy() for array in np.split(y, [3, 5], axis=-1)]
    inputs = keras.Input((size.T, size.F))
    h = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell](size.H, return_sequences=True)(inputs)
    model = keras.Model(inputs, [keras.layers.Dense(outputs)(h) for outputs in HEADS.values()])
    model.compile(keras.optimizers.Adam(1e-3, global_clipnorm=1.0), loss=["mse"] * 3)

    def run(steps: int) -> None:
        for _ in range(steps):
            model.train_on_batch(x, targets)  # returns the loss, so it waits

    return run


def torch(cell: str, size: Size) -> Run:
    """PyTorch's `nn.LSTM` and `nn.GRU`, on all cores or on cuDNN."""
    import torch
    from torch import nn

    device = "cuda" if torch.cuda.is_available() else "cpu"
    layer = {"lstm": nn.LSTM, "gru": nn.GRU}[cell](size.F, size.H).to(device)
    heads = nn.ModuleList(nn.Linear(size.H, outputs) for outputs in HEADS.values()).to(device)
    parameters = [*layer.parameters(), *heads.parameters()]
    x, y = (torch.from_numpy(array).to(device) for array in data(size))
    targets = [array.contiguous() for array in torch.split(y, list(HEADS.values()), dim=-1)]
    optimizer = torch.optim.Adam(parameters, 1e-3)

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            h, _ = layer(x)
            loss = sum(nn.functional.mse_loss(head(h), q) for head, q in zip(heads, targets, strict=True))
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        loss.item()  # waits for the device

    return run


OURS = {"rnn_compare cpu": ours("cpu"), "rnn_compare scan": ours("scan")}
PEERS = {"Flax nn.RNN": flax, "Flax, tuned": flax_tuned, "Keras 3 on JAX": keras, "PyTorch": torch}
CONTENDERS: dict[str, Callable[[str, Size], Run]] = OURS | PEERS
