"""Optimizers by name: clipping by the global norm, then the update rule.

Learning rate and clip norm may be traced, so that runs that differ in them share one compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Hyper(NamedTuple):
    """The optimizer's numbers, scalars (a float or a traced array).

    Attributes:
        learning_rate: constant step size.
        clip_norm: largest global norm of the gradient.
    """

    learning_rate: Any
    clip_norm: Any


class KerasAdamState(NamedTuple):
    """Adam's moments, shaped as the parameters, and how many updates there were (int32 scalar)."""

    updates: jax.Array
    m: Any
    v: Any


def keras_adam(
    learning_rate: Any, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7
) -> optax.GradientTransformation:
    """Adam as Keras writes it, with ε outside the bias correction.

    p ← p − lr·√(1 − b2ᵗ)/(1 − b1ᵗ) · m/(√v + ε), the form at the end of section 2 of Kingma & Ba (2015).
    `optax.adam` adds ε to the corrected √v instead, which makes its ε larger by 1/√(1 − b2ᵗ) in comparison.
    """

    def init(params: Any) -> KerasAdamState:
        zeros = optax.tree.zeros_like(params)
        return KerasAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads: Any, state: KerasAdamState, params: Any = None) -> tuple[Any, KerasAdamState]:
        count = state.updates + 1
        t = count.astype(jnp.float32)
        m = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), state.m, grads)
        v = jax.tree.map(lambda v, g: v + (1 - b2) * (g * g - v), state.v, grads)
        rate = learning_rate * jnp.sqrt(1 - b2**t) / (1 - b1**t)
        updates = jax.tree.map(lambda m, v: -rate * m / (jnp.sqrt(v) + eps), m, v)
        return updates, KerasAdamState(count, m, v)

    return optax.GradientTransformation(init, update)


OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {"adam": keras_adam}


def make(name: str, hyper: Hyper) -> optax.GradientTransformation:
    """The optimizer `name`, behind a clip by the global norm over all gradients."""
    return optax.chain(optax.clip_by_global_norm(hyper.clip_norm), OPTIMIZERS[name](hyper.learning_rate))
