"""The same passes by others, as a competent user of each would write them; imports are inside, nothing of it is needed.

Each is a function of a cell's name and a size that returns a forward and a backward pass, ready to be called: all
gradients but that of the inputs. Stacked runs are vmapped, or more sequences where a library has no vmap.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn


def flax(name: str, size: Any) -> Callable[[], Any]:
    """`flax.linen.RNN` over Flax's cells."""
    layer = nn.RNN({"lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}[name](size.H), time_major=True)
    x = jax.random.normal(jax.random.key(0), (size.T, size.B, size.F))
    params = jax.vmap(lambda key: layer.init(key, x[:2]))(jax.random.split(jax.random.key(1), size.R))
    function = jax.jit(jax.vmap(jax.grad(lambda params: jnp.sum(jnp.square(jnp.asarray(layer.apply(params, x)))))))
    return lambda: jax.block_until_ready(function(params))


def jax_cudnn(name: str, size: Any) -> Callable[[], Any]:
    """JAX's own call of cuDNN, an LSTM."""
    from jax.experimental import rnn

    if name != "lstm":
        raise NotImplementedError("jax.experimental.rnn has an LSTM only")
    sequences = size.B * size.R
    x = jax.random.normal(jax.random.key(0), (sequences, size.T, size.F))
    weights = rnn.init_lstm_weight(jax.random.key(1), size.F, size.H, 1, False)
    state = jnp.zeros((1, sequences, size.H))
    lengths = jnp.full((sequences,), size.T, jnp.int32)

    def loss(weights: jax.Array) -> jax.Array:
        y, *_ = rnn.lstm(
            x, state, state, weights, lengths, size.F, size.H, 1, 0.0, False, precision=jax.lax.Precision.HIGHEST
        )
        return jnp.sum(y**2)

    function = jax.jit(jax.grad(loss))
    return lambda: jax.block_until_ready(function(weights))


def pytorch(name: str, size: Any) -> Callable[[], Any]:
    """PyTorch's module, which calls cuDNN."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("this PyTorch has no CUDA")
    torch.backends.cudnn.allow_tf32 = False
    layer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[name](size.F, size.H).cuda()
    x = torch.randn(size.T, size.B * size.R, size.F, device="cuda")

    def both() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x)[0].square().sum().backward()
        torch.cuda.synchronize()

    return both


PEERS = {"PyTorch (cuDNN)": pytorch, "Flax": flax, "JAX (cuDNN)": jax_cudnn}
