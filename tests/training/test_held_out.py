import jax
import numpy as np

from rnn_compare.network.model import make_model
from rnn_compare.tasks.price import make_batch
from rnn_compare.training import held_out
from rnn_compare.training.start import init_batch, init_state


def test_losses_and_stretch_are_those_of_fresh_data_seen_by_a_plain_scan(tiny):
    tiny.data.length = 450
    params = init_state(tiny, 3).params
    found = held_out.evaluate(make_model(tiny), tiny, 3, params)
    data = make_batch(jax.random.fold_in(jax.random.key(3), 2), tiny.data)
    tiny.train.backend = "scan"
    values = make_model(tiny).apply({"params": params}, data.inputs)
    error = np.mean(np.square(values - data.targets), axis=(0, 1))
    heads = {"loss/flat": error[:3].mean(), "loss/short": error[3:5].mean(), "loss/long": error[5:].mean()}
    assert found.losses.keys() == {"loss", *heads}
    for name, value in (heads | {"loss": sum(heads.values())}).items():
        np.testing.assert_allclose(found.losses[name], value, rtol=1e-5)
    np.testing.assert_allclose(found.stretch["predictions"], values[-400:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.stretch["targets"], data.targets[-400:, 0], atol=1e-4)
    np.testing.assert_allclose(found.stretch["change"], data.inputs[-400:, 0, 0], atol=1e-4)


def test_held_out_data_are_none_that_was_trained_on(tiny):
    batch = init_batch(tiny, 0)
    found = held_out.evaluate(make_model(tiny), tiny, 0, init_state(tiny, 0).params)
    assert not np.isclose(found.stretch["change"], batch.inputs[-400:, 0, 0]).any()


def test_a_cohort_compiles_it_once(tiny):
    model = make_model(tiny)
    held_out._evaluate.clear_cache()
    for seed in (0, 1):
        held_out.evaluate(model, tiny, seed, init_state(tiny, seed).params)
    assert held_out._evaluate._cache_size() == 1
