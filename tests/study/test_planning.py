import re
import shutil

import pytest

from rnn_compare.cells import CELLS, RecurrentCell
from rnn_compare.config import UserError, validate
from rnn_compare.study import cohorts, execute, planning
from rnn_compare.study.expansion import MOST, expand
from rnn_compare.study.launch import Local
from rnn_compare.study.planning import plan
from rnn_compare.training import program, start

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.slow
def test_one_program_per_cohort_and_one_for_all_data(tiny, tmp_path, monkeypatch):
    """Planned and trained: three shapes, each with several seeds, rates and data values."""
    tiny.model.units, tiny.seeds = 7, 3  # sizes of this test alone: what others compiled would not be counted
    tiny.data.length = 23
    tiny.sweep = {"model.cell": ("lstm", "gru", "gru_reset_before"), "data.discount": (0.5, 0.6, 0.7)}
    before = program._compiled.cache_info().misses, start._data_program.cache_info().misses
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert program._compiled.cache_info().misses - before[0] == 3
    assert start._data_program.cache_info().misses - before[1] == 1


@pytest.mark.parametrize(
    ("length", "sequences", "said"),
    [
        (7, 3, "config.data.sequences=3 with config.data.length=7 needs"),
        (1, 3, "config.data.sequences=3 needs"),
        (1, 1, "config.data.sequences=1 with config.data.length=1 needs"),
    ],
)
def test_what_is_too_large_names_what_can_be_smaller(tiny, length, sequences, said):
    tiny.data.length, tiny.data.sequences = length, sequences
    with pytest.raises(UserError, match=f"^{said}"):
        planning.refuse_beyond(1, 2, tiny, ("data.length", "data.sequences"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.units": 2_000_000}, "config.model.units=2000000 with config.data."),
        ({"model.units": 2**31 - 1}, "config.model.units=2147483647 with"),
        ({"data.lookahead": 2_000_000_000}, "config.data.lookahead=2000000000 with"),
        ({"data.sequences": 2_000_000_000}, "config.data.sequences=2000000000 with"),
        ({"data.length": 2_000_000_000}, "config.data.length=2000000000 with"),
    ],
)
def test_sizes_that_no_machine_holds_are_refused_before_anything_is_compiled(
    tiny, tmp_path, monkeypatch, changes, named
):
    monkeypatch.setattr(planning, "data_program", None)
    monkeypatch.setattr(planning, "split", None)
    tiny.update_from_flattened_dict(changes)
    with pytest.raises(
        UserError, match=rf"{named}.* needs .* GB of memory, and there are .*: a smaller number would do"
    ):
        plan(expand(validate(tiny)), tmp_path, False, Local().call)


def test_a_generator_that_needs_too_much_is_refused_by_what_its_program_says(tiny, tmp_path, monkeypatch):
    tiny.data.lookahead = 100_000
    monkeypatch.setattr(planning, "device_memory", lambda: 4 * 3 * 100_000 * 3 + 10_000)  # three arrays and a little
    with pytest.raises(UserError, match=r"config.data.lookahead=100000 with .* needs"):
        plan(expand(validate(tiny)), tmp_path, False, Local().call)


def test_a_whole_cohort_is_compiled_first_and_its_parts_by_what_it_needs(tiny, monkeypatch):
    asked = []

    def needed(config, runs):
        asked.append(runs)
        return 1000 * runs + 10

    monkeypatch.setattr(cohorts, "memory_needed", needed)
    tiny.seeds = 12
    (cohort,) = cohorts.group(expand(validate(tiny)))
    assert [len(part) for part in cohorts.split(cohort, 12_010)] == [12]
    assert asked == [12]
    assert [len(part) for part in cohorts.split(cohort, 4_100)] == [4, 4, 4]
    assert asked == [12, 12, 4]
    assert [len(part) for part in cohorts.split(cohort, 4_004)] == [3, 3, 3, 3]  # by shares it would be four


@pytest.mark.slow
def test_files_that_are_gone_are_noticed(pair, tmp_path, capsys):
    execute(validate(pair), tmp_path, dry_run=False)
    (tmp_path / "config.json").unlink()
    (tmp_path / "gru-s0" / "predictions.npz").unlink()
    capsys.readouterr()
    assert execute(validate(pair), tmp_path, dry_run=False)
    said = capsys.readouterr().out
    assert "has runs but no config.json: it is written anew from this config" in said
    assert "gru-s0 has no predictions.npz: move such a folder away, and its run is trained again" in said
    shutil.rmtree(tmp_path / "gru-s0")
    assert execute(validate(pair), tmp_path, dry_run=False)
    assert (tmp_path / "gru-s0" / "predictions.npz").exists()


def test_a_run_is_its_config_and_seed_whatever_axes_name_it(tiny, tmp_path, capsys):
    """An axis is added to a workdir that holds results: those at its old value are taken, not trained again."""
    tiny.seeds = 2
    assert execute(validate(tiny), tmp_path, dry_run=False)
    before = {seed: (tmp_path / f"lstm-s{seed}" / "run.json").stat().st_mtime_ns for seed in (0, 1)}
    tiny.sweep = {"optimizer.learning_rate": (0.001, 0.002)}
    capsys.readouterr()
    assert execute(validate(tiny), tmp_path, dry_run=False)
    said = capsys.readouterr().out
    assert "4 runs, 2 of them ended earlier" in said
    assert {seed: (tmp_path / f"lstm-s{seed}" / "run.json").stat().st_mtime_ns for seed in (0, 1)} == before
    assert {path.parent.name for path in tmp_path.glob("*/run.json")} == {
        "lstm-s0", "lstm-s1", "lstm-learning_rate=0.002-s0", "lstm-learning_rate=0.002-s1",
    }  # fmt: skip
    assert "4 of 4 runs have ended" in (tmp_path / "report.md").read_text()


def test_names_are_short_enough_to_be_typed(tiny):
    keys = ["data.angle_step", "data.noise_variance", "data.bias", "data.trade_cost", "optimizer.learning_rate"]
    tiny.sweep = dict.fromkeys(keys, (0.1, 0.1 / 3))
    names = [run.name for run in expand(validate(tiny))]
    assert len(set(names)) == 32
    assert max(len(name) for name in names) == MOST
    assert all(re.fullmatch(r"[\w=.+-]+", name) for name in names)  # nothing that a shell would take for its own


class Silent(RecurrentCell):
    gates = ("z", "h")


def test_a_bias_initializer_that_a_cell_gives_nothing_to_start_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(CELLS, "silent", Silent)
    tiny.sweep = {"model.cell": ("gru", "silent"), "model.bias_init": ("zeros", "chrono_100")}
    with pytest.raises(UserError, match=r"bias_init=chrono_100 cannot serve config.model.cell=silent: Silent"):
        execute(validate(tiny), tmp_path, dry_run=True)


def test_heads_that_do_not_divide_the_units_are_refused(tiny, tmp_path):
    tiny.model.cell, tiny.model.heads = "slstm", 3
    with pytest.raises(UserError, match=r"cell=slstm cannot be made: 4 units cannot be cut into 3 heads"):
        execute(validate(tiny), tmp_path, dry_run=True)


def test_what_a_cell_starts_with_is_said_before_it_is_trained(tiny, monkeypatch):
    monkeypatch.setattr(cohorts, "memory_needed", lambda *_: 1)
    tiny.model.cell = "lem"
    said = "bias_init uniform_units, dt 1, kernel_init uniform_units_per_gate, recurrent_init uniform_units_per_gate"
    assert f"  {said}" in list(cohorts.describe(expand(validate(tiny))))
