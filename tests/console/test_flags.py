"""What a person asks of a program before it does anything."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from absl.testing import flagsaver

from rnn_compare import main
from rnn_compare.config import KEYS
from rnn_compare.console.flags import path_of

CONFIG = str(Path(__file__).parents[2] / "configs" / "smoke.py")


def test_help_is_there_at_once_with_every_key_and_exit_code_0():
    """In a process of its own, because it is JAX that must not be waited for."""
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "rnn_compare.main", "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert [key for key in KEYS if f"--config.{key}=" not in result.stdout] == []
    assert [
        flag for flag in ("--config=", "--workdir=", "--dry_run=", "--launcher=") if flag not in result.stdout
    ] == []
    assert not {"jax", "flax", "scipy", "matplotlib"} & {
        line.split("|")[-1].strip() for line in result.stderr.split("\n")
    }
    assert time.perf_counter() - start < 5


def test_print_config_is_the_resolved_config(capsys):
    with flagsaver.flagsaver():
        overrides = main.parse(
            ["main", f"--config={CONFIG}", "--print_config", "--config.sweep.model.units=range(4,9,2)"]
        )
        assert main.main(overrides) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.keys() == {*KEYS, "sweep"}
    assert said["sweep"] == {"model.cell": ["lstm", "gru"], "model.units": [4, 6, 8]}
    assert said["train.epochs"] == 60


def test_a_tilde_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with flagsaver.flagsaver(config="~/some.py", workdir="~/runs/x"):
        assert path_of(main.CONFIG) == tmp_path / "some.py"
        assert path_of(main.WORKDIR) == tmp_path / "runs" / "x"
    with (
        flagsaver.flagsaver(workdir="~nobody-of-that-name/x"),
        pytest.raises(main.UserError, match="--workdir=~nobody"),
    ):
        path_of(main.WORKDIR)
