"""The memory tasks, each read back from its inputs by other means than it was made by."""

import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.config import UserError, validate
from rnn_compare.tasks import make_task


def batch(name, length, sequences=40, seed=0):
    config = base.base()
    config.task.name, config.data.length, config.data.sequences = name, length, sequences
    task = make_task(config)
    made = jax.jit(task.batch)(jax.random.key(seed))
    assert made.inputs.shape == (task.steps, sequences, task.features)
    return task, np.asarray(made.inputs, np.float64), np.asarray(made.targets)


@pytest.mark.parametrize("length", [2, 3, 50])
def test_adding_is_the_sum_of_the_two_marked_numbers_one_in_each_half(length):
    _, inputs, targets = batch("adding", length)
    numbers, marks = inputs[..., 0], inputs[..., 1]
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert set(np.unique(marks)) <= {0, 1}
    assert (marks[: length // 2].sum(axis=0) == 1).all()
    assert (marks[length // 2 :].sum(axis=0) == 1).all()
    np.testing.assert_allclose(targets[0, :, 0], (numbers * marks).sum(axis=0), rtol=1e-6)


def test_to_answer_one_to_an_addition_costs_a_sixth():
    task, _, targets = batch("adding", 10, 100_000)
    assert np.mean((targets - 1) ** 2) == pytest.approx(1 / 6, rel=0.02)
    assert task.guess(None) == 1 / 6


@pytest.mark.parametrize("name", ["copy", "denoising"])
def test_what_is_to_be_recalled_are_the_symbols_in_their_order(name):
    task, inputs, targets = batch(name, 30)
    assert (inputs.sum(axis=-1) == 1).all()
    spoken, steps = inputs.argmax(axis=-1), 30 + 20
    assert len(spoken) == steps
    for said, answer in zip(spoken.T, targets.T, strict=True):
        places = np.flatnonzero(said < 8)
        assert np.flatnonzero(said == 9).tolist() == [steps - 11]
        assert len(places) == 10
        assert places[-1] < steps - 11
        assert places.tolist() == list(range(10)) or name == "denoising"
        assert answer[-10:].tolist() == said[places].tolist()
        assert (answer[:-10] == 8).all()
    assert len({tuple(said) for said in spoken.T}) == 40
    assert task.guess(None) == pytest.approx(10 * np.log(8) / 50)


def test_who_knows_when_and_guesses_what_loses_what_is_said_in_the_copy_task():
    task, _, targets = batch("copy", 30)
    known = np.where(np.arange(50)[:, None] < 40, 1.0, 1 / 8)  # the probability that the right class is given
    np.testing.assert_allclose(-np.log(np.broadcast_to(known, targets.shape)).mean(), task.guess(None))


def test_temporal_order_is_that_of_the_two_symbols():
    _, inputs, targets = batch("temporal_order", 100, 400)
    spoken = inputs.argmax(axis=-1)
    for said, answer in zip(spoken.T, targets[0], strict=True):
        early, late = np.flatnonzero(said < 2)
        assert 10 <= early < 20
        assert 50 <= late < 60
        assert answer == 2 * said[early] + said[late]
    assert np.bincount(targets[0]).min() > 70


def test_parity_is_the_exclusive_or_of_all_bits_so_far():
    _, inputs, targets = batch("parity", 70)
    bits = inputs[..., 0].astype(int)
    assert set(np.unique(bits)) == {0, 1}
    np.testing.assert_array_equal(targets, np.bitwise_xor.accumulate(bits, axis=0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task.name": "temporal_order", "data.length": 9}, "config.data.length is 9: it must be at least 10"),
        (
            {"task.name": "adding", "data.length": 1},
            "config.data.length is 1: it must be at least 2 for the task adding",
        ),
        ({"task.name": "add"}, "config.task.name is 'add': it must be one of price, adding"),
        (
            {"task.name": "adding", "data.window": 4},
            "config.data.window is 4 for the task adding, which does not read it",
        ),
        ({"task.horizon": 3}, "config.task.horizon is 3 for the task price, which does not read it"),
    ],
)
def test_what_a_task_cannot_be_made_of_is_said(changes, said):
    config = base.base()
    for key, value in changes.items():
        base.set_value(config, key, value)
    with pytest.raises(UserError, match=said):
        validate(config)
