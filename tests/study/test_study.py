import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare import study
from rnn_compare.config import UserError, validate
from rnn_compare.study import board, execute, planning
from rnn_compare.workdir.opening import check_workdir

pytestmark = pytest.mark.usefixtures("no_figures")


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
        "of training here",
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


@pytest.mark.slow
def test_runs_that_another_sweep_left_are_reported_under_this_one(tiny, tmp_path):
    assert execute(validate(tiny), tmp_path, dry_run=False)
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert "2 of 2 runs have ended" in (tmp_path / "report.md").read_text()
    tiny.sweep = {}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert "1 of 1 runs have ended" in (tmp_path / "report.md").read_text()


def test_a_run_that_no_memory_holds_is_refused_before_it_is_tried(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "device_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"config.model.units=4 with .* needs .* GB of memory, and there are 1e-06"):
        execute(validate(tiny), tmp_path, dry_run=False)


@pytest.mark.slow
def test_the_table_knows_how_many_epochs_each_cohort_has(tiny, tmp_path, monkeypatch):
    rows = []
    monkeypatch.setattr(study, "Board", lambda found, tally: rows.extend(found) or board.Board(found, tally))
    tiny.sweep = {"train.epochs": (3, 7)}
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert [(row.epochs, row.done) for row in rows] == [(3, 3), (7, 7)]


def test_a_workdir_of_another_format_is_refused(pair, tmp_path):
    (tmp_path / "config.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match="is of format 2 and this version works with format 1"):
        check_workdir(tmp_path, validate(pair))


@pytest.mark.slow
def test_a_whole_study_on_several_devices(tiny, tiny_flags, tmp_path, assert_same_results):
    """Seven runs on four virtual devices: four and three; their bits are those of one device."""
    tiny.seeds = 7
    (tmp_path / "base.py").write_text("from rnn_compare.config import base as get_config")
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    command = [
        sys.executable, "-W", "error", "-m", "rnn_compare.main", f"--workdir={tmp_path / '4'}",
        f"--config={tmp_path}/base.py", "--config.seeds=7", *tiny_flags,
    ]  # fmt: skip
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "4 stacked runs" in result.stdout
    assert "3 stacked runs" in result.stdout
    assert execute(validate(tiny), tmp_path / "1", dry_run=False)
    assert_same_results(tmp_path / "1", tmp_path / "4", [f"lstm-s{seed}" for seed in range(7)])
