"""On a real Ray cluster of this machine."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare import study
from rnn_compare.config import UserError, validate
from rnn_compare.study.source import Source
from rnn_compare.workdir.checkpoint import Checkpoint

pytest.importorskip("ray")
from rnn_compare.study.cluster import RETRIES, _needs, joined

pytestmark = pytest.mark.usefixtures("no_figures")


def wait_until(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("nodes", "runs", "needs"),
    [
        ([{"CPU": 2.0}], 1, {"num_cpus": 2}),
        ([{"CPU": 64.0}], 1, {"num_cpus": 4}),
        ([{"CPU": 64.0}, {"CPU": 16.0}, {"memory": 1.0}], 10, {"num_cpus": 16}),
        ([{"CPU": 64.0, "GPU": 8.0}, {"CPU": 4.0}], 10, {"num_gpus": 1, "num_cpus": 1}),
        ([{}], 10, {"num_cpus": 1}),
    ],
)
def test_what_a_cohort_asks_for(nodes, runs, needs):
    assert _needs(dict(enumerate(nodes)), runs) == needs


# JAX and Python 3.12 warn of forks under threads; the test's cluster forks only to start its programs.
forks = pytest.mark.filterwarnings(r"ignore:.*fork\(\)")


@pytest.fixture
def no_cluster(monkeypatch):
    """Neither told of a cluster nor joined to one: a launcher starts its own."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def cluster(no_cluster, monkeypatch):
    """A head without CPUs, whose address is in RAY_ADDRESS; the test adds nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_dead_workers_are_replaced_and_failures_are_told(no_cluster, tmp_path, capsys, board, cohort):
    def train(runs, workdir, store, show):
        (name,) = (run.name for run in runs)
        with (tmp_path / f"{name}.attempts").open("a") as file:
            file.write("x")
        if name == "raises":
            raise ValueError("out of tune")
        attempts = (tmp_path / f"{name}.attempts").stat().st_size
        if name == "saves" and attempts < 8:  # more often than others may die: it gets on
            saved = store.restore()
            store.save(Checkpoint(saved.epoch + 1 if saved else 1, {"x": np.full(1, attempts)}, {}))
            time.sleep(2)
            os._exit(1)
        if name == "dies" or (name == "dies_once" and attempts == 1):
            os._exit(1)
        (workdir / name).mkdir()
        (workdir / name / "run.json").write_text("{}" if name != "large" else "{}" * 1_000_000)
        return True

    names = ["good", "raises", "dies", "dies_once", "large"]
    with joined(Source()) as place:
        place.train([cohort(name) for name in names], tmp_path / "out", train, board)
        assert {path.name for path in (tmp_path / "out").iterdir()} == {"good", "dies_once", "large"}
        place.train([cohort("saves")], tmp_path / "out", train, board)
    attempts = [(tmp_path / f"{name}.attempts").stat().st_size for name in [*names, "saves"]]
    assert attempts == [1, 1, 1 + RETRIES, 2, 1, 8]
    said = capsys.readouterr().out
    assert "Ray: started a local cluster, 1 node with" in said
    for word in ("good done", "raises failed", "out of tune", "dies failed", "dies_once done", "large done"):
        assert word in said


def slowly(notes):
    """Trains as a study does, slowly, and notes on which node."""

    def train(runs, workdir, store, show):  # in a worker
        import ray

        from rnn_compare import study

        with notes.open("a") as file:
            print(ray.get_runtime_context().get_node_id(), runs[0].name, file=file)

        def slow(*how):
            show(*how)
            time.sleep(0.1)

        return study.attempt(runs, workdir, store, slow)

    return train


def newest(workdir):
    """The epoch of the newest checkpoint of each cohort that is under way, by its first run."""
    found = {}
    for path in workdir.glob("checkpoints/*/*"):
        if path.name.isdecimal() and (path.parent / "runs.json").exists():
            first = next(iter(json.loads((path.parent / "runs.json").read_text())))
            if not (workdir / first / "run.json").exists():
                found[first] = max(int(path.name), found.get(first, 0))
    return found


@pytest.mark.slow
@forks
def test_a_cohort_whose_node_dies_goes_on_from_its_checkpoint(
    cluster, tiny, tmp_path, capsys, monkeypatch, assert_same_results
):
    _, victim = (cluster.add_node(num_cpus=1) for _ in range(2))
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    tiny.seeds, tiny.train.epochs, tiny.checkpoint.epochs, tiny.speed.limit = 2, 300, 20, 0.1
    config, notes, died = validate(tiny), tmp_path / "notes", {}
    (tmp_path / "ray").mkdir()

    def kill():
        def saved():
            there = dict(line.split() for line in notes.read_text().splitlines()) if notes.exists() else {}
            died["name"] = there.get(victim.node_id)
            return newest(tmp_path / "ray").get(died["name"], 0) >= 60

        wait_until(saved)
        died["epoch"] = newest(tmp_path / "ray")[died["name"]]
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    with monkeypatch.context() as patch:
        patch.setattr(study, "attempt", slowly(notes))
        assert study.execute(config, tmp_path / "ray", dry_run=False, launcher="ray")
    killer.join()
    said = capsys.readouterr().out
    assert "joined the cluster at" in said
    assert "3 nodes with 2 CPUs" in said
    assert "the cluster is now 2 nodes with 1 CPUs" in said
    assert f"{died['name']} … {died['name'][:-1]}1 has lost its worker" in said
    (epoch,) = (int(line.split()[-1]) for line in said.splitlines() if "goes on from epoch" in line)
    assert epoch >= died["epoch"] >= 60
    attempts = [line.split()[1] for line in notes.read_text().splitlines()]
    assert (len(attempts), attempts.count(died["name"])) == (3, 2), "no other cohort is trained again"
    (measured,) = json.loads((tmp_path / "ray" / "speed.json").read_text())
    assert measured["cores"] == 1
    where = f", processor {measured['cpu']}, 1 cores of it, on {measured['host']}"
    assert where in (tmp_path / "ray" / "report.md").read_text()

    assert study.execute(config, tmp_path / "local", dry_run=False)
    names = {run.name for run in study.expand(config)}
    found, expected = ({p.name for p in (tmp_path / place).iterdir()} for place in ("ray", "local"))
    assert found == expected > names
    assert_same_results(tmp_path / "ray", tmp_path / "local", names)
    for name in names:
        events = EventAccumulator(str(tmp_path / "ray" / name), size_guidance={"scalars": 0}).Reload()
        assert [scalar.step for scalar in events.Scalars("loss")] == list(range(300))


@pytest.mark.slow
@forks
def test_cohorts_are_cut_by_the_devices_of_the_workers(cluster, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")  # of what is started from now on
    cluster.add_node(num_cpus=1)
    monkeypatch.delenv("XLA_FLAGS")
    tiny.seeds = 3
    with joined(Source()) as place:
        parts = study.plan(study.expand(validate(tiny)), tmp_path, False, place.call)
        assert [[run.seed for run in part] for part in parts] == [[0, 1], [2]]


@pytest.mark.slow
@forks
def test_the_node_with_the_least_memory_plans(cluster):
    def node():
        import ray

        return ray.get_runtime_context().get_node_id()

    def wrong():
        raise UserError("it cannot be")

    nodes = [cluster.add_node(num_cpus=1, memory=gigabytes * 10**9) for gigabytes in (3, 1, 2)]
    with joined(Source()) as place:
        assert place.call(node) == nodes[1].node_id
        with pytest.raises(UserError, match=r"^it cannot be$"):
            place.call(wrong)


CONFIG = """
import cells_of_mine
from rnn_compare import config as base
from rnn_compare.cells import CELLS

