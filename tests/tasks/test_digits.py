"""The digits, against scikit-learn's own images."""

import sys

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from rnn_compare import config as base
from rnn_compare.config import UserError, validate
from rnn_compare.network.model import make_model
from rnn_compare.tasks import digits, make_task
from rnn_compare.training import held_out
from rnn_compare.training.start import init_state


def config_of(name, **changes):
    config = base.base()
    config.task.name, config.data.sequences, config.model.units = name, 30, 4
    for key, value in changes.items():
        config.task[key] = value
    return config


def images(batch):
    """The pixels as they were told, [B, 64], and what they show."""
    return np.asarray(batch.inputs)[..., 0].T * 16, np.asarray(batch.targets)[0]


def test_pixels_are_told_row_after_row_and_most_images_are_learnt_from():
    task, theirs = make_task(config_of("digits")), load_digits()
    pixels, labels = images(task.judged().batch(None))
    np.testing.assert_array_equal(pixels, theirs.data[1438:])
    np.testing.assert_array_equal(labels, theirs.target[1438:])
    learnt = {(tuple(pixels), label) for pixels, label in zip(theirs.data[:1438], theirs.target[:1438], strict=True)}
    drawn = [task.batch(jax.random.key(i)) for i in range(2)]
    for batch in drawn:
        assert all((tuple(pixels), label) in learnt for pixels, label in zip(*images(batch), strict=True))
    assert not np.array_equal(drawn[0].inputs, drawn[1].inputs)


def test_permuted_all_pixels_are_told_in_one_order():
    plain, permuted = (
        images(make_task(config_of(name)).batch(jax.random.key(0))) for name in ("digits", "permuted_digits")
    )
    order = np.random.default_rng(0).permutation(64)
    np.testing.assert_array_equal(permuted[0], plain[0][:, order])
    np.testing.assert_array_equal(permuted[1], plain[1])
    assert sorted(order) == list(range(64))


def test_all_that_is_not_learnt_from_is_judged():
    config = validate(config_of("permuted_digits", share=0.9))
    found = held_out.evaluate(make_model(config), config, 0, init_state(config, 0).params)
    assert found.guess == pytest.approx(np.log(10))
    assert len(found.stretch["targets"]) == 180
    assert 0 < found.losses["error_rate"] <= 1


def test_a_share_of_all_is_refused():
    with pytest.raises(UserError, match=r"config.task.share is 1.0: it leaves nothing to learn from, or to judge"):
        validate(config_of("digits", share=1.0))


def test_scikit_learn_is_asked_for_in_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    digits.read.cache_clear()
    with pytest.raises(UserError, match=r"pip install -e '.\[digits\]'"):
        validate(config_of("digits"))
    digits.read.cache_clear()
