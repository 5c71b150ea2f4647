"""What a person sees while a study runs: lines on the terminal, a table of the cohorts, TensorBoard."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from rnn_compare import hparams

_LIMITS = 1e-12 * 1.1 ** np.arange(774)  # up to 1e20
BUCKETS = np.concatenate([-_LIMITS[::-1], [0], _LIMITS])  # the bounds of TensorBoard's own histograms


class Quiet(Console):
    """A console that falls silent when nobody reads it any more (`… | head`), where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Goes on without it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer goes there


console = Quiet(highlight=False, markup=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Prints lines, above the table if there is one."""
    for line in lines:
        console.print(line)


@dataclass
class Row:
    """A cohort on the board: its name, how many runs it stacks, for how many epochs, and how it stands."""

    title: str
    runs: int
    epochs: int
    state: str = "waiting"
    done: int = 0
    first: int = 0  # the epoch it went on from
    loss: str = ""
    since: float = 0.0
    seconds: float = 0.0
    ended: bool = False

    @property
    def rate(self) -> float:
        """Epochs of single runs per second."""
        return (self.done - self.first) * self.runs / max(self.seconds, 1e-9)


class Board:
    """A live table with a row per cohort and the study's sum; on a stream that is no terminal, a line now and then."""

    EVERY = 30.0  # seconds between lines
    MOST = 12  # cohorts on the screen

    def __init__(self, rows: list[Row], tally: Callable[[], str]):
        """`tally` says how the runs that are over have ended."""
        self._rows, self._tally, self._counts = rows, tally, tally()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2, transient=True)

    def __enter__(self) -> "Board":
        self._start = self._said = time.monotonic()
        if console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def state(self, i: int, state: str, ended: bool = False) -> None:
        """Cohort number i is now at something else than training, or over."""
        row = self._rows[i]
        if row.state == "waiting":
            row.since = time.monotonic()
        row.state, row.ended = state, ended
        if ended:
            if not row.done and state == "over":  # it was trained elsewhere
                row.done = row.epochs
            row.seconds, self._counts = time.monotonic() - row.since, self._tally()

    def train(self, i: int, done: int, loss: np.ndarray | None = None) -> None:
        """Cohort number i has done so many epochs, and its runs have these losses [R]; None before the first chunk."""
        row, now = self._rows[i], time.monotonic()
        row.done = done
        if loss is None:
            row.state, row.since, row.first = "training", now, done
            return
        finite = loss[np.isfinite(loss)]
        row.seconds, row.loss = now - row.since, f"{np.median(finite):.4f}" if len(finite) else "nan"
        if row.runs > 1:
            row.loss += f" (median of {len(finite)})"
        if not self._live.is_started and (now - self._said > self.EVERY or done == row.epochs):
            self._said = now
            left = (row.epochs - done) * row.runs / row.rate if row.rate else math.nan
            say(
                f"{row.title}: epoch {done} of {row.epochs}, loss {row.loss}, {row.rate:.1f} run-epochs/s, "
                f"{_duration(left)} left; {self._sum()}"
            )

    def _sum(self) -> str:
        over = sum(row.ended for row in self._rows)
        done = sum((row.done - row.first) * row.runs for row in self._rows)
        remaining = sum((row.epochs - row.done) * row.runs for row in self._rows if not row.ended)
        left = remaining * (time.monotonic() - self._start) / done if done else math.nan
        return f"cohorts {over}/{len(self._rows)}, runs {self._counts}, all {_duration(left)} left"

    def _table(self) -> Table:
        table = Table("cohort", "runs", "epoch", "loss", "run-epochs/s", "time", "left", "state", caption=self._sum())
        at = next((i for i, row in enumerate(self._rows) if not row.ended), len(self._rows))
        first = max(0, min(at - self.MOST // 3, len(self._rows) - self.MOST))
        for row in self._rows[first : first + self.MOST]:
            seconds = row.seconds if row.ended or not row.since else time.monotonic() - row.since
            left = _duration((row.epochs - row.done) * row.runs / row.rate) if row.rate and not row.ended else ""
            table.add_row(
                row.title, str(row.runs), f"{row.done}/{row.epochs}", row.loss, f"{row.rate:.1f}" if row.rate else "",
                _duration(seconds) if row.since else "", left, row.state,
            )  # fmt: skip
        return table


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return "?"
    return (
        f"{seconds / 3600:.1f} h"
        if seconds >= 5400
        else f"{seconds / 60:.0f} min"
        if seconds >= 90
        else f"{seconds:.0f} s"
    )


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
        """The file is complete."""
        self._writer.close()


class RunLog:
    """One run's TensorBoard events. Every epoch is a step. A context, which closes the file."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        """Starts the events anew."""
        self._events = Events(folder)
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
        for content in hparams.session(axes, diverged_at is None):
            self._events.add(content)
        self._events.flush()

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._events.close()


def log_failure(folder: Path, axes: dict[str, Any], error: str) -> None:
    """Adds to a run's events that it failed, and its row of the HParams page."""
    events = Events(folder, anew=False)
    for content in (summary.text("status", f"failed: {error}"), *hparams.session(axes, False)):
        events.add(content)
    events.close()


def write_study_log(
    workdir: Path, config: dict[str, Any], axes: dict[str, list], measures: list[str], table: str, figures: list[Path]
) -> None:
    """The study's own entry in TensorBoard: its config, table and figures, and its axes, in the run `study`."""
    events = Events(workdir / "study")
    events.add(hparams.experiment(axes, [f"measures/{name}" for name in measures]))
    events.add(summary.text("config", _as_markdown(config)))
    events.add(summary.text("summary", table))
    for figure in figures:
        pixels = matplotlib.image.imread(figure)[..., :3]
        events.add(summary.image(f"figure/{figure.stem}", pixels, dataformats="HWC"))
    events.close()


def remove_events(folder: Path) -> None:
    """Removes the events of an attempt that did not finish."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()


def _as_markdown(config: dict[str, Any]) -> str:
    return "\n".join(f"    {key} = {json.dumps(value)}" for key, value in config.items())
