"""A Ray cluster as the driver sees it: cohorts go out to workers, their checkpoints and files come back."""

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.study.board import Board
from rnn_compare.study.cohorts import Cohort, Train, checkpoints, title
from rnn_compare.study.source import Source
from rnn_compare.study.worker import Worker, gather
from rnn_compare.workdir.checkpoint import Checkpoints, forget_ended

RETRIES = 3  # of a cohort whose workers died, without a checkpoint in between
CORES_PER_RUN = 4  # about as many tasks as the kernels cut a run of 40 sequences into; more cores would idle
LOOK_EVERY = 5.0  # seconds between looks at the cluster's nodes


@contextmanager
def joined(source: Source) -> Iterator["Cluster"]:
    """A cluster whose workers run the config file of `source`.

    It is that of the environment variable RAY_ADDRESS, else the one that `ray start` started on this machine, else a
    local one that ends with this. Its nodes need this package, but no file system in common.

    Raises:
        UserError: the cluster does not answer.
    """
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
        where = f"joined the cluster at {address}" if address else "started a local cluster"
        say(f"Ray: {where}, {_count(_resources())}")
        yield Cluster(source)
    finally:
        ray.shutdown()


class Cluster:
    """Trains on the workers of a cluster, and plans and times on one of them."""

    def __init__(self, source: Source):
        """Workers run the config file of `source`."""
        self._source = source
        self._helper: Any = None

    def worker(self, runs: int, **options: Any) -> Any:
        """A new worker for so many stacked runs."""
        needs = _needs(_resources(), runs)
        actor = ray.remote(Worker).options(max_concurrency=3, **needs, **options)
        return actor.remote(self._source, needs["num_cpus"])

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function returns or raises on the node with the least memory: what fits there fits everywhere.

        Raises:
            UserError: each worker that tried it died.
            Interrupted: a signal asked to stop.
        """
        for _ in range(1 + RETRIES):
            if self._helper is None:
                self._helper = self.worker(1, scheduling_strategy=_least())
            answer = self._helper.call.remote(function, *args)
            while not ray.wait([answer], timeout=LOOK_EVERY)[0]:
                interrupt.check()
            try:
                result, said = ray.get(answer)
            except RayTaskError as error:
                raise error.cause from error
            except RayError:
                self._helper = None
                continue
            say(*said)
            return result
        raise UserError("--launcher=ray: the workers that plan or time die: the same command tries it again")

    def train(self, cohorts: list[Cohort], workdir: Path, train: Train, board: Board) -> None:
        """Sends the cohorts out, and takes in what comes back.

        Raises:
            UserError, OSError: the workdir cannot be written, or a worker refuses a cohort.
            Interrupted: a signal asked to stop; what was under way has been saved.
        """
        self._helper = None  # what it has of the cluster is for the cohorts now
        nodes, begin, stopping = _count(_resources()), time.monotonic(), False
        with ExitStack() as opened:
            waiting = {}
            for i, cohort in enumerate(cohorts):
                sent = Sent(self, cohort, opened.enter_context(checkpoints(cohort, workdir)), train, board, i)
                waiting[sent.start()] = sent
            say(f"Ray: {len(waiting)} cohorts sent")
            while waiting:
                for told in ray.wait(list(waiting), timeout=LOOK_EVERY)[0]:
                    sent = waiting.pop(told)
                    if more := sent.hear(told, workdir):
                        waiting[more] = sent
                    else:
                        count = f"{len(cohorts) - len(waiting)} of {len(cohorts)}"
                        say(f"{title(sent.cohort)} {sent.ended} ({count}, {time.monotonic() - begin:.0f} s)")
                if (now := _count(_resources())) != nodes:
                    nodes = now
                    say(f"Ray: the cluster is now {nodes}; {len(waiting)} cohorts unfinished")
                if interrupt.asked() and not stopping:
                    stopping = True
                    waiting = {told: sent for told, sent in waiting.items() if sent.stop()}
                    say(f"Ray: {len(waiting)} cohorts are under way and will be saved")
        interrupt.check()


class Sent:
    """A cohort that was sent out.

    Attributes:
        cohort: its runs.
        ended: how it ended, in a word; empty until then.
    """

    def __init__(self, cluster: Cluster, cohort: Cohort, store: Checkpoints, train: Train, board: Board, i: int):
        """It is number i on the board, and its checkpoints go to `store`."""
        self.cohort, self.ended = cohort, ""
        self._cluster, self._store, self._train, self._board, self._i = cluster, store, train, board, i
        self._deaths = 0

    def start(self) -> Any:
        """Begins at the newest checkpoint on another worker, and returns a reference to its first news."""
        self._begun = False
        self._worker = self._cluster.worker(len(self.cohort))
        self._worker.train.remote(self._train, self.cohort, self._store.restore())
        self._board.state(self._i, "sent")
        return self._worker.news.remote()

    def stop(self) -> bool:
        """Asks it to stop, and says whether there is anything to be saved before."""
        if self._begun:
            self._worker.stop.remote()
        else:
            ray.kill(self._worker)
        return self._begun

    def hear(self, told: Any, workdir: Path) -> Any:
        """Takes in news, and returns a reference to the next; None where there will be none.

        Raises:
            UserError, OSError: what came cannot be written, or the worker refuses the cohort.
        """
        try:
            news = ray.get(told)
        except RayError as error:
            return self._lost(error)
        for kind, *what in news:
            match kind:
                case "said":
                    say(*what)
                case "shown":
                    self._begun = True
                    self._board.train(self._i, *what)
                case "saved":
                    self._deaths = 0
                    self._store.save(*what)
                case "trained":
                    self._store.wait()
                    gather(self.cohort, what[0], workdir)
                    forget_ended(workdir)
                case "refused":
                    raise UserError(*what)
                case "ended":
                    return self._end(*what)
        return self._worker.news.remote()

    def _lost(self, error: RayError) -> Any:
        self._deaths += 1
        self._store.wait()
        if interrupt.asked():
            return self._end("stopped")
        if self._deaths > RETRIES:
            say(f"{title(self.cohort)}: {error}")
            return self._end("failed")
        say(f"{title(self.cohort)} has lost its worker, and gets another")
        return self.start()

    def _end(self, how: str) -> None:
        self.ended = how
        self._store.wait()
        self._board.state(self._i, how, ended=True)
        del self._worker


def _resources() -> dict[str, dict[str, float]]:
    """The resources of each living node, by its ID."""
    return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}


def _count(nodes: dict[str, dict[str, float]]) -> str:
    cpus, gpus = (sum(node.get(name, 0) for node in nodes.values()) for name in ("CPU", "GPU"))
    return f"{len(nodes)} node{'s'[: len(nodes) != 1]} with {cpus:.0f} CPUs and {gpus:.0f} GPUs"


def _able(nodes: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The nodes that take cohorts: those with GPUs if there are any, else those with cores."""
    gpus = {name: node for name, node in nodes.items() if node.get("GPU")}
    return gpus or {name: node for name, node in nodes.items() if node.get("CPU", 0) >= 1}


def _needs(nodes: dict[str, dict[str, float]], runs: int) -> dict[str, int]:
    """What so many stacked runs ask for: a GPU if there is any, else the cores that they can use and every node has."""
    able = _able(nodes).values()
    if any(node.get("GPU") for node in able):
        return {"num_gpus": 1, "num_cpus": 1}
    return {"num_cpus": min([CORES_PER_RUN * runs, *(int(node["CPU"]) for node in able)] if able else [1])}


def _least() -> NodeAffinitySchedulingStrategy | str:
    """Prefers the node with the least memory of those that take cohorts: what fits there fits everywhere."""
    able = _able(_resources())
    if not able:
        return "DEFAULT"
    return NodeAffinitySchedulingStrategy(min(able, key=lambda name: able[name].get("memory", 0)), soft=True)
