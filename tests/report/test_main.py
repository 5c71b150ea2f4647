import subprocess
import sys

PROGRAM = """
import sys
from rnn_compare.console.flags import complaining
from rnn_compare.report.__main__ import main, parse
for arguments in sys.argv[1:]:
    try:
        complaining(main)(complaining(parse)(["report", *arguments.split()]))
        print(0)
    except SystemExit as end:
        print(end.code)
"""


def test_from_the_command_line(make_study, tmp_path):
    """In one process of its own: its flags would be in the way of those of the other program."""
    study = make_study(2)
    (tmp_path / "empty").mkdir()
    arguments = [f"--workdir={study.folder}", f"--workdir={tmp_path}/empty", "--wrokdir=x", "here", "--workdir="]
    command = [sys.executable, "-W", "error", "-c", PROGRAM, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.stdout.split() == [f"{study.folder}/report.html", "0", "2", "2", "2", "2"]
    complaints = result.stderr.splitlines()
    for complaint, words in zip(
        complaints, ("holds no study", "wrokdir", "here is not a flag", "--workdir is missing"), strict=True
    ):
        assert complaint.startswith("error: ")
        assert words in complaint
