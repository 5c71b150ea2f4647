"""Studies that were stopped, failed or grown are gone on with, to the same bits."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare.config import UserError, validate
from rnn_compare.console import interrupt
from rnn_compare.study import board, execute, fit
from rnn_compare.workdir.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("no_figures")


def interrupted(config, workdir, monkeypatch, at):
    """The study, stopped as by a signal once the first cohort has done so many epochs."""
    monkeypatch.setattr(interrupt, "asked", lambda: asked[0])
    asked, show = [False], board.Board.train

    def watch(board, i, done, loss=None):
        asked[0] = asked[0] or done >= at
        show(board, i, done, loss)

    def check():
        if asked[0]:
            raise interrupt.Interrupted(2)

    monkeypatch.setattr(board.Board, "train", watch)
    monkeypatch.setattr(interrupt, "check", check)
    with pytest.raises(interrupt.Interrupted):
        execute(config, workdir, dry_run=False)
    monkeypatch.undo()


def test_finished_runs_are_left_alone_and_new_seeds_are_added(pair, tmp_path):
    execute(validate(pair), tmp_path, dry_run=False)
    before = (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns
    (tmp_path / "lstm-s0" / "run.json").unlink()  # as if it had been killed
    pair.seeds = 2
    assert execute(validate(pair), tmp_path, dry_run=False)
    assert (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns == before
    assert all((tmp_path / f"{cell}-s{seed}" / "run.json").exists() for cell in ("lstm", "gru") for seed in (0, 1))
    assert len(list((tmp_path / "lstm-s0").glob("events*"))) == 1


def test_a_diverged_run_leaves_the_same_files_whoever_is_beside_it_and_whenever_it_is_gone_on_with(
    tiny, tmp_path, monkeypatch, assert_same_results
):
    tiny.train.choose = 2
    tiny.log.histogram_every, bad, good = 2, "lstm-learning_rate=1e+30-s0", "lstm-learning_rate=0.001-s0"
    tiny.sweep = {"optimizer.learning_rate": (1e30,)}
    assert not execute(validate(tiny), tmp_path / "alone", dry_run=False)
    tiny.sweep = {"optimizer.learning_rate": (0.001, 1e30)}
    assert not execute(validate(tiny), tmp_path / "beside", dry_run=False)
    interrupted(validate(tiny), tmp_path / "killed", monkeypatch, at=6)
    shutil.copytree(tmp_path / "beside" / good, tmp_path / "killed" / good, dirs_exist_ok=True)
    assert not execute(validate(tiny), tmp_path / "killed", dry_run=False)  # only the bad one, from epoch 6
    seen = {}
    for name in ("alone", "beside", "killed"):
        events = EventAccumulator(str(tmp_path / name / bad), size_guidance={"scalars": 0, "histograms": 0}).Reload()
        tags = events.Tags()
        seen[name] = {tag: [s.step for s in events.Scalars(tag)] for tag in tags["scalars"]}
        seen[name] |= {tag: [h.step for h in events.Histograms(tag)] for tag in tags["histograms"]}
    assert_same_results(tmp_path / "alone", tmp_path / "beside", [bad])
    assert_same_results(tmp_path / "beside", tmp_path / "killed", [bad, good])
    assert seen["alone"] == seen["beside"] == seen["killed"]
    at = json.loads((tmp_path / "alone" / bad / "run.json").read_text())["diverged_at"]
    assert len(np.load(tmp_path / "alone" / bad / "curves.npz")["loss"]) == at + 1
    assert seen["alone"]["measures/best_loss"] == [at + 1]


def test_a_checkpoint_of_another_version_is_told_and_kept(tiny, tmp_path, monkeypatch):
    interrupted(validate(tiny), tmp_path, monkeypatch, at=3)
    snapshot = fit.Trainer.snapshot
    monkeypatch.setattr(fit.Trainer, "snapshot", lambda cohort: {f"new {k}": v for k, v in snapshot(cohort).items()})
    with pytest.raises(UserError, match="the checkpoint of lstm-s0 is of another version"):
        execute(validate(tiny), tmp_path, dry_run=False)
    monkeypatch.undo()
    assert execute(validate(tiny), tmp_path, dry_run=False)


@pytest.mark.slow
def test_two_studies_with_runs_of_one_name_do_not_go_on_from_each_other(
    tiny, tmp_path, monkeypatch, capsys, assert_same_results
):
    """Names leave out the key of a value that is a word: `zeros` is a kernel's here, a recurrent kernel's there."""
    tiny.sweep = {"model.kernel_init": ("zeros", "he_normal")}
    interrupted(validate(tiny), tmp_path / "a", monkeypatch, at=5)
    tiny.sweep = {"model.recurrent_init": ("zeros", "he_normal")}
    interrupted(validate(tiny), tmp_path / "a", monkeypatch, at=3)
    capsys.readouterr()
    assert execute(validate(tiny), tmp_path / "a", dry_run=False)
    assert "goes on from epoch 3" in capsys.readouterr().out
    assert execute(validate(tiny), tmp_path / "b", dry_run=False)
    assert_same_results(tmp_path / "a", tmp_path / "b", ["lstm-zeros-s0", "lstm-he_normal-s0"])


def test_checkpoints_go_by_time_too(tiny, tmp_path, monkeypatch):
    saved, save = [], Checkpoints.save

    def noting(checkpoints, checkpoint):
        saved.append(checkpoint.epoch)
        save(checkpoints, checkpoint)

    monkeypatch.setattr(Checkpoints, "save", noting)
    tiny.checkpoint.seconds = 1e-6
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert saved == [3, 5, 7]  # every chunk's end


def test_half_written_files_of_killed_processes_are_removed(tiny, tmp_path):
    (tmp_path / "lstm-s0").mkdir()
    for part in (tmp_path / ".config.json.1.part", tmp_path / "lstm-s0" / ".curves.npz.1.part"):
        part.write_text("half")
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert not list(tmp_path.rglob("*.part"))


def test_a_cohort_that_fails_does_not_stop_the_others_and_is_tried_again_only_when_asked(
    pair, tmp_path, monkeypatch, capsys
):
    whole = fit.train

    def broken(runs, *places):
        if runs[0].config.model.cell == "lstm":
            raise RuntimeError("no memory\nfor this")
        whole(runs, *places)

    monkeypatch.setattr(fit, "train", broken)
    assert not execute(validate(pair), tmp_path, dry_run=False)
    assert "lstm-s0 failed: RuntimeError: no memory" in capsys.readouterr().out
    result = json.loads((tmp_path / "lstm-s0" / "run.json").read_text())
    assert result["status"] == "failed"
    assert "in broken" in result["traceback"]
    assert "failed" in (tmp_path / "summary.md").read_text()
    monkeypatch.setattr(fit, "train", whole)
    gru = (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns
    assert not execute(validate(pair), tmp_path, dry_run=False)  # left alone, and still failed
    assert execute(validate(pair), tmp_path, dry_run=False, retry_failed=True)
    assert json.loads((tmp_path / "lstm-s0" / "run.json").read_text())["status"] == "finished"
    assert (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns == gru


@pytest.mark.slow
def test_a_failure_after_some_runs_have_ended_leaves_those_alone(tiny, tmp_path, monkeypatch):
    tiny.seeds = 3
    evaluate = fit.held_out.evaluate

    def broken(model, config, seed, params):
        if seed == 1:
            raise RuntimeError("no memory")
        return evaluate(model, config, seed, params)

    monkeypatch.setattr(fit.held_out, "evaluate", broken)
    assert not execute(validate(tiny), tmp_path, dry_run=False)
    statuses = [json.loads((tmp_path / f"lstm-s{seed}" / "run.json").read_text())["status"] for seed in range(3)]
    assert statuses == ["finished", "failed", "failed"]
    events = EventAccumulator(str(tmp_path / "lstm-s1")).Reload()
    assert events.Tensors("status/text_summary")[0].tensor_proto.string_val[0] == b"failed: RuntimeError: no memory"
    assert "_hparams_/session_end_info" in events.summary_metadata


@pytest.mark.slow
def test_a_failed_cohort_is_tried_again_from_its_checkpoint(tiny, tmp_path, monkeypatch, capsys, assert_same_results):
    tiny.checkpoint.epochs = 3
    show = board.Board.train

    def broken(board, i, done, loss=None):
        if done == 5:
            raise RuntimeError("for once")
        show(board, i, done, loss)

    monkeypatch.setattr(board.Board, "train", broken)
    assert not execute(validate(tiny), tmp_path / "a", dry_run=False)
    assert not execute(validate(tiny), tmp_path / "a", dry_run=False)
    assert "1 of those failed: --retry_failed tries them again" in capsys.readouterr().out
    monkeypatch.undo()
    assert execute(validate(tiny), tmp_path / "a", dry_run=False, retry_failed=True)
    assert "lstm-s0 goes on from epoch 3" in capsys.readouterr().out
    assert execute(validate(tiny), tmp_path / "b", dry_run=False)
    assert_same_results(tmp_path / "a", tmp_path / "b", ["lstm-s0"])
    assert not (tmp_path / "a" / "checkpoints").exists()


def test_what_changes_no_result_may_change_in_a_workdir(pair, tmp_path):
    execute(validate(pair), tmp_path, dry_run=False)
    before = (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns
    pair.checkpoint.seconds, pair.train.memory = 5.0, 1.0
    assert execute(validate(pair), tmp_path, dry_run=False)
    assert (tmp_path / "gru-s0" / "run.json").stat().st_mtime_ns == before


def test_more_seeds_join_and_what_was_begun_goes_on(tiny, tmp_path, monkeypatch, capsys, assert_same_results):
    """A study stopped half-way, gone on with at more seeds: those that were begun go on, the others start."""
    tiny.seeds, tiny.train.choose = 2, 2
    interrupted(validate(tiny), tmp_path / "a", monkeypatch, at=5)
    tiny.seeds = 3
    capsys.readouterr()
    assert execute(validate(tiny), tmp_path / "a", dry_run=False)
    assert "lstm-s0 … lstm-s1 goes on from epoch 5" in capsys.readouterr().out
    assert execute(validate(tiny), tmp_path / "b", dry_run=False)
    assert_same_results(tmp_path / "a", tmp_path / "b", ("lstm-s0", "lstm-s1", "lstm-s2"))
    assert not (tmp_path / "a" / "checkpoints").exists()


@pytest.mark.slow
def test_a_clock_that_jumps_back_changes_nothing(tiny, tmp_path, monkeypatch, assert_same_results):
    tiny.log.histogram_every = 2
    now = [2e9]

    def backwards():
        now[0] -= 1000
        return now[0]

    interrupted(validate(tiny), tmp_path / "a", monkeypatch, at=4)
    monkeypatch.setattr(time, "time", backwards)
    assert execute(validate(tiny), tmp_path / "a", dry_run=False)
    monkeypatch.undo()
    assert execute(validate(tiny), tmp_path / "b", dry_run=False)
    assert_same_results(tmp_path / "a", tmp_path / "b", ("lstm-s0",))
    events = EventAccumulator(str(tmp_path / "a" / "lstm-s0"), size_guidance={"scalars": 0, "histograms": 0}).Reload()
    assert [scalar.step for scalar in events.Scalars("loss")] == list(range(7))
    assert [histogram.step for histogram in events.Histograms("params/flat/bias")] == [2, 4, 6, 7]


OLD = Path(__file__).parent / "workdir_0_1_0"  # left by commit a0d205d, without its figures and event files


def test_a_workdir_of_an_earlier_version_opens_and_its_runs_are_left_alone(pair, tmp_path, capsys, no_figures):
    """Also where the config has got a key since, which was at its default then."""
    shutil.copytree(OLD, tmp_path / "w")
    for path in (tmp_path / "w" / "config.json", *tmp_path.glob("w/*/run.json")):
        content = json.loads(path.read_text())
        del content.get("config", content)["optimizer.schedule"]
        path.write_text(json.dumps(content))
    pair.seeds = 2
    assert execute(validate(pair), tmp_path / "w", dry_run=False)
    assert "4 runs, 2 of them ended earlier" in capsys.readouterr().out
    for name in ("lstm-s0", "gru-s0"):
        assert (tmp_path / "w" / name / "curves.npz").read_bytes() == (OLD / name / "curves.npz").read_bytes()
    assert "4 of 4 runs have ended." in (tmp_path / "w" / "report.md").read_text()
