"""What a person sees while a study runs: lines on the terminal, a progress bar, TensorBoard."""

import json
import time
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from tensorboardX import SummaryWriter

from rnn_compare import hparams

console = Console(highlight=False, markup=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Prints lines, above the progress bar if there is one."""
    for line in lines:
        console.print(line)


class Progress:
    """A bar with epoch, loss and time left; on a stream that is no terminal, a line now and then."""

    EVERY = 30.0  # seconds between lines

    def __init__(self, title: str, epochs: int, runs: int, before: str):
        """Starts at epoch 0 of `epochs`, for stacked `runs`; `before` says how the runs before these ended."""
        self._title, self._epochs, self._runs, self._before = title, epochs, runs, before
        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs │ loss {task.fields[loss]} │ {task.fields[rate]} run-epochs/s │"),
            TimeRemainingColumn(),
            TextColumn("left │ {task.fields[before]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=epochs, loss="-", rate="-", before=before)

    def __enter__(self) -> "Progress":
        self._bar.start()
        self._start = self._said = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, done: int, loss: np.ndarray) -> None:
        """Shows that `done` epochs are over, with the runs' losses [R]."""
        finite = loss[np.isfinite(loss)]
        text = f"{np.median(finite):.4f}" if len(finite) else "nan"
        if len(loss) > 1:
            text += f" (median of {len(finite)})"
        now = time.monotonic()
        rate = f"{done * self._runs / max(now - self._start, 1e-9):.1f}"
        self._bar.update(self._task, completed=done, loss=text, rate=rate)
        if self._bar.disable and (now - self._said > self.EVERY or done == self._epochs):
            left = (now - self._start) * (self._epochs - done) / done
            say(
                f"{self._title}: epoch {done} of {self._epochs}, loss {text}, {rate} run-epochs/s, "
                f"{left:.0f} s left; before it {self._before}"
            )
            self._said = now


class RunLog:
    """One run's TensorBoard events. Every epoch is a step."""

    def __init__(self, folder: Path, config: dict[str, Any]):
        """Starts the events anew: those of an attempt that did not finish are removed."""
        self._writer = _writer(folder)
        self._writer.add_text("config", _as_markdown(config), 0)

    def scalars(self, start: int, metrics: dict[str, np.ndarray]) -> None:
        """Writes each metric's values, [epochs], from epoch `start` on; those after a divergence are left out."""
        for tag, values in metrics.items():
            for epoch, value in enumerate(values, start):
                if np.isfinite(value):
                    self._writer.add_scalar(tag, value, epoch)

    def histograms(self, epoch: int, params: dict[str, np.ndarray]) -> None:
        """Writes a histogram of each parameter."""
        for name, values in params.items():
            if np.abs(values).max() < 1e20:  # where TensorBoard's buckets end; false for NaN
                self._writer.add_histogram(f"params/{name}", values, epoch)

    def end(self, epoch: int, axes: dict[str, Any], measures: dict[str, float], finished: bool) -> None:
        """Writes the row of the HParams page, and what is still in memory."""
        for name, value in measures.items():
            if np.isfinite(value):
                self._writer.add_scalar(f"final/{name}", value, epoch)
        for summary in hparams.session(axes, finished):
            self._writer.file_writer.add_summary(summary)
        self._writer.close()


def write_study_log(
    workdir: Path, config: dict[str, Any], axes: dict[str, list], measures: list[str], table: str, figures: list[Path]
) -> None:
    """The study's own entry in TensorBoard: its config, table and figures, and its axes, in the run `study`."""
    writer = _writer(workdir / "study")
    writer.file_writer.add_summary(hparams.experiment(axes, [f"final/{name}" for name in measures]))
    writer.add_text("config", _as_markdown(config), 0)
    writer.add_text("summary", table, 0)
    for figure in figures:
        writer.add_image(f"figure/{figure.stem}", matplotlib.image.imread(figure)[..., :3], 0, dataformats="HWC")
    writer.close()


def remove_events(folder: Path) -> None:
    """Removes the events of an attempt that did not finish."""
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()


def _writer(folder: Path) -> SummaryWriter:
    remove_events(folder)
    return SummaryWriter(str(folder))


def _as_markdown(config: dict[str, Any]) -> str:
    return "\n".join(f"    {key} = {json.dumps(value)}" for key, value in config.items())
