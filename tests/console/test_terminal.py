"""What is said on the terminal."""

import os
import subprocess
import sys

from rnn_compare.console.terminal import say


def test_a_line_is_printed_as_it_is(capsys):
    line = "[bold] :fire: " + 200 * "x"
    say(line)
    assert capsys.readouterr().out == line + "\n"


def test_nobody_reads_it():
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "rnn_compare.main", "--config=configs/post8.py", "--print_config"]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (process.returncode, process.stderr) == (0, "")
