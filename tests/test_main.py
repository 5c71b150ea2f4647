"""The program as a user starts it."""

import subprocess
import sys

import pytest


def run(*arguments, cwd):
    command = [sys.executable, "-m", "rnn_compare.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def smoke(pytestconfig):
    return f"--config={pytestconfig.rootpath}/configs/smoke.py"


def test_smoke_from_the_command_line(smoke, tmp_path):
    result = run(smoke, "--config.train.epochs=5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "lstm-s0" in result.stdout
    assert "finished" in result.stdout
    assert (tmp_path / "runs/smoke/loss.png").exists()
    again = run(smoke, "--config.train.epochs=6", cwd=tmp_path)
    assert again.returncode == 2
    assert "train.epochs is 5 there and 6 here" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--config.model.cell=lst"], "did you mean lstm"),
        (["--config.epochs=3"], "did you mean train.epochs"),
        (["--wrokdir=x"], "wrokdir"),
        (["epochs=5"], "epochs=5 is not a flag"),
        (["--workdir=/proc/nothing"], "cannot be written"),
        (["--config=nowhere.py"], "no such file"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(smoke, tmp_path, arguments, complaint):
    result = run(smoke, *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert "prepared" not in result.stdout


def test_no_config(tmp_path):
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert "--config is missing" in result.stderr


def test_diverged_exits_1(smoke, tmp_path):
    result = run(smoke, "--config.optimizer.learning_rate=1e30", "--config.train.epochs=4", cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "diverged" in result.stdout


def test_dry_run_writes_nothing(smoke, tmp_path):
    result = run(smoke, "--dry_run", cwd=tmp_path)
    assert result.returncode == 0
    assert "60 epochs" in result.stdout
    assert list(tmp_path.iterdir()) == []
