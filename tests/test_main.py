"""The program as a user starts it."""

import io
import os
import re
import subprocess
import sys

import pytest
from absl import logging
from absl.testing import flagsaver

from rnn_compare import main
from rnn_compare.console.flags import complaining
from rnn_compare.console.terminal import say


def run(*arguments, cwd):
    command = [sys.executable, "-m", "rnn_compare.main", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.fixture
def here(tmp_path, monkeypatch, capfd):
    """Runs the program in this process, in an empty folder; returns its exit code and what it said on each stream."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging, "set_verbosity", lambda level: None)

    def program(arguments):
        sys.exit(complaining(main.main)(complaining(main.parse)(["rnn_compare", *arguments])))

    def here(*arguments):
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            program(arguments)
        return ended.value.code, *capfd.readouterr()

    return here


@pytest.fixture
def smoke(pytestconfig):
    return f"--config={pytestconfig.rootpath}/configs/smoke.py"


def check_smoke(code, out, said, folder):
    assert code == 0, said
    assert "lstm-s0" in out
    assert "finished" in out
    assert (folder / "runs/smoke/report.html").exists()
    assert (folder / "runs/smoke/speed.json").exists()


@pytest.mark.slow
def test_smoke_from_the_command_line(smoke, tmp_path):
    result = run(smoke, cwd=tmp_path)
    check_smoke(result.returncode, result.stdout, result.stderr, tmp_path)


def test_smoke(smoke, tiny_flags, here, tmp_path, no_figures):
    flags = *tiny_flags, "--config.speed.limit=0.1"
    check_smoke(*here(smoke, *flags), tmp_path)
    code, _, said = here(smoke, *flags, "--config.train.epochs=8")
    assert code == 2
    assert "train.epochs is 7 there and 8 here" in said


def unread(*command, cwd):
    """Starts a command and reads no more than its first line; returns its exit code and what it complained of."""
    command = [sys.executable, *command]
    with subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        problems = process.stderr.read()
    return process.returncode, problems


def test_a_reader_that_goes_away_stops_nothing(tmp_path):
    talk = "from rnn_compare.console.terminal import say\nfor _ in range(1000): say('x' * 1000)\nopen('end', 'w')"
    assert unread("-c", talk, cwd=tmp_path) == (0, "")
    assert (tmp_path / "end").exists()


@pytest.mark.slow
def test_a_reader_that_goes_away_does_not_stop_the_study(smoke, tmp_path):
    assert unread("-m", "rnn_compare.main", smoke, "--config.train.epochs=5", cwd=tmp_path) == (0, "")
    assert (tmp_path / "runs/smoke/report.html").exists()


def test_a_terminal_that_is_not_utf_8_shows_a_question_mark(monkeypatch):
    out, problems = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", problems)

    def program(args):
        say("inputs → lstm")
        raise main.UserError("é is no number")

    with pytest.raises(SystemExit):
        complaining(program)([])
    for stream, said in ((out, b"inputs ? lstm\n"), (problems, b"error: ? is no number\n")):
        stream.flush()
        assert stream.buffer.getvalue() == said


@pytest.mark.slow
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
        (["--config="], "--config is missing"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(here, smoke, tmp_path, arguments, complaint):
    code, out, said = here(smoke, *arguments)
    assert code == 2
    assert complaint in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    assert "prepared" not in out


def test_the_command_complains_as_the_program_here_does(here, smoke, tmp_path):
    result = run(smoke, "--config.model.cell=lst", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == here(smoke, "--config.model.cell=lst")


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
    code, _, said = here("--dry_run", *arguments)
    assert code == 2
    assert re.fullmatch(r"error: [^\n]*\w[^\n]*\n", said), said
    assert "Traceback" not in said


def test_an_interrupt_is_one_sentence_and_exit_code_130(here, tmp_path):
    (tmp_path / "some.py").write_text(FILES["interrupts"])
    code, _, said = here("--config=some.py")
    assert code == 130
    assert said.count("\n") == 1


def test_diverged_exits_1(here, tiny_flags, tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    code, out, said = here("--config=good.py", *tiny_flags, "--config.optimizer.learning_rate=1e30")
    assert code == 1, said
    assert "diverged" in out


def test_dry_run_writes_nothing(here, smoke, tiny_flags, tmp_path):
    code, out, _ = here(smoke, *tiny_flags, "--config.sweep.model.cell=lstm", "--dry_run")
    assert code == 0
    assert "7 epochs" in out
    assert list(tmp_path.iterdir()) == []
