"""What a study leaves: one study of four runs and two axes besides the cell, read by all tests here."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX.proto.api_pb2 import DataType, Status
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from rnn_compare.config import THE_POSTS, UserError, set_value, validate
from rnn_compare.study import execute
from rnn_compare.workdir.opening import check_workdir

NAMES = [f"{cell}-learning_rate={rate}-clip_norm=1-s0" for cell in ("lstm", "gru") for rate in (0.001, 0.01)]
FIGURES = ["loss", "distributions", "differences", "held_out", "predictions", "last_loss", "volatility"]
FINAL = [
    "final_loss", "last_loss", "best_loss", "area", "epochs_to_level", "volatility", "spikes", "spike_size",
    "held_out_loss",
]  # fmt: skip


def with_axes(config):
    config.claims.list = THE_POSTS
    config.sweep = {
        "model.cell": ("lstm", "gru"), "optimizer.learning_rate": (0.001, 0.01), "optimizer.clip_norm": (1.0,)
    }  # fmt: skip
    return config


@pytest.fixture
def config(tiny):
    return with_axes(tiny)


@pytest.fixture(scope="module")
def trained(make_tiny, tmp_path_factory):
    """The study's workdir; only to be read."""
    workdir = tmp_path_factory.mktemp("trained")
    assert execute(validate(with_axes(make_tiny())), workdir, dry_run=False)
    return workdir


def test_everything_it_promises_is_there(trained):
    files = {".lock", "config.json", "environment.json", "report.html", "report.md", "summary.md", "study"}
    files |= {"results.csv", "report.json"}
    assert {path.name for path in trained.iterdir()} == {*files, *NAMES, *(f"{name}.png" for name in FIGURES)}
    assert json.loads((trained / "config.json").read_text())["model.units"] == 4
    events = EventAccumulator(str(trained / "study")).Reload()
    assert set(events.Tags()["images"]) == {f"figure/{name}" for name in FIGURES}
    machine = json.loads((trained / "environment.json").read_text())
    assert {"command", "cpu", "cores", "devices"} <= machine.keys()
    assert machine["packages"]["jax"] == jax.__version__
    assert NAMES[0] in (trained / "summary.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_run_has_its_curves_events_predictions_and_parameters(trained, name):
    assert json.loads((trained / name / "run.json").read_text())["status"] == "finished"
    curves = np.load(trained / name / "curves.npz")
    events = EventAccumulator(str(trained / name), size_guidance={"scalars": 0, "histograms": 0}).Reload()
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
    predictions = np.load(trained / name / "predictions.npz")
    assert {key: predictions[key].shape for key in predictions.files} == {
        "predictions": (20, 7), "targets": (20, 7), "change": (20,),
    }  # fmt: skip
    held_out = json.loads((trained / name / "run.json").read_text())["held_out"]
    assert events.Scalars("measures/held_out_loss")[0].value == pytest.approx(held_out["loss"])
    params = np.load(trained / name / "params.npz")
    assert params["recurrent/recurrent_kernel"].shape[0] == 4
    assert params["flat/kernel"].shape == (4, 3)


def test_hparams_page_has_a_row_per_run_with_types_domains_and_metrics(trained):
    def plugin_data(folder, tag):
        summary = EventAccumulator(str(trained / folder)).Reload().SummaryMetadata(f"_hparams_/{tag}")
        return HParamsPluginData.FromString(summary.plugin_data.content)

    experiment = plugin_data("study", "experiment").experiment
    infos = {info.name: info for info in experiment.hparam_infos}
    assert {name: DataType.Name(info.type) for name, info in infos.items()} == {
        "model.cell": "DATA_TYPE_STRING", "optimizer.learning_rate": "DATA_TYPE_FLOAT64",
        "optimizer.clip_norm": "DATA_TYPE_FLOAT64", "seed": "DATA_TYPE_FLOAT64", "study": "DATA_TYPE_STRING",
    }  # fmt: skip
    assert list(infos["model.cell"].domain_discrete) == ["lstm", "gru"]
    assert list(infos["optimizer.learning_rate"].domain_discrete) == [0.001, 0.01]
    metrics = [m.name.tag for m in experiment.metric_infos]
    # Parallel coordinates leave out whoever has none of a metric: not every run comes to the level.
    assert set(metrics) == {f"measures/{name}" for name in FINAL} - {"measures/epochs_to_level"}
    assert metrics[:3] == ["measures/final_loss", "measures/volatility", "measures/held_out_loss"]
    start = plugin_data(NAMES[-1], "session_start_info").session_start_info
    assert start.hparams["model.cell"].string_value == "gru"
    assert start.hparams["optimizer.learning_rate"].number_value == 0.01
    assert start.hparams["model.units"].number_value == 4  # which another study may vary
    assert start.hparams["study"].string_value.startswith(f"{trained.name}: learning_rate 0.01")
    assert plugin_data(NAMES[-1], "session_end_info").session_end_info.status == Status.Value("STATUS_SUCCESS")
    folders = {path.parent.name for path in trained.rglob("events.out.*")}
    assert folders == {*NAMES, "study"}


def test_the_same_study_again_gives_the_same_bits(config, trained, tmp_path, assert_same_results, no_figures):
    assert execute(validate(config), tmp_path, dry_run=False)
    assert_same_results(trained, tmp_path, NAMES)


@pytest.mark.parametrize(("key", "there", "here"), [("train.epochs", 7, 8), ("claims.seeds", 10, 2)])
def test_another_config_or_rule_of_judging_is_refused(config, trained, key, there, here):
    set_value(config, key, here)
    with pytest.raises(UserError, match=rf"another config \({key} is {there} there and {here} here\)"):
        check_workdir(trained, validate(config))


class Door:
    """What unpickling it would run."""

    def __reduce__(self):
        return (Path.touch, (Path("opened"),))


def test_nothing_in_a_workdir_is_unpickled(config, trained, tmp_path, monkeypatch, no_figures):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "w")
    np.savez(tmp_path / "w" / NAMES[0] / "curves.npz", loss=np.array([Door()], dtype=object))
    execute(validate(config), tmp_path / "w", dry_run=False)
    assert f"{NAMES[0]}/curves.npz cannot be read" in (tmp_path / "w" / "summary.md").read_text()
    assert not (tmp_path / "opened").exists()
