"""Where cohorts are trained: one after the other in this process, or as tasks of a Ray cluster.

A launcher gets the cohorts, the workdir, the function that trains one cohort and says whether that went well, and the
board that shows how far each is. It returns when nothing is left to do.
A cohort that fails loses only itself: the launcher says why, goes on, and its runs are left without a `run.json`.
"""

import importlib.util
import logging
import os
import socket
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.study.board import Board
from rnn_compare.study.cohorts import Cohort, title
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.tensorboard import remove_events

Train = Callable[[Cohort, Path, "Show"], bool]  # trains a cohort, leaves workdir/<name>/ of each run complete
Launcher = Callable[[list[Cohort], Path, Train, Board], None]


class Show(Protocol):
    """What a cohort calls while it trains: epochs done, its runs' losses [R]; no losses before the first epoch."""

    def __call__(self, done: int, loss: np.ndarray | None = None) -> None:
        """Shows it."""


RETRIES = 3  # of a cohort whose worker or node died
CORES_PER_RUN = 4  # about as many tasks as the kernels cut a run of 40 sequences into; more cores would idle
LOOK_EVERY = 5.0  # seconds between looks at the cluster's nodes


def local(cohorts: list[Cohort], workdir: Path, train: Train, board: Board) -> None:
    """Trains the cohorts one after the other in this process."""
    for i, cohort in enumerate(cohorts):
        interrupt.check()
        board.state(i, "preparing")
        try:
            well = train(cohort, workdir, partial(board.train, i))
            board.state(i, "over" if well else "failed", ended=True)
        except (UserError, OSError):
            raise
        except Exception:
            say(f"{title(cohort)} failed:", traceback.format_exc().rstrip())
            board.state(i, "failed", ended=True)


def ray(cohorts: list[Cohort], workdir: Path, train: Train, board: Board) -> None:
    """Trains the cohorts as tasks of a Ray cluster, and gathers what they write into the workdir.

    The cluster is that of the environment variable RAY_ADDRESS, else the one that `ray start` started on this machine,
    else a local one that ends with this call. Its nodes need this package, but no file system in common.

    Raises:
        UserError: the cluster does not answer.
    """
    if not cohorts:
        return
    import ray

    address = None
    try:
        services: Any = ray._private.services
        address = services.canonicalize_bootstrap_address(None)  # what ray.init will do; None if it will start one
        if address:
            host, port = address.rsplit(":", 1)
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()  # Ray would wait for minutes
        with interrupt.undisturbed(), warnings.catch_warnings():
            # JAX and Python 3.12 warn of forks under threads; Ray forks only to start other programs.
            warnings.filterwarnings("ignore", message=r".*fork\(\)")
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        where = address or os.environ.get("RAY_ADDRESS", "this machine")
        raise UserError(
            f"--launcher=ray: the cluster at {where} does not answer: "
            f"{' '.join(str(error).split())} (RAY_ADDRESS=host:port names another, `ray stop` forgets this machine's)"
        ) from None
    try:
        nodes = _nodes()
        say(f"Ray: {f'joined the cluster at {address}' if address else 'started a local cluster'}, {_count(nodes)}")
        away = ray.remote(max_calls=1, max_retries=RETRIES)(_train_away)  # a fresh process each: memory, threads, GPU
        waiting = {}
        for i, cohort in enumerate(cohorts):
            needs = _needs(nodes, cohort)
            waiting[away.options(**needs).remote(train, cohort, needs["num_cpus"])] = i
            board.state(i, "sent")
        say(f"Ray: {len(waiting)} cohorts sent")
        start = time.monotonic()
        while waiting:
            for task in ray.wait(list(waiting), timeout=LOOK_EVERY)[0]:
                i = waiting.pop(task)
                cohort = cohorts[i]
                done = f"({len(cohorts) - len(waiting)} of {len(cohorts)}, {time.monotonic() - start:.0f} s)"
                try:
                    gather(cohort, ray.get(task), workdir)
                    say(f"{title(cohort)} done {done}")
                    board.state(i, "over", ended=True)
                except Exception as error:
                    if isinstance(error, OSError) and not isinstance(error, ray.exceptions.RayError):
                        raise  # the workdir cannot be written to
                    say(f"{title(cohort)} failed {done}:", str(error))
                    board.state(i, "failed", ended=True)
            if _count(now := _nodes()) != _count(nodes):
                nodes = now
                say(f"Ray: the cluster is now {_count(nodes)}; {len(waiting)} cohorts unfinished")
            if interrupt.asked():
                say(f"Ray: {len(waiting)} cohorts were under way; they will be trained from epoch 0")
            interrupt.check()
    finally:
        ray.shutdown()


LAUNCHERS: dict[str, Launcher] = {"local": local, "ray": ray}


def pick(name: str) -> Launcher:
    """The launcher of a name in `LAUNCHERS`.

    Raises:
        UserError: there is none of that name, or what it needs is not installed.
    """
    if name not in LAUNCHERS:
        raise UserError(f"--launcher={name} must be one of {', '.join(LAUNCHERS)}")
    if name == "ray" and importlib.util.find_spec("ray") is None:
        raise UserError("--launcher=ray needs Ray, which is not installed: pip install -e '.[cluster]'")
    return LAUNCHERS[name]


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


def _train_away(train: Train, cohort: Cohort, cores: int) -> dict[str, bytes]:
    """What a worker does: trains into a folder of its own and returns its runs' files."""
    os.environ["NPROC"] = str(cores)  # the size of XLA's thread pool, which is made when JAX is first used
    with tempfile.TemporaryDirectory(prefix="rnn_compare-") as name:
        folder = Path(name)
        train(cohort, folder, lambda done, loss=None: None)
        paths = [path for run in cohort for path in (folder / run.name).rglob("*") if path.is_file()]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _nodes() -> list[dict[str, float]]:
    """The resources of each living node."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _count(nodes: list[dict[str, float]]) -> str:
    cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    return f"{len(nodes)} node{'s'[: len(nodes) != 1]} with {cpus:.0f} CPUs and {gpus:.0f} GPUs"


def _needs(nodes: list[dict[str, float]], cohort: Cohort) -> dict[str, int]:
    """What a cohort asks for: a GPU if there is any, else the cores that it can use and that every node has."""
    if any(node.get("GPU") for node in nodes):
        return {"num_gpus": 1, "num_cpus": 1}
    smallest = min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
    return {"num_cpus": min(smallest, CORES_PER_RUN * len(cohort))}
