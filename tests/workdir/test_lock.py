import json
import os
import socket
import subprocess
import sys

import pytest

from rnn_compare.config import UserError
from rnn_compare.workdir import lock

HOLD = "import sys; from pathlib import Path; from rnn_compare.workdir import lock\n"
HOLD += "with lock.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_living_process_keeps_others_out(tmp_path, other):
    with (
        pytest.raises(UserError, match=f"in use by process {other.pid} on {socket.gethostname()}: wait for it"),
        lock.held(tmp_path),
    ):
        pass
    other.communicate("")  # it ends as it should
    with lock.held(tmp_path):
        assert json.loads((tmp_path / ".holder.json").read_text())["pid"] == os.getpid()


def test_what_a_dead_process_left_is_taken_over_and_said(tmp_path, other, capsys):
    other.kill()
    other.wait()
    with lock.held(tmp_path):
        pass
    assert f"taken over from process {other.pid} on {socket.gethostname()}, which is gone" in capsys.readouterr().out
    with lock.held(tmp_path):
        pass
    assert "taken over" not in capsys.readouterr().out


def test_a_garbled_holder_does_not_matter(tmp_path, capsys):
    (tmp_path / ".holder.json").write_text("{")
    with lock.held(tmp_path):
        pass
    assert "taken over from another process" in capsys.readouterr().out


def test_the_lock_is_let_go_of_after_an_error(tmp_path):
    with pytest.raises(ValueError), lock.held(tmp_path):  # noqa: PT011
        raise ValueError
    with lock.held(tmp_path):
        pass
