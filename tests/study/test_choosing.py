"""Parameters chosen by data of their own: those of the look at which a run does best."""

import json

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare.config import validate
from rnn_compare.network.model import make_model
from rnn_compare.study import execute
from rnn_compare.study.fit import History
from rnn_compare.tasks.price import make_batch
from rnn_compare.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_figures")


def test_a_run_keeps_the_parameters_of_its_best_look(tiny, tmp_path):
    """Against a trainer that stops at every look, and the loss of a plain scan of data drawn here."""
    tiny.train.choose, tiny.optimizer.learning_rate = 2, 0.3  # so large that the last is not the best
    config = validate(tiny)
    assert execute(config, tmp_path, dry_run=False)
    model = make_model(config).clone(backend="scan")
    judge = jax.jit(
        lambda params, batch: model.losses(model.apply({"params": params}, *batch, method="errors"))["loss"]
    )
    trainer = Trainer([(config, 0)])
    trainer.compile()
    batch = make_batch(jax.random.fold_in(jax.random.key(0), 3), config.data)
    looks = {}
    for chunk in trainer.fit(2):
        if (done := trainer.epoch) % 2 == 0 or done == 7:
            params = jax.tree.map(lambda leaf: leaf[0], chunk.params)
            looks[done] = float(judge(params, batch)), params
    best = min(looks, key=lambda done: looks[done][0])
    assert best < 7
    run = tmp_path / "lstm-s0"
    chosen = json.loads((run / "run.json").read_text())["chosen"]
    assert chosen == {"epoch": best, "loss": pytest.approx(looks[best][0], rel=1e-5)}
    kept = np.load(run / "params.npz")
    for name, leaf in flatten_dict(looks[best][1], sep="/").items():
        np.testing.assert_array_equal(kept[name], leaf)
    told = EventAccumulator(str(run)).Reload().Scalars("choosing_loss")
    assert [scalar.step for scalar in told] == [2, 4, 6, 7]
    np.testing.assert_allclose([scalar.value for scalar in told], [loss for loss, _ in looks.values()], rtol=1e-5)
    assert f"parameters of epoch {best}" in (tmp_path / "report.md").read_text()


def test_looks_survive_a_checkpoint_and_who_diverged_has_none():
    history = History()
    for epoch, losses in {2: (3.0, np.nan), 4: (1.0, np.nan), 6: (2.0, np.nan)}.items():
        history.curves["loss"].append(np.ones((2, 2)))
        history.look(epoch, np.array(losses), {"w": np.full((2, 3), epoch)})
    for found in (history, History.of(history.arrays())):
        assert found.choice(0) == (4, 1.0)
        assert found.choice(1) is None
        assert found.chosen["w"].tolist()[0] == [4, 4, 4]