CELLS["mine"] = cells_of_mine.Mine

def get_config():
    config = base.base()
    config.model.cell, config.seeds = "mine", 2
    return config
"""
CELL = """
import jax.numpy as jnp
from rnn_compare.cells import RecurrentCell, project, recur

class Mine(RecurrentCell):
    gates = ("h",)

    def step(self, params, carry, x):
        carry = jnp.tanh(project(params, x) + recur(params, carry))
        return carry, carry
"""


@pytest.mark.slow
@forks
def test_a_cell_of_the_config_file_is_known_to_workers(cluster, tmp_path, tiny_flags):
    cluster.add_node(num_cpus=2)
    (tmp_path / "mine.py").write_text(CONFIG)
    (tmp_path / "cells_of_mine.py").write_text(CELL)
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}  # of the driver only
    command = [sys.executable, "-m", "rnn_compare.main", "--config=mine.py", "--launcher=ray", *tiny_flags]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert len(list(tmp_path.glob("runs/mine/mine-s*/run.json"))) == 2


@pytest.fixture
def where(request, no_cluster):
    """A cluster that the launcher starts, or one that it joins."""
    if request.param == "joined":
        request.getfixturevalue("cluster").add_node(num_cpus=2)
    return request.param


LONG = {"data.length": 2000, "train.epochs": 1500, "checkpoint.epochs": 100, "speed.limit": 0}


@pytest.mark.slow
@forks
@pytest.mark.parametrize(
    ("where", "number"),
    [("started", signal.SIGINT), ("started", signal.SIGKILL), ("joined", signal.SIGKILL), ("joined", signal.SIGTERM)],
    indirect=["where"],
)
def test_a_driver_that_was_ended_is_started_again(where, pytestconfig, tmp_path, number, assert_same_results):
    """Two cohorts one after the other, in either order: one has finished, the other has saved."""

    def command(workdir, *more):
        flags = [f"--config.{key}={value}" for key, value in LONG.items()]
        config = f"--config={pytestconfig.rootpath}/configs/smoke.py"
        return [sys.executable, "-m", "rnn_compare.main", config, *flags, f"--workdir={workdir}", *more]

    ray = tmp_path / "ray"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    first = subprocess.Popen(command(ray, "--launcher=ray"), start_new_session=True, **pipes)
    finished = lambda: {path: path.stat().st_mtime_ns for path in ray.glob("*/run.json")}  # noqa: E731
    wait_until(lambda: finished() and any(epoch >= 200 for epoch in newest(ray).values()))
    send = os.killpg if number == signal.SIGINT else os.kill  # a terminal's Ctrl-C reaches what was started with it
    send(first.pid, number)
    said, problems = first.communicate(timeout=100)
    before, ((name, saved),) = finished(), newest(ray).items()
    if number != signal.SIGKILL:
        assert (first.returncode, problems) == (128 + number, "interrupted: the same command goes on from here\n")
        assert "1 cohorts are under way and will be saved" in said
        assert f"{name} stopped, and saved at epoch {saved}" in said
    again = subprocess.run(command(ray, "--launcher=ray"), capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert where in again.stdout
    assert "2 runs, 1 of them ended earlier" in again.stdout
    assert f"{name} goes on from epoch {saved}" in again.stdout
    assert before.items() < finished().items()
    assert not (ray / "checkpoints").exists()
    subprocess.run(command(tmp_path / "local"), capture_output=True, check=True, timeout=300)
    assert_same_results(ray, tmp_path / "local", ["lstm-s0", "gru-s0"])


@pytest.mark.slow
@forks
def test_a_workdir_that_cannot_be_written_ends_the_study(no_cluster, tmp_path, board, cohort):
    def train(runs, folder, store, show):
        (folder / runs[0].name).mkdir()
        (folder / runs[0].name / "run.json").write_text("{}")

    (tmp_path / "a").write_text("in the way")
    with joined(Source()) as place, pytest.raises(OSError, match=r"File exists|Not a directory"):
        place.train([cohort("a")], tmp_path, train, board)


@pytest.mark.slow
def test_a_cluster_that_does_not_answer(no_cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"does not answer: .*refused"), joined(Source()):
        pass
