import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX.proto.api_pb2 import DataType, Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from rnn_compare import study
from rnn_compare.config import KEYS, UserError, validate
from rnn_compare.study import board, cohorts, execute, machine
from rnn_compare.study.cohorts import split
from rnn_compare.study.expansion import expand
from rnn_compare.training.program import memory_needed
from rnn_compare.workdir.opening import check_workdir

FINAL = [
    "final_loss", "last_loss", "best_loss", "area", "epochs_to_level", "volatility", "spikes", "spike_size",
    "held_out_loss",
]  # fmt: skip


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
    axes = ["data.window", *(key for key in KEYS if isinstance(KEYS[key].default, float))]
    tiny.sweep = {",".join(axes): tuple((1, *[1e-5 / 3] * (len(axes) - 2), last) for last in (1, 2))}
    tiny.seeds = 11
    names = [run.name for run in expand(validate(tiny))]
    assert len(set(names)) == 22
    assert {len(name) for name in names} == {255}
    assert names[10].endswith("-s10")
    assert names == [run.name for run in expand(validate(tiny))]


def test_a_study_without_axes_is_one_run_per_seed(tiny):
    tiny.seeds = 2
    assert [run.name for run in expand(validate(tiny))] == ["lstm-s0", "lstm-s1"]


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


def test_a_study_leaves_everything_it_promises(pair, tmp_path):
    assert execute(validate(pair), tmp_path, dry_run=False)
    assert {p.name for p in tmp_path.iterdir()} == {
        ".lock", "config.json", "environment.json", "report.html", "report.md", "summary.md", "study",
        "lstm-s0", "gru-s0", "loss.png", "distributions.png", "differences.png", "held_out.png", "predictions.png",
    }  # fmt: skip
    assert json.loads((tmp_path / "config.json").read_text())["model.units"] == 4
    for name in ("lstm-s0", "gru-s0"):
        assert json.loads((tmp_path / name / "run.json").read_text())["status"] == "finished"
        curves = np.load(tmp_path / name / "curves.npz")
        events = EventAccumulator(str(tmp_path / name), size_guidance={"scalars": 0, "histograms": 0}).Reload()
        tags = {"loss", "loss/flat", "loss/short", "loss/long", "grad_norm", "seconds_per_epoch"}
        final = {f"measures/{name}" for name in FINAL}
        assert set(curves.files) == tags
        assert set(events.Tags()["scalars"]) == tags | final
        for tag in tags:
            scalars = events.Scalars(tag)
            assert [s.step for s in scalars] == list(range(7))
            np.testing.assert_array_equal(np.float32([s.value for s in scalars]), curves[tag])
        assert [h.step for h in events.Histograms("params/recurrent/kernel")] == [5, 7]
        assert "config/text_summary" in events.Tags()["tensors"]
        predictions = np.load(tmp_path / name / "predictions.npz")
        assert {key: predictions[key].shape for key in predictions.files} == {
            "predictions": (20, 7), "targets": (20, 7), "change": (20,),
        }  # fmt: skip
        held_out = json.loads((tmp_path / name / "run.json").read_text())["held_out"]
        assert events.Scalars("measures/held_out_loss")[0].value == pytest.approx(held_out["loss"])
        params = np.load(tmp_path / name / "params.npz")
        assert params["recurrent/recurrent_kernel"].shape[0] == 4
        assert params["flat/kernel"].shape == (4, 3)
    events = EventAccumulator(str(tmp_path / "study")).Reload()
    assert set(events.Tags()["images"]) == {
        f"figure/{name}" for name in ("loss", "distributions", "differences", "held_out", "predictions")
    }
    machine = json.loads((tmp_path / "environment.json").read_text())
    assert {"command", "cpu", "cores", "devices"} <= machine.keys()
    assert machine["packages"]["jax"] == jax.__version__
    assert "lstm-s0" in (tmp_path / "summary.md").read_text()


def test_the_same_study_twice_gives_the_same_bits(pair, tmp_path):
    for name in ("a", "b"):
        execute(validate(pair), tmp_path / name, dry_run=False)
    for run in ("lstm-s0", "gru-s0"):
        for file in ("curves.npz", "params.npz", "predictions.npz"):
            a, b = (np.load(tmp_path / name / run / file) for name in ("a", "b"))
            for key in a.files:
                if key != "seconds_per_epoch":
                    np.testing.assert_array_equal(a[key], b[key])


def test_dry_run_writes_nothing(pair, tmp_path, capsys):
    assert execute(validate(pair), tmp_path / "new", dry_run=True)
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().out
    for word in (
        "lstm-s0",
        "gru-s0",
        "7 epochs",
        "[20, 3, 1]",
        "cpu",
        "backend cpu",
        " GB",
        "minutes here",
        "in all about",
    ):
        assert word in said


