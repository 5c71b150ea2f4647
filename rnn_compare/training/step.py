"""A training step in its two pure halves, of one run.

Axis sizes: T time, B batch.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from rnn_compare.network.model import Model
from rnn_compare.tasks.task import Batch
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import Hyper, Recipe


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


def gradients(params: Any, batch: Batch, model: Model) -> tuple[jax.Array, Any]:
    """The heavy half of one run's training step: forward and backward over the whole batch. Pure.

    Returns:
        What `Model.errors` says, and the gradients of the loss, shaped as `params`.
    """

    def loss(params: Any) -> tuple[jax.Array, jax.Array]:
        errors: Any = model.apply({"params": params}, *batch, method="errors")
        return model.losses(errors)["loss"], errors

    (_, errors), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return errors, grads


def gradients_onward(params: Any, batch: Batch, carry: Any, model: Model) -> tuple[jax.Array, Any, Any]:
    """The same of a part of the batch that begins with a carry, whose gradient is not wanted; and its last carry."""

    def loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        errors: Any
        errors, last = model.apply({"params": params}, *batch, carry, method="errors_onward")
        return model.losses(errors)["loss"], (errors, last)

    (_, (errors, last)), grads = jax.value_and_grad(loss, has_aux=True)(params)
    return errors, grads, last


def update(
    state: TrainState, errors: jax.Array, grads: Any, optimizer: Recipe, model: Model
) -> tuple[TrainState, dict[str, jax.Array]]:
    """The light half: clip, the update rule, and what is logged. Pure.

    Returns:
        The new state, and the metrics of the parameters before the update. `grad_norm` is that before clipping.
        A run has diverged once its loss or an entry of its gradient is not finite.
    """
    metrics = model.losses(errors) | {"grad_norm": optimizers.norm(grads)}
    updates, opt_state = optimizers.make(optimizer, state.hyper).update(grads, state.opt_state, state.params)
    entries = jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(grads)]).all()
    finite = state.finite & jnp.isfinite(metrics["loss"]) & entries
    params = optax.apply_updates(state.params, updates)
    updated = state.replace(params=params, opt_state=opt_state, before=state.params, finite=finite)
    stopped = state.replace(params=state.before, finite=finite)
    state = jax.tree.map(partial(jnp.where, finite), updated, stopped)
    return state, {name: jnp.where(finite, value, jnp.nan) for name, value in metrics.items()}
