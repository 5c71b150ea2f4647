"""Truncated backpropagation through time: an update after each part, the carry handed on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fitting import assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside, fit

from rnn_compare.config import UserError, validate
from rnn_compare.network.model import make_model
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import Hyper
from rnn_compare.training.program import memory_needed
from rnn_compare.training.start import init_batch, init_state, recipe


@pytest.mark.parametrize(
    ("cell", "layers", "backend"),
    [("lstm", 1, "cpu"), ("rnn", 2, "scan"), pytest.param("rnn", 2, "cpu", marks=pytest.mark.slow)],
)
def test_it_is_the_plain_loop_over_parts(tiny, cell, layers, backend):
    """Against a Python loop over the parts, with jax.lax.scan and no kernels, that hands on the carries."""
    tiny.model.cell, tiny.model.layers, tiny.train.backend = cell, layers, backend
    tiny.train.bptt, tiny.train.epochs = 5, 2
    config = validate(tiny)
    curves, params = fit([(config, 3)])
    batch, state = init_batch(config, 3), init_state(config, 3)
    model, tx = make_model(config).clone(backend="scan"), optimizers.make(recipe(config), Hyper(0.001, 1.0))
    ours, opt_state, losses = state.params, jax.jit(tx.init)(state.params), []

    @jax.jit
    def step(params, opt_state, *part):
        def loss(params):
            errors, last = model.apply({"params": params}, *part, method="errors_onward")
            return model.losses(errors)["loss"], last

        (value, carry), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value, carry

    for _ in range(config.train.epochs):
        carry, of_epoch = model.carry(batch.inputs.shape[1]), []
        for j in range(0, 20, 5):
            part = batch.inputs[j : j + 5], batch.targets[j : j + 5], carry
            ours, opt_state, value, carry = step(ours, opt_state, *part)
            of_epoch.append(value)
        losses.append(jnp.mean(jnp.stack(of_epoch)))
    np.testing.assert_allclose(curves["loss"][:, 0], losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-5), params, ours)


@pytest.mark.slow
def test_one_part_is_the_whole_sequence(tiny):
    whole, _ = fit([(validate(tiny), 0)])
    tiny.train.bptt = 20
    one, _ = fit([(validate(tiny), 0)])
    np.testing.assert_allclose(one["loss"], whole["loss"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_compile")
def test_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(tiny):
    tiny.train.bptt = 4
    assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(validate(tiny))


@pytest.mark.slow
def test_it_takes_less_memory(tiny):
    tiny.data.length, tiny.data.sequences = 4000, 12
    whole = memory_needed(validate(tiny), 1)
    tiny.train.bptt = 100
    assert memory_needed(validate(tiny), 1) < whole / 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.bptt": 7}, "config.train.bptt is 7: it must divide the 20 steps of a sequence, or be 0"),
        (
            {"train.bptt": 5, "task.name": "adding", "data.lookahead": 300},
            "config.train.bptt is 5 for the task adding, of which only last steps are judged: it must be 0",
        ),
    ],
)
def test_what_cannot_be_cut_is_said(tiny, changes, said):
    tiny.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=said):
        validate(tiny)