def test_a_diverged_run_is_reported_and_the_others_go_on(tiny, tmp_path, capsys):
    tiny.sweep = {"optimizer.learning_rate": (0.001, 1e30)}
    assert not execute(validate(tiny), tmp_path, dry_run=False)
    bad, good = "lstm-learning_rate=1e+30-s0", "lstm-learning_rate=0.001-s0"
    result = json.loads((tmp_path / bad / "run.json").read_text())
    assert result["status"] == "diverged"
    at = result["diverged_at"]
    assert f"{bad} diverged: its loss or gradient is not finite at epoch {at}" in capsys.readouterr().out
    assert f"diverged at epoch {at}" in (tmp_path / "summary.md").read_text()
    assert json.loads((tmp_path / good / "run.json").read_text())["status"] == "finished"
    events = EventAccumulator(str(tmp_path / bad)).Reload()
    assert [s.step for s in events.Scalars("loss")] == list(range(at))


def test_a_run_folder_that_leads_elsewhere_is_refused(tiny, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "lstm-s0").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="lstm-s0 is a link"):
        execute(validate(tiny), tmp_path / "w", dry_run=False)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_workdir_that_became_another_studys_while_waiting_for_its_lock_is_refused(pair, tmp_path, monkeypatch):
    held = study.lock.held

    @contextlib.contextmanager
    def other_was_here(workdir):
        with held(workdir):
            (workdir / "config.json").write_text('{"format": 1, "data.length": 7}')
            yield

    monkeypatch.setattr(study.lock, "held", other_was_here)
    with pytest.raises(UserError, match=r"data.length is 7 there and 20 here"):
        execute(validate(pair), tmp_path, dry_run=False)


def test_a_workdir_of_another_config_is_refused(pair, tmp_path):
    execute(validate(pair), tmp_path, dry_run=False)
    pair.train.epochs = 8
    with pytest.raises(UserError, match=r"another config \(train.epochs is 7 there and 8 here\)"):
        check_workdir(tmp_path, validate(pair))


