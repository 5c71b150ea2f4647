"""The real command, killed, interrupted and starved: it goes on to the bits of a study that nobody disturbed.

The fast tests go on in this process, where everything has been compiled; the long ones by the command itself.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnn_compare.config import load
from rnn_compare.study import execute
from rnn_compare.workdir.checkpoint import begun
from rnn_compare.workdir.runs import over

EPOCHS = 120
CONFIG = f"""
from rnn_compare import config as base

def get_config():
    config = base.base()
    config.seeds = 2
    config.task.name = "adding"  # whose data is drawn for each epoch
    config.data.sequences, config.data.length, config.model.units = 4, 600, 4
    config.train.epochs, config.train.chunk = {EPOCHS}, 4
    config.checkpoint.epochs = 12
    config.log.histogram_every = 50
    return config
"""

# Puts a limit on the size of files and becomes the command. (A fork of a process that has JAX in it may deadlock.)
LIMITED = """
import os, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "study.py"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def start(config):
    """Starts the command on a workdir; `before` stands in front of the interpreter's arguments."""
    started = []

    def start(workdir, *arguments, before=()):
        main = ["-m", "rnn_compare.main", f"--config={config}", f"--workdir={workdir}", *arguments]
        command = [sys.executable, *before, *main]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:  # those of tests that failed are still there
        if process.returncode is None:
            process.kill()
            process.communicate()


def end(process):
    """What it printed, what it complained of, and its exit code."""
    out, problems = process.communicate(timeout=300)
    return out, problems, process.returncode


