"""The program as a user starts it."""

import os
import re
import subprocess
import sys

import pytest
from absl import logging
from absl.testing import flagsaver

from rnn_compare import main


def run(*arguments, cwd):
    command = [sys.executable, "-m", "rnn_compare.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """Runs the program in this process, in an empty folder; returns its exit code and what it said on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "set_verbosity", lambda level: None)

    def here(*arguments):
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            main.complaining(main.main)(main.complaining(main.parse)(["rnn_compare", *arguments]))
        return ended.value.code, capfd.readouterr().err

    return here


@pytest.fixture
def smoke(pytestconfig):
    return f"--config={pytestconfig.rootpath}/configs/smoke.py"


def test_smoke_from_the_command_line(smoke, tmp_path):
    result = run(smoke, "--config.train.epochs=5", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "lstm-s0" in result.stdout
    assert "finished" in result.stdout
    assert (tmp_path / "runs/smoke/loss.png").exists()
    assert (tmp_path / "runs/smoke/speed.json").exists()
    again = run(smoke, "--config.train.epochs=6", cwd=tmp_path)
    assert again.returncode == 2
    assert "train.epochs is 5 there and 6 here" in again.stderr


def test_a_reader_that_goes_away_does_not_stop_the_study(smoke, tmp_path):
    command = [sys.executable, "-m", "rnn_compare.main", smoke, "--config.train.epochs=5"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        problems = process.stderr.read()
    assert (process.returncode, problems) == (0, "")
    assert (tmp_path / "runs/smoke/report.html").exists()


def test_a_terminal_that_is_not_utf_8(smoke, tmp_path):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "rnn_compare.main", smoke, "--dry_run"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, b"")
    assert b"inputs [200, 8, 1] ? lstm" in result.stdout


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


GOOD = "from rnn_compare.config import base as get_config"
FILES = {
    "syntax": "def get_config(:",
    "binary": "\xff\0\xfe",
    "null": "\0",
    "latin": "# coding: klingon",
    "quits": "raise SystemExit",
    "quits_later": "def get_config(): raise SystemExit(0)",
    "recurses": "def get_config(): return get_config()",
    "exhausts": "def get_config(): raise MemoryError",
    "interrupts": "def get_config(): raise KeyboardInterrupt",
    "needs": "def get_config(name): return name",
    "none": "def get_config(): return None",
    "number": "get_config = 5",
    "imports": "import nowhere.at_all",
    "lines": "def get_config(): raise ValueError('several\\n\\nlines\\0')",
    "empty": "",
    "good": GOOD,
}
CALLS = [
    *([f"--config={name}.py"] for name in FILES if name not in ("good", "interrupts")),
    ["--config=folder"],
    ["--config=/proc/self/mem"],
    ["--config=\0"],
    ["--config=a\nb"],
    [f"--config={'x' * 5000}"],
    ["--config="],
    ["--config"],
    *(
        ["--config=good.py", argument]
        for argument in [
            "--config.data",
            "--config.",
            "--config.=",
            "--config.train.epo\nchs=1\n",
            "--config.model.cell=\0🦆\udcff",
            "--config.seeds=1e5",
            f"--config.seeds={10**400}",
            f"--config.data.bias={10**400}",
            "--config.sweep=[]",
            "--config.sweep.model.cell",
            "--config.sweep.={[]: 1}",
            "--config.data={'length': 5}",
            "--workdir=",
            "--workdir=good.py",
            "--workdir=good.py/below",
            "--workdir=a\0b",
            f"--workdir={'x' * 256}",
            f"--workdir=new/{'é' * 200}",
            f"--workdir={'x/' * 3000}",
            "--workdir=garbled",
            "--launcher=slurm",
            "--dry_run=perhaps",
            "--flagfile=folder",
            "--flagfile=binary.py",
            "--verbosity=much",
            "--stderrthreshold=much",
            "--logger_levels=much",
            "--undefok",
            "\n",
        ]
    ),
]


@pytest.mark.parametrize("arguments", CALLS, ids=lambda arguments: ascii(arguments)[:80])
def test_whatever_is_wrong_is_one_sentence_and_exit_code_2(here, tmp_path, arguments):
    for name, text in FILES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="latin-1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "config.json").write_text("[[]]")
    code, said = here("--dry_run", *arguments)
    assert code == 2
    assert re.fullmatch(r"error: [^\n]*\w[^\n]*\n", said), said
    assert "Traceback" not in said


def test_an_interrupt_is_one_sentence_and_exit_code_130(here, tmp_path):
    (tmp_path / "some.py").write_text(FILES["interrupts"])
    code, said = here("--config=some.py")
    assert code == 130
    assert said.count("\n") == 1


def test_no_config(tmp_path):
    result = run(cwd=tmp_path)
    assert result.returncode == 2
    assert "--config is missing" in result.stderr


def test_diverged_exits_1(smoke, tmp_path):
    flags = ("optimizer.learning_rate=1e30", "train.epochs=4", "speed.limit=0")
    result = run(smoke, *(f"--config.{flag}" for flag in flags), cwd=tmp_path)
    assert result.returncode == 1, result.stderr
    assert "diverged" in result.stdout


def test_dry_run_writes_nothing(smoke, tmp_path):
    result = run(smoke, "--dry_run", cwd=tmp_path)
    assert result.returncode == 0
    assert "60 epochs" in result.stdout
    assert list(tmp_path.iterdir()) == []
