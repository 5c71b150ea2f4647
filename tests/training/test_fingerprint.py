import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from rnn_compare.cells import CELLS, RecurrentCell, project, recur
from rnn_compare.cells.initializers import MATRICES
from rnn_compare.config import UserError, validate
from rnn_compare.study import execute
from rnn_compare.training import fingerprint as fingerprints
from rnn_compare.training import program
from rnn_compare.training.fingerprint import edited, fingerprint
from rnn_compare.training.optimizers import OPTIMIZERS, adam


class Mine(RecurrentCell):
    gates = ("h",)

    def step(self, params, h, x):
        h = jnp.tanh(project(params, x) + recur(params, h))
        return h, h


class Edited(Mine):
    def step(self, params, h, x):
        h = jnp.tanh(project(params, x) - recur(params, h))
        return h, h


def half(key, shape, dtype=jnp.float32):
    return jnp.full(shape, 0.5, dtype)


def third(key, shape, dtype=jnp.float32):
    return jnp.full(shape, 1 / 3, dtype)


@pytest.fixture
def mine(tiny, monkeypatch, no_figures):
    """A study of a cell, an initializer and an optimizer of one's own."""
    monkeypatch.setitem(CELLS, "mine", Mine)
    monkeypatch.setitem(MATRICES, "half", half)
    monkeypatch.setitem(OPTIMIZERS, "own", adam)
    tiny.model.cell, tiny.model.kernel_init, tiny.optimizer.name = "mine", "half", "own"
    tiny.train.backend = "scan"  # which need not be compiled by Numba
    yield tiny
    forget()


EDITS = {
    "its cell, loss or optimizer": [(CELLS, "mine", Edited), (OPTIMIZERS, "own", lambda: adam(b1=0.8))],
    "what its weights start with": [(MATRICES, "half", third)],
}
ALL = [(what, *edit) for what, edits in EDITS.items() for edit in edits]


def forget():
    """Forgets what was traced by a config."""
    for cached in (fingerprints.start, fingerprints.training, program.traced):
        cached.cache_clear()


def forget_all():
    """As a new process would have nothing."""
    forget()
    program._compiled.cache_clear()
    jax.clear_caches()


def test_an_edited_cell_is_found_out(mine, monkeypatch):
    before = fingerprint(validate(mine))
    monkeypatch.setitem(CELLS, "mine", Edited)
    forget()
    assert edited(before, fingerprint(validate(mine))) == "its cell, loss or optimizer"


@pytest.mark.slow
@pytest.mark.parametrize(("what", "registry", "name", "new"), ALL)
def test_what_was_edited_is_found_out_and_results_are_not_mixed(mine, tmp_path, monkeypatch, what, registry, name, new):
    forget_all()
    assert execute(validate(mine), tmp_path, dry_run=False)
    before = fingerprint(validate(mine))
    monkeypatch.setitem(registry, name, new)
    forget_all()
    mine.seeds = 2
    with pytest.raises(UserError, match=f"mine-s0 was trained before {what} was edited"):
        execute(validate(mine), tmp_path, dry_run=False)
    assert edited(before, fingerprint(validate(mine))) == what


def test_numbers_are_no_code(tiny):
    before = fingerprint(validate(tiny))
    tiny.optimizer.learning_rate, tiny.data.discount, tiny.seeds = 0.1, 0.5, 7
    assert fingerprint(validate(tiny)) == before


def test_other_versions_and_older_runs_are_not_compared(tiny):
    now = fingerprint(validate(tiny))
    assert edited({}, now) == ""
    assert edited(now | {"jax": "0.1", "training": "other"}, now) == ""
    assert edited(now | {"training": "a", "start": "b"}, now).count(" and ") == 1


def test_it_is_the_same_in_every_process(tiny):
    program = """
from rnn_compare import config as base
from rnn_compare.training.fingerprint import fingerprint
config = base.base()
config.data.sequences, config.data.length, config.data.lookahead, config.model.units = 3, 20, 5, 4
config.train.epochs, config.train.chunk, config.log.histogram_every = 7, 3, 5
print(fingerprint(base.validate(config)))
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert eval(said) == fingerprint(validate(tiny))