@pytest.fixture
def go_on(config, capsys):
    """Runs the study in this process, from where it is to its end; returns what it said."""

    def go_on(workdir):
        capsys.readouterr()
        assert execute(load(str(config), []), workdir, dry_run=False)
        return capsys.readouterr().out

    return go_on


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    """The contents of a workdir."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert execute(load(str(config), []), workdir, dry_run=False)
    return contents(workdir)


def contents(workdir):
    """All that a study left, less its times."""
    found = {}
    for run in sorted(path.parent for path in workdir.glob("*/run.json")):
        found[run.name, "run"] = json.loads((run / "run.json").read_text())
        for file in ("curves.npz", "params.npz", "predictions.npz"):
            for name, array in np.load(run / file).items():
                if name != "seconds_per_epoch":
                    found[run.name, file, name] = (array.dtype.str, array.shape, array.tobytes())
        (_,) = run.glob("events*")
        events = EventAccumulator(str(run), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0}).Reload()
        tags = events.Tags()
        for tag in tags["scalars"]:
            steps = [(scalar.step, scalar.value) for scalar in events.Scalars(tag)]
            found[run.name, "scalars", tag] = [step for step, _ in steps] if tag == "seconds_per_epoch" else steps
        for tag in tags["histograms"]:
            histograms = [(h.step, tuple(h.histogram_value.bucket)) for h in events.Histograms(tag)]
            found[run.name, "histograms", tag] = histograms
        for tag in tags["tensors"]:
            found[run.name, "text", tag] = [(t.step, t.tensor_proto.string_val) for t in events.Tensors(tag)]
    found["files", "names"] = sorted(
        str(path.relative_to(workdir)) for path in workdir.rglob("*") if "events" not in path.name
    )
    return found


def assert_same(workdir, undisturbed):
    there = contents(workdir)
    assert there.keys() == undisturbed.keys()
    assert [key for key in undisturbed if there[key] != undisturbed[key]] == []
    for name in {name for name, kind, *_ in undisturbed if kind == "run"}:
        assert [step for step, _ in there[name, "scalars", "loss"]] == list(range(EPOCHS))
        assert [step for step, _ in there[name, "histograms", "params/head/bias"]] == [50, 100, EPOCHS]


def phase(workdir):
    """What a process was doing when it was killed, read off its workdir."""
    if len(list(workdir.glob("*/run.json"))) == 4:  # all of two cells and two seeds
        return "reporting"
    if list(workdir.glob("checkpoints/*/*tmp*")):
        return "checkpointing"
    return "training" if (workdir / ".holder.json").exists() else "starting"


def unfinished(workdir, folder, names):
    """Whether a folder of checkpoints holds what some of its runs can go on from."""
    return any(path.name.isdecimal() for path in folder.iterdir()) and not all(over(workdir / name) for name in names)


def saved(workdir):
    return [path for path in workdir.glob("checkpoints/*/*") if path.name.isdecimal()]


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_a_killed_study_goes_on_to_the_bit(start, undisturbed, go_on, tmp_path):
    process = start(tmp_path)
    wait_for(lambda: saved(tmp_path), process)
    process.kill()
    process.communicate()
    assert go_on(tmp_path).count("goes on from epoch") == 1
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_a_study_killed_30_times_goes_on_to_the_bit(start, tmp_path):
    """SIGKILL at random moments until 30 have hit; every study of two cohorts ends as the undisturbed one."""
    longer = "--config.sweep.model.cell=lstm,gru"
    begin = time.monotonic()
    _, problems, code = end(start(tmp_path / "undisturbed", longer))
    seconds = time.monotonic() - begin
    assert code == 0, problems
    undisturbed = contents(tmp_path / "undisturbed")
    rng, phases, studies = random.Random(1), [], 0
    while len(phases) < 30:
        workdir, studies = tmp_path / str(studies), studies + 1
        while True:
            waiting = [folder for folder, names in begun(workdir).items() if unfinished(workdir, folder, names)]
            process = start(workdir, longer)
            try:
                process.wait(rng.uniform(0, 1.1 * seconds) if len(phases) < 30 else None)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                phases.append(phase(workdir))
                continue
            out, problems, code = end(process)
            assert code == 0, problems
            assert out.count("goes on from epoch") == len(waiting)
            break
        assert_same(workdir, undisturbed)
    print({name: phases.count(name) for name in sorted(set(phases))}, f"undisturbed: {seconds:.1f} s")


@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(*how, marks=pytest.mark.slow) for how in ((signal.SIGTERM, 143), (signal.SIGINT, 130))],
)
def test_a_signal_saves_and_says_how_to_go_on(start, undisturbed, go_on, tmp_path, number, code):
    process = start(tmp_path)
    wait_for(lambda: saved(tmp_path), process)
    process.send_signal(number)
    out, problems, returned = end(process)
    assert returned == code, problems
    assert problems == "interrupted: the same command goes on from here\n"
    (epoch,) = (line.rsplit(" ", 1)[1] for line in out.splitlines() if "stopped, and saved at epoch" in line)
    out = go_on(tmp_path)
    assert f"goes on from epoch {epoch}" in out
    assert "taken over" not in out
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
def test_the_second_signal_ends_at_once(start, tmp_path):
    long = [f"--config.{key}=1000000" for key in ("train.chunk", "train.epochs", "log.histogram_every")]
    process = start(tmp_path, *long)
    wait_for(lambda: list(tmp_path.glob("*/events*")), process)
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    assert process.poll() is None, "the first one only asks, and this chunk is long"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT


# Files larger than this cannot be written: the config, event files, the figure.
@pytest.mark.parametrize("limit", [pytest.param(limit, marks=pytest.mark.slow) for limit in (500, 60_000, 120_000)])
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(start, undisturbed, go_on, tmp_path, limit):
    process = start(tmp_path, before=("-c", LIMITED, str(limit)))
    _, problems, code = end(process)
    assert code == 2, problems
    assert problems.startswith("error: ")
    assert problems.count("\n") == 1
    print(limit, problems)
    go_on(tmp_path)
    assert_same(tmp_path, undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can mount")
@pytest.mark.parametrize("size", ["24k", "60k", "120k", "144k", "160k", "250k", "400k"])
def test_a_full_file_system(start, undisturbed, tmp_path, size):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", tmp_path], check=True)
    try:
        _, problems, code = end(start(tmp_path))
        assert code == 2, problems
        assert problems.startswith("error: ")
        assert problems.count("\n") == 1
        print(size, problems)
        subprocess.run(["mount", "-o", "remount,size=64m", tmp_path], check=True)
        _, problems, code = end(start(tmp_path))
        assert code == 0, problems
        assert_same(tmp_path, undisturbed)
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        _, problems, code = end(start(tmp_path))
        assert code == 2
        assert "cannot be written" in problems
    finally:
        subprocess.run(["umount", tmp_path], check=True)
