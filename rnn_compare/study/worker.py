"""A worker of a Ray cluster: a process of its own that computes for the driver, or trains a cohort and tells it all."""

import contextlib
import io
import os
import queue
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.study.cohorts import Cohort, Train, title
from rnn_compare.study.source import Source
from rnn_compare.workdir.checkpoint import Checkpoint
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.tensorboard import remove_events

PAUSE = 0.2  # seconds in which news is collected before it is told


class Worker:
    """A Ray actor. Each of its methods runs in a thread of its own."""

    def __init__(self, source: Source, cores: int):
        os.environ["NPROC"] = str(cores)  # the size of XLA's thread pool, which is made when JAX is first used
        self._source = source
        self._news: queue.SimpleQueue[tuple] = queue.SimpleQueue()

    def call(self, function: Callable[..., Any], *args: Any) -> tuple[Any, list[str]]:
        """What the function returns, and the lines that it says."""
        said = io.StringIO()
        with contextlib.redirect_stdout(said), self._source.registered():
            return function(*args), said.getvalue().splitlines()

    def train(self, train: Train, cohort: Cohort, saved: Checkpoint | None) -> None:
        """Trains a cohort from a checkpoint on, and makes news of all it does; the last of it says how that ended."""
        tell = self._tell
        try:
            with (
                contextlib.redirect_stdout(Lines(partial(tell, "said"))),
                self._source.registered(),
                tempfile.TemporaryDirectory(prefix="rnn_compare-") as name,
            ):
                well = train(cohort, Path(name), Away(saved, partial(tell, "saved")), partial(tell, "shown"))
                found = files(cohort, Path(name))
            tell("trained", found)
            tell("ended", "done" if well else "failed")
        except interrupt.Interrupted:
            tell("ended", "stopped")
        except UserError as error:
            tell("refused", str(error))
        except BaseException:
            tell("said", f"{title(cohort)} failed:", traceback.format_exc().rstrip())
            tell("ended", "failed")

    def news(self) -> list[tuple]:
        """What is new since the last call, as (kind, *what); waits until there is anything."""
        found = [self._news.get()]
        time.sleep(PAUSE)
        while not self._news.empty():
            found.append(self._news.get())
        return found

    def stop(self) -> None:
        """Asks the cohort to save and end."""
        interrupt.ask()

    def _tell(self, kind: str, *what: Any) -> None:
        self._news.put((kind, *what))


class Lines(io.TextIOBase):
    """A stream that hands on each line."""

    def __init__(self, tell: Callable[[str], None]):
        self._tell = tell

    def write(self, text: str) -> int:
        """Hands on the lines of a text."""
        for line in filter(None, text.splitlines()):
            self._tell(line)
        return len(text)


class Away:
    """The checkpoints of a cohort whose workdir is the driver's."""

    def __init__(self, saved: Checkpoint | None, send: Callable[[Checkpoint], None]):
        """`saved` is the newest."""
        self._saved, self._send = saved, send

    def restore(self) -> Checkpoint | None:
        """What the driver had."""
        return self._saved

    def save(self, checkpoint: Checkpoint) -> None:
        """Sends it there."""
        self._send(checkpoint)

    def wait(self) -> None:
        """The driver takes it before it hears the end."""


def files(cohort: Cohort, folder: Path) -> dict[str, bytes]:
    """The files of a cohort's runs: path within the folder -> content."""
    paths = [path for run in cohort for path in (folder / run.name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def gather(cohort: Cohort, files: dict[str, bytes], workdir: Path) -> None:
    """Writes the files that a worker sent; each run's `run.json` comes last, and whole or not at all.

    Args:
        cohort: the runs that were trained.
        files: path within the workdir -> content.
        workdir: where the run's folders belong.

    Raises:
        ValueError: a path leads out of the cohort's run folders. Nothing has been written then.
    """
    folders = {run.name for run in cohort}
    for name in files:
        folder, *rest = PurePosixPath(name).parts
        if folder not in folders or not rest or ".." in rest or "\\" in name:
            raise ValueError(f"a worker sent the file {name!r}, which belongs to none of its runs")
    for folder in sorted(folders):
        remove_events(workdir / folder)
    for name in sorted(files, key=lambda name: PurePosixPath(name).name == "run.json"):
        path = workdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, files[name])
