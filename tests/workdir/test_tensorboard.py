import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from rnn_compare import study
from rnn_compare.config import validate
from rnn_compare.study.expansion import expand
from rnn_compare.workdir import runs
from rnn_compare.workdir.runs import as_json
from rnn_compare.workdir.tensorboard import METRICS, RunLog, read_events, write_study_log


def test_a_full_disk_is_said_once_and_not_again_when_python_ends(tmp_path):
    """In a process whose files may have 2,000 bytes: Python 3.13 tells of what a file cannot write when it goes."""
    program = """
import pathlib, resource, signal, sys
from tensorboardX import summary
from rnn_compare.workdir.tensorboard import Events
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
events = Events(pathlib.Path(sys.argv[1]))
events.add(summary.text("much", "x" * 5000))
try:
    events.close()
except OSError:
    print("said")
print(events._writer._py_recordio_writer._writer.closed)
"""
    result = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("said\nTrue\n", "")


def test_what_a_run_has_logged_is_read_back(tiny, tmp_path):
    config = {"seed": 3, **as_json(expand(validate(tiny))[0].config)}
    loss = np.float32([4, 3, 2, 1])
    with RunLog(tmp_path, config) as log:
        log.scalars("loss", 0, loss[:2], np.ones(2))
        log.scalars("loss", 2, loss[2:], np.ones(2))
        log.scalars("seconds_per_epoch", 0, loss[:3], np.ones(3))
        log.histograms(4, 1.0, {"w": np.ones(5)})
    found, curves = read_events(tmp_path, ["loss", "seconds_per_epoch"])
    assert found == config
    np.testing.assert_array_equal(curves["loss"], loss[:3])


def test_what_is_no_event_file_has_no_config(tmp_path):
    (tmp_path / "events.out.tfevents.1").write_bytes(b"no events")
    with pytest.raises(ValueError, match="does not say of which config"):
        read_events(tmp_path, ["loss"])


@pytest.fixture
def hparams_page(tmp_path):
    """What TensorBoard's own backend makes of a folder: the columns, and each row's value of each, None for a gap."""

    def page():
        multiplexer = EventMultiplexer()
        multiplexer.AddRunsFromDirectory(str(tmp_path))
        multiplexer.Reload()
        provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
        context = backend_context.Context(SimpleNamespace(data_provider=provider))
        metadata = context.hparams_metadata(RequestContext(), "")
        experiment = context.experiment_from_metadata(RequestContext(), "", True, metadata, None)
        names = [info.name for info in experiment.hparam_infos]
        metrics = [info.name for info in experiment.metric_infos]
        columns = [api_pb2.ColParams(hparam=name, include_in_result=True) for name in names]
        columns += [api_pb2.ColParams(metric=name, include_in_result=True) for name in metrics]
        request = api_pb2.ListSessionGroupsRequest(
            col_params=columns, start_index=0, slice_size=100, allowed_statuses=[api_pb2.STATUS_SUCCESS]
        )
        handler = list_session_groups.Handler(RequestContext(), context, "", request)
        groups = handler.run().session_groups
        rows = {group.name: {name: group.hparams.get(name) for name in names} for group in groups}
        assert all(len(group.metric_values) == len(metrics) for group in groups)
        return names, rows

    return page


def test_over_several_studies_no_axis_vanishes_and_no_run_has_a_gap(tiny, tmp_path, hparams_page):
    for name, axis, values in (("a", "model.units", (4, 8)), ("b", "data.periods", ((40, 200), (20, 100)))):
        tiny.sweep = {"model.cell": ("lstm", "gru"), axis: values}
        config = validate(tiny)
        for run in expand(config):
            folder = tmp_path / name / run.name
            with RunLog(folder, {"seed": run.seed, **as_json(run.config)}) as log:
                log.end(7, 1.0, run.axes, dict.fromkeys(METRICS, 1.0), None)
        axes = {key: list(dict.fromkeys(run.axes[key] for run in expand(config))) for key in run.axes}
        write_study_log(tmp_path / name, as_json(config), axes | {"seed": [0]}, "table", [])
    names, rows = hparams_page()
    assert set(names) in ({"model.cell", axis, "seed", "study"} for axis in ("model.units", "data.periods"))
    assert len(rows) == 8
    assert all(value is not None for row in rows.values() for value in row.values())
    assert {row["study"].string_value for row in rows.values()} == {
        "a: units 4", "a: units 8", "b: periods 40 + 200", "b: periods 20 + 100"
    }  # fmt: skip


def test_the_end_of_a_study_says_where_the_report_is_and_what_smoothing_hides(pair, tmp_path, capsys):
    config = validate(pair)
    found = expand(config)
    (tmp_path / "config.json").write_text(json.dumps(as_json(config)))
    for run in found:
        runs.write(run, tmp_path, status="failed", diverged_at=None, parameters=None, error="on purpose")
    study.write_report(config, found, tmp_path)
    *_, smoothing, report, curves = capsys.readouterr().out.splitlines()
    assert "Smoothing to 0" in smoothing
    assert report.endswith(f" {tmp_path}/report.html")
    assert curves.endswith(f" tensorboard --logdir {tmp_path}")
    events = EventAccumulator(str(tmp_path / "study")).Reload()
    (summary,) = events.Tensors("summary/text_summary")
    assert "Smoothing to 0" in summary.tensor_proto.string_val[0].decode()
    assert (tmp_path / "report.html").exists()
