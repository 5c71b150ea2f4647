"""Sequences that grow while they are trained on: at first only first steps of them."""

import jax
import numpy as np
import optax
import pytest
from fitting import assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside, fit

from rnn_compare.config import UserError, validate
from rnn_compare.network.model import make_model
from rnn_compare.study.estimate import whole_epochs
from rnn_compare.training import optimizers
from rnn_compare.training.optimizers import Hyper
from rnn_compare.training.start import init_batch, init_state, recipe
from rnn_compare.training.trainer import Trainer


@pytest.fixture
def growing(tiny):
    tiny.train.lengths = ((0, 5), (4, 20))
    return validate(tiny)


def test_it_is_the_plain_loop_over_first_steps(growing):
    curves, params = fit([(growing, 3)])
    batch, state = init_batch(growing, 3), init_state(growing, 3)
    model, tx = make_model(growing).clone(backend="scan"), optimizers.make(recipe(growing), Hyper(0.001, 1.0))

    @jax.jit
    def step(params, opt_state, *batch):
        loss = lambda params: model.losses(model.apply({"params": params}, *batch, method="errors"))["loss"]  # noqa: E731
        value, grads = jax.value_and_grad(loss)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    ours, opt_state, losses = state.params, jax.jit(tx.init)(state.params), []
    for epoch in range(growing.train.epochs):
        steps = 5 if epoch < 4 else 20
        ours, opt_state, value = step(ours, opt_state, batch.inputs[:steps], batch.targets[:steps])
        losses.append(value)
    np.testing.assert_allclose(curves["loss"][:, 0], losses, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-3, atol=1e-5), params, ours)


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_compile")
def test_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(growing):
    assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(growing, at=(2, 4, 5))


def test_a_chunk_ends_where_sequences_grow(growing):
    cohort = Trainer([(growing, 0)])
    cohort.compile()
    assert [(chunk.start, len(chunk.metrics["loss"])) for chunk in cohort.fit(100)] == [(0, 3), (3, 1), (4, 3)]


def test_an_estimate_counts_steps_and_not_epochs(growing):
    assert whole_epochs(growing) == pytest.approx(4 * 5 / 20 + 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lengths": ((0, 5), (4, 21))}, "config.train.lengths asks for 21 steps: a sequence has 20"),
        ({"lengths": ((0, 5), (7, 20))}, "has a part from epoch 7 on: it must be before config.train.epochs, 7"),
        ({"lengths": ((0, 6),), "bptt": 5}, "asks for 6 steps: config.train.bptt, 5, must divide them"),
        ({"lengths": ((1, 5),)}, "the first epoch 0 and each a later one"),
        ({"lengths": ((0, 5), (0, 6))}, "the first epoch 0 and each a later one"),
        ({"lengths": (5, 6)}, "it must be pairs of an epoch and a number of steps"),
    ],
)
def test_what_cannot_grow_is_said(tiny, changes, said):
    for key, value in changes.items():
        tiny.train[key] = value
    with pytest.raises(UserError, match=said):
        validate(tiny)


def test_every_part_is_compiled_before_the_first(growing):
    cohort = Trainer([(growing, 0)])
    cohort.compile()
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    try:
        assert len(list(cohort.fit(100))) == 3
        assert [event for event in compiled if "compile" in event] == []
    finally:
        jax.monitoring.clear_event_listeners()


def test_where_only_last_steps_are_judged_nothing_grows(tiny):
    tiny.task.name, tiny.data.lookahead, tiny.train.lengths = "adding", 300, ((0, 5),)
    with pytest.raises(UserError, match=r"for the task adding, of which only last steps are judged: it must be \(\)"):
        validate(tiny)
