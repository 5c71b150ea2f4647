"""Optimizers by name: clipping, then the update rule, in the forms and with the constants of Keras.

The learning rate and the clip norm may be traced, so that runs that differ in them share one compiled program.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Hyper(NamedTuple):
    """The optimizer's numbers, scalars (a float or a traced array).

    Attributes:
        learning_rate: step size, at its highest.
        clip_norm: largest norm of the gradient.
    """

    learning_rate: Any
    clip_norm: Any


class AdamState(NamedTuple):
    """Adam's moments, shaped as the parameters, and how many updates there were (int32 scalar)."""

    updates: jax.Array
    m: Any
    v: Any


def adam(b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7) -> optax.GradientTransformation:
    """Adam as Keras writes it, with ε outside the bias correction.

    Updates are √(1 − b2ᵗ)/(1 − b1ᵗ) · m/(√v + ε), the form at the end of section 2 of Kingma & Ba (2015).
    `optax.scale_by_adam` adds ε to the corrected √v instead, which makes its ε larger by 1/√(1 − b2ᵗ) in comparison.
    """

    def init(params: Any) -> AdamState:
        zeros = optax.tree.zeros_like(params)
        return AdamState(jnp.zeros([], jnp.int32), zeros, zeros)

    def update(grads: Any, state: AdamState, params: Any = None) -> tuple[Any, AdamState]:
        count = state.updates + 1
        t = count.astype(jnp.float32)
        m = jax.tree.map(lambda m, g: m + (1 - b1) * (g - m), state.m, grads)
        v = jax.tree.map(lambda v, g: v + (1 - b2) * (g * g - v), state.v, grads)
        scale = jnp.sqrt(1 - b2**t) / (1 - b1**t)
        updates = jax.tree.map(lambda m, v: scale * m / (jnp.sqrt(v) + eps), m, v)
        return updates, AdamState(count, m, v)

    return optax.GradientTransformation(init, update)


# Each rule's updates, before they are multiplied by minus the learning rate.
OPTIMIZERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "adam": adam,
    # Keras' AdamW: decay 0.004, as a share of the parameter and times the rate.
    "adamw": lambda: optax.chain(adam(), optax.add_decayed_weights(0.004)),
    "sgd": optax.identity,
    "rmsprop": lambda: optax.scale_by_rms(decay=0.9, eps=1e-7, eps_in_sqrt=True),
    "adagrad": lambda: optax.scale_by_rss(initial_accumulator_value=0.1, eps=1e-7),
    "adadelta": lambda: optax.scale_by_adadelta(rho=0.95, eps=1e-7),
}


def length(grads: Any) -> jax.Array:
    """The Euclidean norm over all entries, of squares that float32 has a number for; the same on every processor.

    XLA sums a reduction in an order that goes by the width of the vectors it compiles for. Here halves are added to
    each other until one entry is left, and no addition of arrays is reordered.
    """
    squares = jnp.concatenate([jnp.square(leaf).ravel() for leaf in jax.tree.leaves(grads)])
    squares = jnp.pad(squares, (0, (1 << (squares.size - 1).bit_length()) - squares.size))
    while squares.size > 1:
        left, right = jnp.split(squares, 2)
        squares = left + right
    return jnp.sqrt(squares[0])


def rescaled(grads: Any) -> tuple[Any, jax.Array, jax.Array]:
    """A gradient over its largest entry, the norm of that, and the entry: for one whose squares overflow.

    In float32 squares do from entries of 1.8e19 on, so that the norm of a finite gradient would be infinite.
    """
    largest = jnp.stack([jnp.abs(grad).max() for grad in jax.tree.leaves(grads)]).max()
    small = jax.tree.map(lambda grad: grad / largest, grads)
    return small, length(small), largest


def norm(grads: Any) -> jax.Array:
    """The Euclidean norm over all entries of a gradient; infinite only where float32 has no number for it."""

    def rescued() -> jax.Array:
        _, part, largest = rescaled(grads)
        return part * largest

    plain = length(grads)  # a branch of its own for the rest: where nothing overflows no bit may depend on it
    return jax.lax.cond(jnp.isfinite(plain), lambda: plain, rescued)


def clip_to(grads: Any, limit: Any) -> Any:
    """A gradient, shortened to `limit` where its norm is greater, as `optax.clip_by_global_norm` does.

    Keras 2.2.4 multiplies by limit / norm and so takes a step with a gradient of zero where the norm overflows; here
    the direction is kept.
    """

    def shortened(short: jax.Array, parts: Any, norm: jax.Array) -> Any:
        return jax.tree.map(lambda grad, part: jnp.where(short, grad, part / norm * limit), grads, parts)

    def rescued() -> Any:
        small, part, largest = rescaled(grads)
        return shortened(part * largest < limit, small, part)

    plain = length(grads)
    return jax.lax.cond(jnp.isfinite(plain), lambda: shortened(plain < limit, grads, plain), rescued)


CLIPS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "global_norm": lambda limit: optax.stateless(lambda grads, _: clip_to(grads, limit)),
    # Each tensor by its own norm, as Keras' `clipnorm` does from TensorFlow 2 on.
    "tensor_norm": lambda limit: optax.stateless(
        lambda grads, _: jax.tree.map(lambda grad: clip_to(grad, limit), grads)
    ),
    "none": lambda limit: optax.identity(),
}


# The share of the learning rate at update t (from 0) of n.
SCHEDULES: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "constant": lambda t, n: jnp.ones_like(t),
    "linear": lambda t, n: 1 - t / n,
    "cosine": lambda t, n: 0.5 * (1 + jnp.cos(jnp.pi * t / n)),
    "warmup_cosine": lambda t, n: jnp.minimum((t + 1) / (0.05 * n), 0.5 * (1 + jnp.cos(jnp.pi * t / n))),
}


class Recipe(NamedTuple):
    """What of an optimizer a compiled program depends on; hashable.

    Attributes:
        name: in `OPTIMIZERS`.
        clip: in `CLIPS`.
        schedule: in `SCHEDULES`.
        epochs: updates that the schedule is stretched over.
    """

    name: str
    clip: str
    schedule: str
    epochs: int


def make(recipe: Recipe, hyper: Hyper) -> optax.GradientTransformation:
    """The whole optimizer: clip, update rule, scheduled rate."""

    def rate(t: jax.Array) -> jax.Array:
        return -hyper.learning_rate * SCHEDULES[recipe.schedule](jnp.asarray(t, jnp.float32), recipe.epochs)

    return optax.chain(CLIPS[recipe.clip](hyper.clip_norm), OPTIMIZERS[recipe.name](), optax.scale_by_schedule(rate))
