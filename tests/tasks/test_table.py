"""Your own data: every form of a file, splits by time that let nothing leak, and what is wrong with a file."""

import gzip

import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.config import UserError, validate
from rnn_compare.study import execute
from rnn_compare.tasks import make_task
from rnn_compare.tasks.task import Batch
from rnn_compare.training.fingerprint import edited, fingerprint
from rnn_compare.training.start import init_batch, init_data


def config_of(path, length=8, sequences=5, **task):
    config = base.base()
    config.task.name, config.task.path = "table", str(path)
    config.data.length, config.data.sequences, config.model.units = length, sequences, 4
    for key, value in task.items():
        config.task[key] = value
    return config


def table(path, **changes):
    return make_task(config_of(path, **changes))


@pytest.fixture
def csv(tmp_path):
    def csv(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        return path

    return csv


def counting(rows=100):
    """Two columns: the row's number, and ten times it."""
    return "a,b\n" + "".join(f"{i},{10 * i}\n" for i in range(rows))


def unscaled(array, rows):
    """The first column, as it was before it was scaled by the rows that are learnt from."""
    learnt = np.asarray(rows, np.float64)
    return np.asarray(array[..., 0], np.float64) * learnt.std() + learnt.mean()


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_window_is_neighbouring_rows_and_the_target_the_row_some_steps_later(csv, name):
    task = table(csv(counting(), name), horizon=3, targets=("b",))
    batch = init_data(config_of(csv(counting(), name), horizon=3, targets=("b",)), 0).batch(0)
    assert (task.columns, task.features, task.heads) == ((("a", "b"), ("b",), ()), 2, (("head", 1),))
    assert task.names == ("b, 3 steps ahead",)
    inputs = unscaled(batch.inputs, range(80))
    np.testing.assert_allclose(np.diff(inputs, axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(unscaled(batch.targets, range(0, 800, 10)), 10 * (inputs + 3), atol=2e-3)


def test_nothing_that_is_learnt_is_judged_and_the_last_target_lies_before_the_first_input_judged(csv):
    config = config_of(csv(counting()), horizon=4)
    seen = [init_data(config, seed).batch(i) for seed in range(3) for i in range(40)]
    learnt = [unscaled(part, range(80)) for batch in seen for part in batch]
    judged = [unscaled(part, range(80)) for part in init_batch(config, 0, 2)]
    assert (round(min(map(np.min, learnt))), round(max(map(np.max, learnt)))) == (0, 79)
    assert round(judged[0].min()) == 80
    assert round(judged[1].min()) == 84
    assert round(judged[1].max()) == 99
    np.testing.assert_array_equal(init_batch(config, 0, 2).inputs, init_batch(config, 5, 2).inputs)


def test_scaling_is_learnt_on_the_part_that_is_learnt_from_alone(csv):
    calm = table(csv("a\n" + "".join(f"{i % 2}\n" for i in range(100)), "calm.csv"))
    wild = table(csv("a\n" + "".join(f"{i % 2 if i < 80 else 1000}\n" for i in range(100)), "wild.csv"))
    learnt = calm.starts[-1] + 9
    np.testing.assert_array_equal(calm.inputs[:learnt], wild.inputs[:learnt])
    assert set(np.unique(calm.inputs)) == {-1, 1}
    assert wild.inputs.max() == 1999


def test_what_is_missing_goes_in_as_the_last_value_and_does_not_count_as_a_target(csv):
    path = csv("a\n" + "".join('""\n' if i in (10, 11, 90) else f"{i}\n" for i in range(100)))
    task = table(path)
    known = [i for i in range(80) if i not in (10, 11)]
    np.testing.assert_allclose(unscaled(task.inputs, known)[8:14], [8, 9, 9, 9, 12, 13], atol=1e-4)
    assert np.isnan(task.targets[:, 0]).sum() == 3
    batch = Batch(np.zeros((2, 1, 1)), np.array([[[np.nan]], [[2.0]]]))
    assert task.guess(batch) == 0


def test_series_are_kept_apart_sorted_and_cut_where_steps_are_missing(csv):
    rows = [(name, minute) for name in "xy" for minute in (*range(40), *range(60, 100))]
    np.random.default_rng(0).shuffle(rows)
    text = "who,at,v\n" + "".join(
        f"{name},2026-01-01 {int(m) // 60:02}:{int(m) % 60:02}:00,{int(m) + (1000 if name == 'y' else 0)}\n"
        for name, m in rows
    )
    config = config_of(csv(text), time="at", series="who", length=5, share=0.7)
    learnt = [m + z for z in (0, 1000) for m in (*range(40), *range(60, 76))]
    for i in range(20):
        values = unscaled(init_data(config, 0).batch(i).inputs, learnt)
        np.testing.assert_allclose(np.diff(values, axis=0), 1, atol=0.01)
    judged = unscaled(init_batch(config, 0, 2).inputs, learnt)
    assert all(round(v) % 1000 >= 76 for v in judged.flat)


def test_a_series_that_is_shorter_than_a_window_is_filled_up_with_what_does_not_count(csv):
    rows = [("long", 40), *((name, 10) for name in "abcde")]
    path = csv("who,v\n" + "".join(f"{name},{i}\n" for name, count in rows for i in range(count)))
    config = config_of(path, series="who", length=16, share=0.5)
    task = make_task(config)
    assert len(task.inputs) == 40 + 10 * 17
    assert np.isfinite(task.targets).sum() == 90
    batches = [init_data(config, 0).batch(i).targets for i in range(20)]
    assert {int(n) for targets in batches for n in np.isfinite(np.asarray(targets)).sum(axis=(0, 2))} == {4, 16}


def test_a_block_of_series_needs_no_name_for_them(tmp_path):
    np.save(tmp_path / "many.npy", np.random.default_rng(0).normal(size=(6, 30, 2)))
    task = table(tmp_path / "many.npy", targets=("1",))
    assert task.columns == (("0", "1"), ("1",), ())
    assert len(task.starts) == 6 * (24 - 9 + 1)


def test_arrays_are_tables_too(tmp_path, csv):
    rows = np.arange(100.0)
    np.save(tmp_path / "one.npy", rows)
    np.savez(tmp_path / "named.npz", a=rows, b=10 * rows)
    expected = table(csv(counting()))
    for path, inputs in ((tmp_path / "one.npy", ("0",)), (tmp_path / "named.npz", ("a",))):
        found = table(path, inputs=inputs)
        np.testing.assert_array_equal(found.inputs[:, 0], expected.inputs[:, 0])


def test_parquet_is_read(tmp_path, csv):
    pytest.importorskip("pyarrow")
    import pandas as pd

    pd.read_csv(csv(counting())).to_parquet(tmp_path / "data.parquet")
    np.testing.assert_array_equal(table(tmp_path / "data.parquet").inputs, table(csv(counting())).inputs)


@pytest.mark.parametrize("choose", [0, 10])
def test_the_parts_follow_each_other_and_share_no_row(csv, choose):
    config = config_of(csv(counting()), horizon=3, targets=("b",))
    config.train.choose = choose
    task = make_task(config)
    learnt, judged = task.starts, task.judging
    rows = np.asarray(task.inputs)[..., 0]
    assert np.diff(rows).min() > 0
    ends = {0: (79, 80), 10: (63, 64)}[choose]  # the last row that is learnt from, and the first of the next part
    row = lambda i: round(float(unscaled(np.asarray(task.inputs)[i], range(ends[1]))))  # noqa: E731
    assert row(learnt[-1] + 8 + 3 - 1) == ends[0]
    assert row(judged[0]) == 80
    assert len(task.choosing_at) == (5 if choose else 0)
    if choose:
        assert (row(task.choosing_at[0]), row(task.choosing_at[-1] + 8 + 3 - 1)) == (64, 79)
        first = task.choosing().batch(None)
        np.testing.assert_array_equal(first.inputs, task.choosing().batch(jax.random.key(1)).inputs)
        assert unscaled(first.inputs, range(64))[0].min() == pytest.approx(64, abs=1e-3)


def test_naive_forecasts_lose_what_a_plain_loop_says(csv):
    values = np.sin(np.arange(200) * 2 * np.pi / 12) + np.random.default_rng(0).normal(size=200)
    path = csv("a\n" + "".join(f"{v}\n" for v in values))
    task = table(path, horizon=2, season=12, length=20)
    scaled = (values - values[:160].mean()) / values[:160].std()
    last, season = [], []
    for start in np.linspace(160, 200 - 22, 5).round().astype(int):
        window = scaled[start : start + 22]
        last += [(window[t] - window[t - 2]) ** 2 for t in range(2, 22)]
        season += [(window[t] - window[t - 12]) ** 2 for t in range(12, 22)]
    assert task.naive() == pytest.approx({"last value": np.mean(last), "12 steps before": np.mean(season)}, rel=1e-6)
    unit = values[:160].std()
    assert task.naive_errors()["last value"] == pytest.approx(
        {"a, 2 steps ahead": unit * np.mean(last) ** 0.5}, rel=1e-6
    )


def test_errors_are_in_the_unit_of_their_column_and_what_is_missing_counts_for_none(csv):
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 2, 200), rng.normal(-1, 30, 200)
    text = "a,b\n" + "".join(f"{x},{'' if i % 7 == 0 else y}\n" for i, (x, y) in enumerate(zip(a, b, strict=True)))
    task = table(csv(text)).judged()
    batch = task.batch(None)
    answers = np.asarray(task.in_units(batch.targets), np.float64)
    known = np.isfinite(answers)
    rows = np.linspace(160, 200 - 9, 5).round().astype(int) + np.arange(1, 9)[:, None]
    np.testing.assert_allclose(answers[..., 0], a[rows], rtol=1e-5)
    np.testing.assert_allclose(answers[..., 1][known[..., 1]], b[rows][known[..., 1]], rtol=1e-5)
    assert (known[..., 1] == (rows % 7 != 0)).all()
    off = np.stack([np.where(known[..., 0], 0.5, 0), np.where(known[..., 1], -3, 0)], axis=-1)
    values = np.where(known, (answers + off - np.asarray(task.scales[0])) / np.asarray(task.scales[1]), 0)
    errors = task.worth(values.astype(np.float32), batch)
    assert errors == {"a, 1 step ahead": pytest.approx(0.5, rel=1e-4), "b, 1 step ahead": pytest.approx(3, rel=1e-4)}


@pytest.mark.parametrize(
    ("text", "name", "task", "said"),
    [
        (None, "none.csv", {}, "it cannot be read .No such file"),
        ("a\n1\n", "data.xlsx", {}, "it must end in .csv, .csv.gz, .parquet, .npy or .npz"),
        ("a,b\n1,2\n3,4,5\n", "data.csv", {}, "it cannot be read .*line 3"),
        ("a,b\n1,x\n2,y\n", "data.csv", {"inputs": ("b",)}, "line 2 has 'x' in the column 'b', which is no number"),
        ("b\nx\n", "data.csv", {}, "it has no column of numbers"),
        ("a\n1\n", "data.csv", {"targets": ("c",)}, "config.task.targets names the column 'c', which .* it has a$"),
        ("a,t\n1,2026-01-01\n2,soon\n", "data.csv", {"time": "t"}, "line 3 of .* has 'soon', which is no time such as"),
        ("a\n1\ninf\n3\n", "data.csv", {}, "the column 'a' has a number beyond 1e.18"),
        (counting(), "data.csv", {"targets": ("b", "b")}, "config.task.targets is .* names of columns, each once"),
        (
            counting(),
            "data.csv",
            {"inputs": ("a", "b"), "time": "a"},
            "config.task.inputs names the column 'a', which",
        ),
        ("t,v\n" + "1,2\n1,3\n2,4\n" * 20, "data.csv", {"time": "t"}, "line . of .* has a time that is there before"),
        ("a,b\n" + "1,2\n2,2\n" * 50, "data.csv", {"targets": ("b",)}, "the column 'b' never changes in the part"),
        ("a,b\n" + "1,\n2,\n" * 50, "data.csv", {"targets": ("b",)}, "the column 'b' is empty in the part that is"),
        ("FILE,x\n1,a\n2,b\n", "data.csv", {"inputs": ("FILE", "x")}, "line 2 has 'a' in the column 'x', which is no"),
        (counting(), "data.csv", {"season": 9}, "config.task.season is 9: it must be smaller than"),
        (counting(9), "data.csv", {}, "config.data.length is 8: with config.task.horizon=1 it must be at most 6"),
        ("a;b\n1;2\n", "data.csv", {"targets": ("b",)}, "it has a;b; columns must have commas between them"),
        (
            "a\n" + "1\n2\n" * 20,
            "data.csv",
            {"horizon": 9},
            "its 40 rows leave no window to judge, with config.task.horizon=9",
        ),
        (
            "a\n1\n2\n",
            "data.csv",
            {"share": 1.0},
            "config.task.share is 1.0: it leaves nothing to learn from, or to judge",
        ),
        ("", "data.csv", {}, "it cannot be read .*No columns"),
        ("not a zip", "data.npz", {}, "it cannot be read"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(csv, tmp_path, text, name, task, said):
    path = tmp_path / name if text is None else csv(text, name)
    with pytest.raises(UserError, match=said) as raised:
        validate(config_of(path, **task))
    assert "\n" not in str(raised.value)


def test_a_table_needs_a_path_and_no_other_task_takes_one(tiny):
    with pytest.raises(UserError, match=r"config.task.path is empty: give the file, with --config.task.path=FILE"):
        validate(config_of(""))
    tiny.task.path = "data.csv"
    with pytest.raises(UserError, match=r"config.task.path is 'data.csv' for the task price, which does not read it"):
        validate(tiny)


def test_a_run_belongs_to_the_content_of_its_file(csv):
    path = csv(counting())
    config = config_of(path)
    config.train.backend = "scan"  # which need not be compiled by Numba
    validate(config)
    before = fingerprint(config)
    assert edited(before, fingerprint(config)) == ""
    csv(counting(101))
    assert edited(before, fingerprint(config)) == "its data file"


def test_a_study_of_a_table_has_the_naive_forecasts_in_its_tables(csv, tmp_path, no_figures):
    rng = np.random.default_rng(0)
    config = config_of(csv("a,b\n" + "".join(f"{x},{x**2}\n" for x in rng.normal(size=300))), targets=("b",), season=7)
    config.train.epochs, config.train.chunk, config.train.backend = 20, 10, "scan"
    assert execute(validate(config), tmp_path / "study", dry_run=False)
    summary = (tmp_path / "study/summary.md").read_text()
    for name in ("last value", "7 steps before", "guessing"):
        assert f"| {name} " in summary
        assert f"| {name} " in (tmp_path / "study/report.md").read_text()
    assert "## In the data's own units" in (tmp_path / "study/report.md").read_text()
    assert "b, 1 step ahead" in (tmp_path / "study/report.md").read_text()


def test_a_million_rows_start_in_seconds(tmp_path):
    import time

    rows = np.random.default_rng(0).normal(size=(1_000_000, 4))
    np.savetxt(tmp_path / "long.csv", rows[:1000], delimiter=",", header="a,b,c,d", comments="")
    with (tmp_path / "long.csv").open("a") as file:
        text = (tmp_path / "long.csv").read_text().split("\n", 1)[1]
        file.write(text * 999)
    start = time.perf_counter()
    task = table(tmp_path / "long.csv", length=1000)
    assert len(task.inputs) == 1_000_000
    assert time.perf_counter() - start < 10
