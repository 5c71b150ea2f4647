"""The series, each held against its equation in float64, solved by other means."""

import jax
import numpy as np
import pytest
from scipy.integrate import solve_ivp

from rnn_compare import config as base
from rnn_compare.tasks import make_task


def batch(name, length=300, horizon=1, sequences=5):
    config = base.base()
    config.task.name, config.task.horizon = name, horizon
    config.data.length, config.data.sequences = length, sequences
    task = make_task(config)
    made = jax.jit(task.batch)(jax.random.key(1))
    assert made.inputs.shape == (length, sequences, task.features)
    return task, np.asarray(made.inputs, np.float64), np.asarray(made.targets, np.float64)


def test_mackey_glass_follows_the_closed_form_between_two_steps():
    """While x(t − τ) stays as it is, the equation is linear: x(t + 1) = x(t)·e^−b + g/b·(1 − e^−b)."""
    task, inputs, _ = batch("mackey_glass")
    x = inputs[..., 0] * task.deviation[0] + task.mean[0]
    delayed = x[: -task.delay - 1]
    gain = 0.2 * delayed / (1 + delayed**10)
    after = x[task.delay : -1] * np.exp(-0.1) + gain / 0.1 * (1 - np.exp(-0.1))
    np.testing.assert_allclose(x[task.delay + 1 :], after, atol=2e-6)


def test_lorenz_follows_its_equation():
    task, inputs, _ = batch("lorenz", length=40)
    states = inputs * task.deviation + np.array(task.mean)

    def slope(_, s):
        return [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]

    for before, after in zip(states[:-1, 0], states[1:, 0], strict=True):
        exact = solve_ivp(slope, (0, 0.03), before, rtol=1e-10, atol=1e-10).y[:, -1]
        np.testing.assert_allclose(after, exact, atol=2e-2)  # the method's own error, of the fifth order in 0.03


def test_narma_answers_as_a_plain_loop_does():
    task, inputs, targets = batch("narma", length=400, horizon=1, sequences=3)
    u = inputs[..., 0] * task.deviation[0] + task.mean[0]
    y = targets[..., 0] * task.answer_deviation + task.answer_mean  # y[i] is that of the step after u[i]
    for t in range(60, 399):
        past = y[t - 30 : t]
        expected = 0.2 * y[t - 1] + 0.04 * y[t - 1] * past.sum(axis=0) + 1.5 * u[t - 29] * u[t] + 0.001
        np.testing.assert_allclose(y[t], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["mackey_glass", "lorenz"])
@pytest.mark.parametrize("horizon", [1, 17])
def test_the_target_is_the_input_of_some_steps_later(name, horizon):
    _, inputs, targets = batch(name, horizon=horizon)
    np.testing.assert_array_equal(targets[:-horizon], inputs[horizon:])


@pytest.mark.parametrize("name", ["mackey_glass", "lorenz", "narma"])
def test_inputs_and_targets_have_no_mean_and_deviation_one(name):
    task, inputs, targets = batch(name, length=3000, sequences=40)
    for array in (inputs, targets):
        np.testing.assert_allclose(array.mean(axis=(0, 1)), 0, atol=0.05)
        np.testing.assert_allclose(array.std(axis=(0, 1)), 1, atol=0.07)
    assert task.guess(type("Batch", (), {"targets": targets})) == pytest.approx(
        targets.var(axis=(0, 1)).mean(), rel=1e-6
    )
