"""What TensorBoard shows of a run and of the study: their event files."""

import contextlib
import itertools
import json
import math
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from rnn_compare.workdir import hparams

_LIMITS = 1e-12 * 1.1 ** np.arange(774)  # up to 1e20
BUCKETS = np.concatenate([-_LIMITS[::-1], [0], _LIMITS])  # the bounds of TensorBoard's own histograms
# Of the HParams page, those of the verdicts first. `epochs_to_level` is a scalar of each run and not here: where a run
# has none, parallel coordinates would leave it out.
METRICS = ("final_loss", "volatility", "held_out_loss", "last_loss", "best_loss", "area", "spikes", "spike_size")
SMOOTHING = "TensorBoard smooths curves by 0.6 unless you set Smoothing to 0, and hides how volatile a loss is."


class Events:
    """A folder's event file. It is written here and now: tensorboardX's own thread would keep an error to itself."""

    def __init__(self, folder: Path, anew: bool = True):
        """Starts a file; `anew`: those of an attempt that did not finish are removed."""
        if anew:
            remove_events(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(folder / "events"))

    def add(self, content: Summary, step: int = 0, wall_time: float | None = None) -> None:
        """Adds a summary."""
        self._writer.write_event(Event(summary=content, step=step, wall_time=wall_time or time.time()))

    def flush(self) -> None:
        """What was added is in the file."""
        self._writer.flush()

    def close(self) -> None:
        """The file is complete, or an error says that it is not; it is closed even so, or Python would say it again."""
        try:
            self._writer.flush()
        finally:
            with contextlib.suppress(OSError):
                self._writer._py_recordio_writer.close()


class RunLog:
    """One run's TensorBoard events. Every epoch is a step. A context, which closes the file."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        """Starts the events anew; `config` is the run's, dotted key -> value, and its seed."""
        self._events, self._config, self._study = Events(folder), config, _study(folder)
        self._events.add(summary.text("config", _as_markdown(config)))

    def scalars(self, tag: str, start: int, values: np.ndarray, times: np.ndarray) -> None:
        """Writes a curve from epoch `start` on, [epochs], as of these times; what is not finite is left out."""
        for epoch, (value, wall_time) in enumerate(zip(values.tolist(), times.tolist(), strict=True), start):
            if math.isfinite(value):
                self._events.add(summary.scalar(tag, value), epoch, wall_time)

    def histograms(self, epoch: int, wall_time: float, params: dict[str, np.ndarray]) -> None:
        """Writes a histogram of each parameter."""
        for name, values in params.items():
            if np.abs(values).max() < 1e20:  # where TensorBoard's buckets end; false for NaN
                self._events.add(summary.histogram(f"params/{name}", values, BUCKETS), epoch, wall_time)

    def flush(self) -> None:
        """TensorBoard can see all that was written."""
        self._events.flush()

    def end(
        self, epoch: int, wall_time: float, axes: dict[str, Any], measures: dict[str, float], diverged_at: int | None
    ) -> None:
        """Writes the row of the HParams page, and how the run ended."""
        for name, value in measures.items():
            if math.isfinite(value):
                self._events.add(summary.scalar(f"measures/{name}", value), epoch, wall_time)
        status = "finished" if diverged_at is None else f"diverged at epoch {diverged_at}"
        self._events.add(summary.text("status", status), epoch, wall_time)
        for content in hparams.session(self._study, axes, self._config, diverged_at is None):
            self._events.add(content)
        self._events.flush()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._events.close()


def log_failure(folder: Path, axes: dict[str, Any], config: dict[str, Any], error: str) -> None:
    """Adds to a run's events that it failed, and its row of the HParams page."""
    events = Events(folder, anew=False)
    for content in (summary.text("status", f"failed: {error}"), *hparams.session(_study(folder), axes, config, False)):
        events.add(content)
    events.close()


def _study(folder: Path) -> str:
    """The name of the study that the folder of a run belongs to."""
    return folder.absolute().parent.name


def write_study_log(
    workdir: Path, config: dict[str, Any], axes: dict[str, list], table: str, figures: list[Path]
) -> None:
    """The study's own entry in TensorBoard: its config, table and figures, and its axes, in the run `study`."""
    events = Events(workdir / "study")
    events.add(hparams.experiment(axes, [f"measures/{name}" for name in METRICS]))
    events.add(summary.text("config", _as_markdown(config)))
    events.add(summary.text("summary", f"{SMOOTHING}\n\n{table}"))
    for figure in figures:
        events.add(_picture(f"figure/{figure.stem}", figure.read_bytes()))
    events.close()


def read_events(folder: Path, tags: list[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """A run read back from its event files, as far as they are whole.

    Args:
        folder: the run's.
        tags: of the scalars to read.

    Returns:
        The run's config with its seed, and each scalar's curve, [epochs]: as many as all of them have from epoch 0 on.

    Raises:
        ValueError, KeyError: no config is found.
    """
    text, scalars = None, {tag: dict[int, float]() for tag in tags}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                if value.tag in scalars:
                    scalars[value.tag][event.step] = value.simple_value
                elif value.tag == "config/text_summary":
                    text = value.tensor.string_val[0].decode()
    if text is None:
        raise ValueError("it does not say of which config the run is")
    config = dict(line.strip().split(" = ", 1) for line in text.splitlines())
    epochs = next(epoch for epoch in itertools.count() if not all(epoch in curve for curve in scalars.values()))
    curves = {tag: np.array([curve[epoch] for epoch in range(epochs)], np.float32) for tag, curve in scalars.items()}
    return {key: json.loads(value) for key, value in config.items()}, curves


def remove_events(folder: Path) -> None:
    """Removes the events of an attempt that did not finish."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()


def _picture(tag: str, png: bytes) -> Summary:
    width, height = struct.unpack(">II", png[16:24])  # where every PNG says how large it is
    image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def _as_markdown(config: dict[str, Any]) -> str:
    return "\n".join(f"    {key} = {json.dumps(value)}" for key, value in config.items())
