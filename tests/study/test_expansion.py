from rnn_compare.config import KEYS, validate
from rnn_compare.study.expansion import MOST, expand


def test_runs_are_the_product_of_axes_and_seeds(tiny):
    tiny.sweep = {
        "model.cell": ("lstm", "gru"),
        "model.kernel_init": ("glorot_uniform", "he_normal"),
        "model.units,data.periods": ((4, (40, 200)), (8, (10.5, 20))),
    }
    tiny.seeds = 2
    runs = expand(validate(tiny))
    assert len(runs) == len({run.name for run in runs}) == 16
    assert runs[0].name == "lstm-glorot_uniform-units=4-periods=40+200-s0"
    assert runs[-1].name == "gru-he_normal-units=8-periods=10.5+20-s1"
    last = runs[-1].config
    assert (last.model.cell, last.model.units, last.data.periods) == ("gru", 8, (10.5, 20.0))
    assert "sweep" not in last


def test_the_name_of_a_run_with_many_axes_fits_a_folder(tiny):
    others = "compare.margin", "task.share"  # of the study, and of another task
    floats = (key for key in KEYS if isinstance(KEYS[key].default, float) and key not in others)
    axes = ["data.window", *floats]
    tiny.sweep = {",".join(axes): tuple((1, *[1e-5 / 3] * (len(axes) - 2), last) for last in (1, 2))}
    tiny.seeds = 11
    names = [run.name for run in expand(validate(tiny))]
    assert len(set(names)) == 22
    assert {len(name) for name in names} == {MOST}
    assert names[10].endswith("-s10")
    assert names == [run.name for run in expand(validate(tiny))]


def test_a_study_without_axes_is_one_run_per_seed(tiny):
    tiny.seeds = 2
    assert [run.name for run in expand(validate(tiny))] == ["lstm-s0", "lstm-s1"]
