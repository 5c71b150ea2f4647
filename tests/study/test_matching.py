import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.config import UserError, validate
from rnn_compare.study import execute
from rnn_compare.study.expansion import expand
from rnn_compare.study.matching import units_for
from rnn_compare.training.start import init_state


def by_hand(cell, units, window):
    """LSTM: 4 gates; GRU: 3 with two biases each; 7 outputs with a bias."""
    gates = {"lstm": 4 * (units + window + 1), "gru": 3 * (units + window + 2)}[cell]
    return units * gates + 7 * (units + 1)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize(("parameters", "window"), [(1, 1), (1031, 1), (1335, 1), (1335, 4), (100_000, 1)])
def test_no_other_number_of_units_comes_nearer(cell, parameters, window):
    config = base.base()
    config.model.cell, config.model.parameters, config.data.window = cell, parameters, window
    found = units_for(config)
    assert found == min(range(1, 300), key=lambda units: abs(by_hand(cell, units, window) - parameters))


def test_layers_count():
    """Of 9 units, two layers: 4·9·(9 + 1 + 1) and 4·9·(9 + 9 + 1) in them, 7·(9 + 1) in the heads."""
    config = base.base()
    config.model.layers, config.model.parameters = 2, 396 + 684 + 70
    assert units_for(config) == 9


@pytest.mark.slow
def test_a_study_of_matched_cells_is_one_of_the_units_it_chose(tiny, tmp_path):
    tiny.model.parameters = 150
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    runs = {run.config.model.cell: run for run in expand(validate(tiny))}
    assert {cell: run.config.model.units for cell, run in runs.items()} == {"lstm": 4, "gru": 5}
    state = init_state(runs["gru"].config, 0)
    assert sum(np.size(leaf) for leaf in jax.tree.leaves(state.params)) == by_hand("gru", 5, tiny.data.window)
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert "2 of 2 runs have ended" in (tmp_path / "report.md").read_text()


def test_units_and_parameters_cannot_both_be_asked_for():
    config = base.base()
    config.model.parameters, config.sweep = 1000, {"model.units": (8, 16)}
    with pytest.raises(UserError, match=r"which config\.model\.parameters chooses: leave one out"):
        validate(config)
