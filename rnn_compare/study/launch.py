"""Where cohorts are trained: one after the other in this process, or on a Ray cluster.

A cohort that fails loses only itself: the launcher says why, goes on, and its runs are left without a `run.json`.
"""

import importlib.util
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.study.board import Board
from rnn_compare.study.cohorts import Cohort, Train, checkpoints, title
from rnn_compare.study.source import Source

Call = Callable[..., Any]  # of a function and its arguments


class Launcher(Protocol):
    """Where cohorts are trained."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns or raises where a cohort would be trained: it sees the devices and memory there."""

    def train(self, cohorts: list[Cohort], workdir: Path, train: Train, board: Board) -> None:
        """Trains the cohorts into the workdir, and shows on the board how far each is; returns when none is left."""


class Local:
    """This process."""

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls it."""
        return function(*args)

    def train(self, cohorts: list[Cohort], workdir: Path, train: Train, board: Board) -> None:
        """Trains the cohorts one after the other."""
        for i, cohort in enumerate(cohorts):
            interrupt.check()
            board.state(i, "preparing")
            try:
                with checkpoints(cohort, workdir) as store:
                    well = train(cohort, workdir, store, partial(board.train, i))
                board.state(i, "done" if well else "failed", ended=True)
            except (UserError, OSError):
                raise
            except Exception:
                say(f"{title(cohort)} failed:", traceback.format_exc().rstrip())
                board.state(i, "failed", ended=True)


def local(source: Callable[[], Source]) -> AbstractContextManager[Launcher]:
    """Trains in this process, which has read the config file."""
    return nullcontext(Local())


def ray(source: Callable[[], Source]) -> AbstractContextManager[Launcher]:
    """Trains on a Ray cluster.

    Raises:
        UserError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UserError("--launcher=ray needs Ray, which is not installed: pip install -e '.[cluster]'")
    from rnn_compare.study.cluster import joined

    return joined(source())


LAUNCHERS: dict[str, Callable[[Callable[[], Source]], AbstractContextManager[Launcher]]] = {"local": local, "ray": ray}


def launched(name: str, source: Callable[[], Source]) -> AbstractContextManager[Launcher]:
    """The launcher of a name in `LAUNCHERS`; its workers run the config file that names of its own come from.

    Raises:
        UserError: there is none of that name, or what it needs is not installed or does not answer.
    """
    if name not in LAUNCHERS:
        raise UserError(f"--launcher={name} must be one of {', '.join(LAUNCHERS)}")
    return LAUNCHERS[name](source)
