"""TensorBoard's HParams page: one row per run with its axes and final metrics.

The page reads an experiment (which hyperparameters there are, with their types and values, and which metrics) from one
place, and from each run the values it had. tensorboardX writes both at once into a run of their own, without the
values' domain; so the messages are made here and only written by it.
"""

from typing import Any

from google.protobuf.struct_pb2 import ListValue, Value
from tensorboard.plugins.hparams.api_pb2 import DataType, Experiment, HParamInfo, MetricInfo, MetricName, Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata

from rnn_compare.config.checks import words

SECTIONS = ("data", "model", "optimizer", "train")  # of the keys that a run's results depend on
STUDY = "study"  # which, and what of its axes the run has, in words


def experiment(axes: dict[str, list], metrics: list[str]) -> Summary:
    """What a study varies and measures.

    Over a folder of several studies TensorBoard shows the experiment that it comes to first, and of each run what that
    one declares. So that the axes of the others do not vanish, every study declares `STUDY`, in which each run says its
    own; and each run gives the value of every key, not of its own axes alone: none has a gap in a column, for which
    parallel coordinates would leave it out. To declare every key would let one choose among all axes, but fill the page
    of one study with twenty keys that do not vary: of what is declared the first five are columns, first those that
    differ.

    Args:
        axes: name -> all values that the study tries.
        metrics: tags of the scalars that each run ends with; of these too the first five are columns.
    """
    infos = [
        HParamInfo(
            name=name,
            type=DataType.Value(f"DATA_TYPE_{_kind(values[0])}"),
            domain_discrete=ListValue(values=[_value(value) for value in values]),
            differs=True,
        )
        for name, values in axes.items()
    ]
    infos.append(HParamInfo(name=STUDY, type=DataType.DATA_TYPE_STRING))
    names = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics]
    return _summary("experiment", experiment=Experiment(hparam_infos=infos, metric_infos=names))


def session(study: str, axes: dict[str, Any], config: dict[str, Any], finished: bool) -> list[Summary]:
    """What one run had, and how it ended.

    Args:
        study: the study's name.
        axes: dotted key -> value, for the keys that the study varies.
        config: the run's, dotted key -> value, and its seed.
        finished: whether it ended well.
    """
    values = {key: value for key, value in config.items() if key == "seed" or key.split(".")[0] in SECTIONS} | axes
    own = ", ".join(f"{key.split('.')[-1]} {words(axes[key])}" for key in axes if key != "model.cell")
    values[STUDY] = f"{study}: {own}" if own else study
    start = SessionStartInfo()
    for name, value in values.items():
        start.hparams[name].CopyFrom(_value(value))
    end = SessionEndInfo(status=Status.Value("STATUS_SUCCESS" if finished else "STATUS_FAILURE"))
    return [
        _summary("session_start_info", session_start_info=start),
        _summary("session_end_info", session_end_info=end),
    ]


def _kind(value: Any) -> str:
    return {bool: "BOOL", int: "FLOAT64", float: "FLOAT64"}.get(type(value), "STRING")


def _value(value: Any) -> Value:
    kind = _kind(value)
    if kind == "BOOL":
        return Value(bool_value=value)
    return Value(number_value=value) if kind == "FLOAT64" else Value(string_value=words(value))


def _summary(tag: str, **content: Any) -> Summary:
    data = HParamsPluginData(version=0, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    return Summary(value=[Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))])
