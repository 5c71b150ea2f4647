"""How far the cohorts of a study are: a live table, or a line now and then where nobody looks at a screen."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from rich.live import Live
from rich.table import Table

from rnn_compare.console.terminal import console, duration, say


class Show(Protocol):
    """What a cohort calls while it trains: epochs done, its runs' losses [R]; no losses before the first epoch."""

    def __call__(self, done: int, loss: np.ndarray | None = None) -> None:
        """Shows it."""


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
                f"{duration(left)} left; {self._sum()}"
            )

    def _sum(self) -> str:
        over = sum(row.ended for row in self._rows)
        done = sum((row.done - row.first) * row.runs for row in self._rows)
        remaining = sum((row.epochs - row.done) * row.runs for row in self._rows if not row.ended)
        left = remaining * (time.monotonic() - self._start) / done if done else math.nan
        return f"cohorts {over}/{len(self._rows)}, runs {self._counts}, all {duration(left)} left"

    def _table(self) -> Table:
        table = Table("cohort", "runs", "epoch", "loss", "run-epochs/s", "time", "left", "state", caption=self._sum())
        at = next((i for i, row in enumerate(self._rows) if not row.ended), len(self._rows))
        first = max(0, min(at - self.MOST // 3, len(self._rows) - self.MOST))
        for row in self._rows[first : first + self.MOST]:
            seconds = row.seconds if row.ended or not row.since else time.monotonic() - row.since
            left = duration((row.epochs - row.done) * row.runs / row.rate) if row.rate and not row.ended else ""
            table.add_row(
                row.title, str(row.runs), f"{row.done}/{row.epochs}", row.loss, f"{row.rate:.1f}" if row.rate else "",
                duration(seconds) if row.since else "", left, row.state,
            )  # fmt: skip
        return table
