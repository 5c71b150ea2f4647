"""Tasks that draw new sequences for every update."""

import jax
import numpy as np
import pytest
from fitting import assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside, fit

from rnn_compare.config import validate
from rnn_compare.network.model import make_model
from rnn_compare.tasks import TASKS
from rnn_compare.training import held_out
from rnn_compare.training.program import drawn
from rnn_compare.training.start import init_batch, init_data, init_state
from rnn_compare.training.trainer import Trainer


@pytest.fixture
def fresh(tiny):
    def fresh(name, **data):
        tiny.task.name = name
        tiny.data.lookahead = 300
        for key, value in ({"length": 20} | data).items():
            tiny.data[key] = value
        return validate(tiny)

    return fresh


def test_every_update_sees_sequences_of_its_own_and_the_same_again_in_another_run_of_it(fresh):
    config = fresh("adding")
    source = init_data(config, 3)
    first, second = (source.batch(i) for i in (0, 1))
    assert not np.isclose(first.inputs[..., 0], second.inputs[..., 0]).any()
    later = source._replace(epoch=source.epoch + 1).batch(0)
    np.testing.assert_array_equal(later.inputs, second.inputs)
    assert not np.isclose(init_batch(config, 3, 2).inputs[..., 0], first.inputs[..., 0]).any()


@pytest.mark.slow
@pytest.mark.usefixtures("as_users_compile")
def test_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(fresh):
    assert_no_bit_depends_on_chunks_on_going_on_or_on_the_runs_beside(fresh("adding"))


def test_runs_hold_a_table_once_and_draw_their_own_windows_of_it(tiny):
    """Of digits here, whose arrays no run has for itself either."""
    tiny.task.name, tiny.data.lookahead, tiny.data.length, tiny.train.backend = "digits", 300, 20_000, "scan"
    config = validate(tiny)
    cohort = Trainer([(config, 0), (config, 1)])
    assert cohort._data.task.images.shape == (1797, 64)
    assert cohort._data.key.shape == (2, 2)
    first, second = jax.jit(drawn)(cohort._data, 5, 2).inputs
    np.testing.assert_array_equal(second, init_data(config, 1).batch(5).inputs)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(
    "name", ["copy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("adding", "temporal_order", "lorenz"))]
)
def test_the_loss_is_that_of_what_is_judged(fresh, name):
    """By NumPy in double precision, from the outputs of every step."""
    config = fresh(name, sequences=6)
    model, params = make_model(config), init_state(config, 0).params
    batch = init_batch(config, 0)
    errors = model.losses(model.apply({"params": params}, *batch, method="errors"))
    targets = np.asarray(batch.targets)
    values = np.asarray(model.apply({"params": params}, batch.inputs), np.float64)[-len(targets) :]
    if TASKS[name].loss == "squared_error":
        expected = {"loss": np.mean((values - targets) ** 2)}
    else:
        log = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
        right = np.take_along_axis(log, targets[..., None], axis=-1)
        expected = {"loss": -right.mean(), "error_rate": np.mean(values.argmax(axis=-1) != targets)}
    assert errors.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(errors[key], value, rtol=1e-5)
    assert model.metrics == (*expected, "grad_norm")


@pytest.mark.parametrize(("name", "rows", "outputs"), [("adding", 6, 1), ("copy", 40, 1), ("lorenz", 20, 3)])
def test_what_is_kept_of_what_was_judged(fresh, name, rows, outputs):
    """As many judged steps as can be shown, of several sequences one after the other; classes as numbers."""
    config = fresh(name, sequences=6)
    found = held_out.evaluate(make_model(config), config, 0, init_state(config, 0).params)
    batch = init_batch(config, 0, 2)
    assert {key: array.shape for key, array in found.stretch.items()} == {
        "predictions": (rows, outputs), "targets": (rows, outputs), "change": (rows,),
    }  # fmt: skip
    S = len(batch.targets)
    last = np.asarray(batch.targets)[:, -1 if S == 1 else 0].reshape(S, outputs)
    np.testing.assert_array_equal(found.stretch["targets"][-S:], last)
    assert found.worth == {}
    assert found.losses["loss"] > 0


@pytest.mark.slow
def test_on_the_adding_task_a_gru_soon_beats_a_guess(fresh):
    config = fresh("adding", sequences=50, length=10).copy_and_resolve_references().unlock()
    config.train.epochs, config.train.chunk, config.optimizer.learning_rate, config.model.units = 600, 100, 0.01, 16
    config.model.cell = "gru"
    curves, _ = fit([(validate(config), 0)])
    assert np.median(curves["loss"][-20:]) < 0.02
