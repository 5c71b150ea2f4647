import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare import study
from rnn_compare.config import UserError, validate
from rnn_compare.study import launch
from rnn_compare.study.board import Board, Row

pytestmark = pytest.mark.usefixtures("no_figures")


def cohort(*names):
    return [SimpleNamespace(name=name) for name in names]


@pytest.fixture
def board():
    """A board for up to five cohorts."""
    with Board([Row(str(i), 1, 7) for i in range(5)], lambda: "") as board:
        yield board


def wait_until(condition, seconds=200):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_local_goes_on_after_a_failure(tmp_path, capsys, board):
    trained = []

    def train(runs, workdir, show):
        if runs[0].name == "bad":
            raise MemoryError("too large")
        trained.append((runs[0].name, workdir))

    launch.local([cohort("a"), cohort("bad"), cohort("b")], tmp_path, train, board)
    assert trained == [("a", tmp_path), ("b", tmp_path)]
    said = capsys.readouterr().out
    assert "bad failed" in said
    assert "MemoryError: too large" in said


def test_local_is_interrupted_at_once(tmp_path, board):
    def train(runs, workdir, show):
        assert runs[0].name == "a"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.local([cohort("a"), cohort("b")], tmp_path, train, board)


def test_gathering_replaces_an_unfinished_attempt(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.out.tfevents.old").write_text("half")
    files = {"a/run.json": b"{}", "a/events.out.tfevents.new": b"e", "a/curves.npz": b"c", "b/run.json": b"{}"}
    launch.gather(cohort("a", "b"), files, tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_driver_that_dies_while_gathering_leaves_an_unfinished_run(tmp_path, monkeypatch):
    replace, files = Path.replace, {f"a/{name}": b"{}" for name in ("run.json", "curves.npz", "params.npz")}
    for survived in range(3):
        replaced = []

        def dying(path, target, replaced=replaced, survived=survived):
            if len(replaced) == survived:
                raise SystemExit
            replaced.append(target.name)
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", dying)
        with pytest.raises(SystemExit):
            launch.gather(cohort("a"), files, tmp_path)
        assert not (tmp_path / "a" / "run.json").exists()
    monkeypatch.undo()
    launch.gather(cohort("a"), files, tmp_path)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"run.json", "curves.npz", "params.npz"}


def test_a_worker_sends_its_runs_files_and_nothing_else():
    def train(runs, folder, show):
        for path in ("a/run.json", "a/events", "b/run.json", "checkpoints/x/runs.json", "c/run.json"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)

    files = launch._train_away(train, cohort("a", "b"), 1)
    assert files == {path: path.encode() for path in ("a/run.json", "a/events", "b/run.json")}


@pytest.mark.parametrize("name", ["/a/x", "../x", "a/../../x", "a/../b/x", "b/x", "a", "", ".", "a/..\\..\\x"])
def test_files_outside_the_run_folders_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"values|belongs to none"):
        launch.gather(cohort("a"), {"a/curves.npz": b"", name: b""}, tmp_path)
    assert list(tmp_path.iterdir()) == []


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
    assert launch._needs(nodes, cohort(*"abcdefghij"[:runs])) == needs


def test_no_ray_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--launcher=ray needs Ray, which is not installed: pip install -e '.\[clus"):
        study.execute(validate(tiny), tmp_path / "new", dry_run=False, launcher="ray")
    assert list(tmp_path.iterdir()) == []


def test_a_cohort_that_was_lost_is_tried_again_by_the_same_command(tiny, tmp_path, capsys, monkeypatch):
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    attempt = study.attempt

    def losing(runs, workdir, show):
        if runs[0].config.model.cell == "lstm":
            raise MemoryError
        attempt(runs, workdir, show)

    monkeypatch.setattr(study, "attempt", losing)
    assert not study.execute(validate(tiny), tmp_path, dry_run=False)
    assert "1 of 2 runs have not ended" in capsys.readouterr().out
    assert "gru-s0" in (tmp_path / "summary.md").read_text()
    monkeypatch.setattr(study, "attempt", attempt)
    assert study.execute(validate(tiny), tmp_path, dry_run=False)
    assert "lstm-s0" in (tmp_path / "summary.md").read_text()


# --- With Ray.

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
