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


def experiment(axes: dict[str, list], others: dict[str, Any], metrics: list[str]) -> Summary:
    """What a study varies and measures.

    Over a folder of several studies TensorBoard shows the experiment that it comes to first, and of each run the
    hyperparameters that this one declares. So every study declares every key, and each run gives the value of each:
    the axes of the other studies are on the page too, and no run has a gap, for which parallel coordinates would leave
    it out. What does not differ in this study comes after what does, and of all the first five are columns.

    Args:
        axes: name -> all values that the study tries.
        others: name -> value of what this study does not vary, and another one may.
        metrics: tags of the scalars that each run ends with; of these too the first five are columns.
    """
    infos = [
        HParamInfo(
            name=name,
            type=DataType.Value(f"DATA_TYPE_{_kind(values[0])}"),
            domain_discrete=ListValue(values=[_value(value) for value in values]),
            differs=name in axes,
        )
        for name, values in (axes | {name: [value] for name, value in others.items()}).items()
    ]
    names = [MetricInfo(name=MetricName(tag=tag)) for tag in metrics]
    return _summary("experiment", experiment=Experiment(hparam_infos=infos, metric_infos=names))


def session(values: dict[str, Any], finished: bool) -> list[Summary]:
    """What one run had, and how it ended.

    Args:
        values: name -> value, for all that the experiment declares.
        finished: whether it ended well.
    """
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
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value))
    return Value(number_value=value) if kind == "FLOAT64" else Value(string_value=value)


def _summary(tag: str, **content: Any) -> Summary:
    data = HParamsPluginData(version=0, **content).SerializeToString()
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=data)
    return Summary(value=[Summary.Value(tag=f"_hparams_/{tag}", metadata=SummaryMetadata(plugin_data=plugin))])
