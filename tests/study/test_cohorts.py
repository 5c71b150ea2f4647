import pytest

from rnn_compare.config import validate
from rnn_compare.study import cohorts
from rnn_compare.study.cohorts import split
from rnn_compare.study.expansion import expand
from rnn_compare.training.program import memory_needed


def test_cohorts_share_what_a_program_depends_on(tiny):
    tiny.sweep = {
        "model.cell": ("lstm", "gru"),
        "model.recurrent_init": ("orthogonal", "zeros"),
        "optimizer.learning_rate": (0.01, 0.001),
        "data.window": (1, 2),
    }
    tiny.seeds = 3
    groups = cohorts.group(expand(validate(tiny)))
    assert [len(group) for group in groups] == [12] * 4
    assert [{(r.config.model.cell, r.config.data.window) for r in group} for group in groups] == [
        {("lstm", 1)}, {("lstm", 2)}, {("gru", 1)}, {("gru", 2)},
    ]  # fmt: skip


@pytest.mark.slow
def test_a_cohort_that_is_too_large_is_split_by_what_it_needs(tiny):
    tiny.seeds = 7
    (cohort,) = cohorts.group(expand(validate(tiny)))
    four = memory_needed(cohort[0].config, 4)
    parts = split(cohort, four)
    assert [run for part in parts for run in part] == cohort
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert memory_needed(cohort[0].config, max(sizes)) <= four < memory_needed(cohort[0].config, 5)
    assert split(cohort, 10**12) == [cohort]
    assert [len(part) for part in split(cohort, 1)] == [1] * 7


def test_two_runs_that_do_not_fit_together_are_trained_one_by_one(tiny):
    tiny.seeds = 2
    (pair,) = cohorts.group(expand(validate(tiny)))
    assert split(pair, memory_needed(pair[0].config, 2)) == [pair]
    assert [len(part) for part in split(pair, memory_needed(pair[0].config, 2) - 1)] == [1, 1]


def test_a_cohort_has_no_more_runs_than_files_can_be_open(tiny, monkeypatch):
    tiny.seeds = 11
    (cohort,) = cohorts.group(expand(validate(tiny)))
    monkeypatch.setattr(cohorts, "most_open_files", lambda: 4)
    monkeypatch.setattr(cohorts, "memory_needed", lambda config, R: R)
    assert sorted(len(part) for part in split(cohort, 10**12)) == [3, 4, 4]
