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
from rnn_compare.study import worker
from rnn_compare.study.source import NOTHING
from rnn_compare.workdir.checkpoint import Checkpoint

pytest.importorskip("ray")
from rnn_compare.study import cluster as module
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
    pytest.importorskip("ray")
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
def test_dead_workers_are_replaced_and_failures_are_told(no_cluster, tmp_path, capsys, board):
    def train(runs, workdir, show):
        (name,) = (run.name for run in runs)
        with (tmp_path / f"{name}.attempts").open("a") as file:
            file.write("x")
        if name == "raises":
            raise ValueError("out of tune")
        if name == "dies" or (name == "dies_once" and (tmp_path / f"{name}.attempts").stat().st_size == 1):
            os._exit(1)
        (workdir / name).mkdir()
        (workdir / name / "run.json").write_text("{}" if name != "large" else "{}" * 1_000_000)

    names = ["good", "raises", "dies", "dies_once", "large"]
    launch.ray([cohort(name) for name in names], tmp_path / "out", train, board)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"good", "dies_once", "large"}
    assert [(tmp_path / f"{name}.attempts").stat().st_size for name in names] == [1, 1, 1 + launch.RETRIES, 2, 1]
    said = capsys.readouterr().out
    assert "Ray: started a local cluster, 1 node with" in said
    for word in ("good done", "raises failed", "out of tune", "dies failed", "dies_once done", "large done"):
        assert word in said


@pytest.mark.slow
@forks
def test_every_run_finishes_once_though_a_node_dies(cluster, tiny, tmp_path, capsys, monkeypatch):
    _, victim = (cluster.add_node(num_cpus=1) for _ in range(2))
    tiny.sweep = {"model.cell": ("lstm", "gru"), "data.window": (1, 2, 3)}
    tiny.seeds = 2
    config, notes, gathered = validate(tiny), tmp_path / "notes", []
    names = {run.name for run in study.expand(config)}
    gather = launch.gather

    def noting(runs, workdir, show):  # in a worker, where study.attempt is the original
        import ray

        from rnn_compare import study

        with notes.open("a") as file:
            print(ray.get_runtime_context().get_node_id(), runs[0].name, file=file)
        study.attempt(runs, workdir, show)

    def counting(runs, files, workdir):
        gathered.extend(run.name for run in runs)
        gather(runs, files, workdir)

    def kill():
        def at_work():
            attempts = [line.split() for line in notes.read_text().splitlines()] if notes.exists() else []
            return len(gathered) >= 4 and any(
                node == victim.node_id and name not in gathered for node, name in attempts
            )

        wait_until(at_work)
        cluster.remove_node(victim, allow_graceful=False)

    killer = threading.Thread(target=kill)
    with monkeypatch.context() as patch:
        patch.setattr(study, "attempt", noting)
        patch.setattr(launch, "gather", counting)
        killer.start()
        assert study.execute(config, tmp_path / "ray", dry_run=False, launcher="ray")
        killer.join()
    said = capsys.readouterr().out
    assert "joined the cluster at" in said
    assert "3 nodes with 2 CPUs" in said
    assert "the cluster is now 2 nodes with 1 CPUs" in said
    assert sorted(gathered) == sorted(names)
    attempts = [line.split()[1] for line in notes.read_text().splitlines()]
    assert len(set(attempts)) == 6
    assert len(attempts) == 7, "the cohort on the node that died is trained again, and no other"

    assert study.execute(config, tmp_path / "local", dry_run=False)
    found, expected = (
        {p.name for p in (tmp_path / launcher).iterdir()} for launcher in ("ray", "local")
    )  # fmt: skip
    assert found == expected > names
    for name in names:
        here, there = tmp_path / "ray" / name, tmp_path / "local" / name
        assert (here / "run.json").read_text() == (there / "run.json").read_text()
        assert len(list(here.iterdir())) == len(list(there.iterdir())) == 5
        events = EventAccumulator(str(here), size_guidance={"scalars": 0}).Reload()
        assert [scalar.step for scalar in events.Scalars("loss")] == list(range(7))
        for file in ("curves.npz", "params.npz", "predictions.npz"):
            a, b = np.load(here / file), np.load(there / file)
            assert set(a.files) == set(b.files)
            for key in set(a.files) - {"seconds_per_epoch"}:
                np.testing.assert_array_equal(a[key], b[key])


@pytest.fixture(params=["started", "joined"])
def where(request, no_cluster):
    """A cluster that the launcher starts, or one that it joins."""
    if request.param == "joined":
        request.getfixturevalue("cluster").add_node(num_cpus=2)
    return request.param


@pytest.fixture
def command(where, pytestconfig, tmp_path):
    """A study of four cohorts on that cluster."""
    return [
        sys.executable, "-m", "rnn_compare.main", f"--config={pytestconfig.rootpath}/configs/smoke.py",
        "--launcher=ray", "--config.sweep.data.window=1,2", f"--workdir={tmp_path}",
    ]  # fmt: skip


@pytest.mark.slow
@forks
def test_a_killed_driver_is_started_again(command, tmp_path, where):
    finished = lambda: {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}  # noqa: E731
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(finished)
    first.kill()
    first.wait()
    before = finished()
    assert 0 < len(before) < 4
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"4 runs, {len(before)} of them ended earlier" in again.stdout
    assert where in again.stdout
    assert before.items() <= finished().items()
    assert len(finished()) == 4
    for path in finished():
        assert len(list(path.parent.glob("events*"))) == 1
        events = EventAccumulator(str(path.parent), size_guidance={"scalars": 0}).Reload()
        assert [scalar.step for scalar in events.Scalars("loss")] == list(range(60))


@pytest.mark.slow
@forks
def test_sigterm_is_heard_though_ray_listens_too(command, tmp_path):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(tmp_path.glob("*/run.json")))
    process.terminate()
    said, problems = process.communicate(timeout=100)
    assert (process.returncode, problems) == (143, "interrupted: the same command goes on from here\n")
    assert "cohorts were under way; they will be trained from epoch 0" in said


@pytest.mark.slow
@forks
def test_a_workdir_that_cannot_be_written_ends_the_study(no_cluster, tmp_path, board):
    def train(runs, folder, show):
        (folder / runs[0].name).mkdir()
        (folder / runs[0].name / "run.json").write_text("{}")

    (tmp_path / "a").write_text("in the way")
    with pytest.raises(OSError, match=r"File exists|Not a directory"):
        launch.ray([cohort("a")], tmp_path, train, board)


@pytest.mark.slow
def test_a_cluster_that_does_not_answer(no_cluster, tmp_path, monkeypatch, board):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"does not answer: .*refused"):
        launch.ray([cohort("a")], tmp_path, lambda *_: None, board)