def test_a_workdir_that_cannot_be_written_is_refused(pair, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file/below", "link"):
        with pytest.raises(UserError, match="is a file"):
            check_workdir(tmp_path / name, validate(pair))
    with pytest.raises(UserError, match="cannot be written"):
        check_workdir(Path("/proc/nothing"), validate(pair))


@pytest.mark.parametrize("text", ["{", "5", "[1]", "\0"])
def test_a_garbled_workdir_is_refused(pair, tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="cannot be read"):
        check_workdir(tmp_path, validate(pair))


@pytest.mark.parametrize("text", ["{", "5", "[1]", "{}", '{"config": 5}', '{"config": {}}'])
def test_a_garbled_run_is_refused(pair, tmp_path, text):
    (tmp_path / "gru-s0").mkdir()
    (tmp_path / "gru-s0" / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"gru-s0/run\.json cannot be read"):
        execute(validate(pair), tmp_path, dry_run=True)


def test_a_cohort_that_is_too_large_is_split_by_what_it_needs(tiny):
    tiny.seeds = 11
    tiny.data.length = 500
    (cohort,) = cohorts.group(expand(validate(tiny)))
    four = memory_needed(cohort[0].config, 4)
    parts = split(cohort, four)
    assert [run for part in parts for run in part] == cohort
    sizes = {len(part) for part in parts}
    assert max(sizes) - min(sizes) <= 1
    assert memory_needed(cohort[0].config, max(sizes)) <= four < memory_needed(cohort[0].config, 5)
    assert split(cohort, 10**12) == [cohort]
    assert [len(part) for part in split(cohort, 1)] == [1] * 11


def test_runs_that_another_sweep_left_are_reported_under_this_one(tiny, tmp_path):
    assert execute(validate(tiny), tmp_path, dry_run=False)
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert "2 of 2 runs have ended" in (tmp_path / "report.md").read_text()
    tiny.sweep = {}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert "1 of 1 runs have ended" in (tmp_path / "report.md").read_text()


def test_two_runs_that_do_not_fit_together_are_trained_one_by_one(tiny):
    tiny.seeds = 2
    (pair,) = cohorts.group(expand(validate(tiny)))
    assert split(pair, memory_needed(pair[0].config, 2)) == [pair]
    assert [len(part) for part in split(pair, memory_needed(pair[0].config, 2) - 1)] == [1, 1]


def test_a_cohort_has_no_more_runs_than_files_can_be_open(tiny, monkeypatch):
    tiny.seeds = 11
    (cohort,) = cohorts.group(expand(validate(tiny)))
    monkeypatch.setattr(cohorts, "most_open_files", lambda: 4)
    assert sorted(len(part) for part in split(cohort, 10**12)) == [3, 4, 4]


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        machine.most_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_run_that_no_memory_holds_is_refused_before_it_is_tried(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "device_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"config.data.length=20 with .* needs .* GB of memory, and there are 1e-06"):
        execute(validate(tiny), tmp_path, dry_run=False)


def test_a_whole_study_on_several_devices(pytestconfig, tmp_path, assert_same_results):
    """Seven runs on four virtual devices: four and three; their bits are those of one device."""
    for devices in (1, 4):
        environment = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [
            sys.executable, "-W", "error", "-m", "rnn_compare.main", f"--workdir={tmp_path / str(devices)}",
            f"--config={pytestconfig.rootpath}/configs/smoke.py", "--config.train.epochs=9", "--config.seeds=7",
            "--config.sweep.model.cell=lstm", "--config.data.length=50", "--config.speed.limit=0",
        ]  # fmt: skip
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert result.returncode == 0, result.stderr
        assert ("4 stacked runs" in result.stdout) == (devices == 4)
    assert_same_results(tmp_path / "1", tmp_path / "4", [f"lstm-s{seed}" for seed in range(7)])


def test_the_table_knows_how_many_epochs_each_cohort_has(tiny, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(study, "Board", lambda found, tally: rows.extend(found) or board.Board(found, tally))
    tiny.sweep = {"train.epochs": (3, 5)}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert [(row.epochs, row.done) for row in rows] == [(3, 3), (5, 5)]


def test_hparams_page_has_a_row_per_run_with_types_domains_and_metrics(tiny, tmp_path):
    tiny.sweep = {"model.cell": ("lstm", "gru"), "optimizer.learning_rate": (0.001, 0.01)}
    execute(validate(tiny), tmp_path, dry_run=False)

    def plugin_data(folder, tag):
        summary = EventAccumulator(str(tmp_path / folder)).Reload().SummaryMetadata(f"_hparams_/{tag}")
        return HParamsPluginData.FromString(summary.plugin_data.content)

    experiment = plugin_data("study", "experiment").experiment
    infos = {info.name: info for info in experiment.hparam_infos}
    assert {name: DataType.Name(info.type) for name, info in infos.items()} == {
        "model.cell": "DATA_TYPE_STRING", "optimizer.learning_rate": "DATA_TYPE_FLOAT64", "seed": "DATA_TYPE_FLOAT64",
        "study": "DATA_TYPE_STRING",
    }  # fmt: skip
    assert list(infos["model.cell"].domain_discrete) == ["lstm", "gru"]
    assert list(infos["optimizer.learning_rate"].domain_discrete) == [0.001, 0.01]
    metrics = [m.name.tag for m in experiment.metric_infos]
    # Parallel coordinates leave out whoever has none of a metric: not every run comes to the level.
    assert set(metrics) == {f"measures/{name}" for name in FINAL} - {"measures/epochs_to_level"}
    assert metrics[:3] == ["measures/final_loss", "measures/volatility", "measures/held_out_loss"]
    name = "gru-learning_rate=0.01-s0"
    start = plugin_data(name, "session_start_info").session_start_info
    assert start.hparams["model.cell"].string_value == "gru"
    assert start.hparams["optimizer.learning_rate"].number_value == 0.01
    assert start.hparams["model.units"].number_value == 4  # which another study may vary
    assert start.hparams["study"].string_value == f"{tmp_path.name}: learning_rate 0.01"
    assert plugin_data(name, "session_end_info").session_end_info.status == Status.Value("STATUS_SUCCESS")
    folders = {path.parent.name for path in tmp_path.rglob("events.out.*")}
    assert len(folders) == 5  # four runs and the study


def test_heat_maps_of_a_study_with_two_axes_besides_the_cell(tiny, tmp_path):
    tiny.seeds = 2
    tiny.sweep = {
        "model.cell": ("lstm", "gru"),
        "model.kernel_init": ("glorot_uniform", "he_normal"),
        "model.recurrent_init": ("orthogonal", "zeros"),
    }
    execute(validate(tiny), tmp_path, dry_run=False)
    assert (tmp_path / "last_loss.png").exists()
    assert (tmp_path / "volatility.png").exists()


def test_a_workdir_of_another_format_is_refused(pair, tmp_path):
    (tmp_path / "config.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="is of format 2 and this version works with format 1"):
        check_workdir(tmp_path, validate(pair))


def test_the_rule_of_judging_may_not_change_in_a_workdir(pair, tmp_path):
    execute(validate(pair), tmp_path, dry_run=False)
    pair.claims.seeds = 2
    with pytest.raises(UserError, match=r"another config \(claims.seeds is 10 there and 2 here\)"):
        execute(validate(pair), tmp_path, dry_run=False)


class Door:
    """What unpickling it would run."""

    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


def test_nothing_in_a_workdir_is_unpickled(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(validate(pair), tmp_path / "w", dry_run=False)
    np.savez(tmp_path / "w" / "lstm-s0" / "curves.npz", loss=np.array([Door()], dtype=object))
    execute(validate(pair), tmp_path / "w", dry_run=False)
    assert "lstm-s0/curves.npz cannot be read" in (tmp_path / "w" / "summary.md").read_text()
    assert not (tmp_path / "opened").exists()
