import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rnn_compare import config
from rnn_compare.workdir.runs import as_json


def test_the_machine_and_the_versions_are_shown(study):
    machine = {"cpu": "a fast one", "cores": 12, "packages": {"rnn_compare": "0.1.0", "commit": "12ab-dirty"}}
    (study.folder / "environment.json").write_text(json.dumps(machine))
    html, markdown = study.write()
    for name, value in (("cpu", "a fast one"), ("cores", "12"), ("rnn_compare", "0.1.0"), ("commit", "12ab-dirty")):
        assert re.search(rf'<td class="">{name}</td><td class="[a-z]*">{value}</td>', html)
        assert re.search(rf"\| {name} +\| {value} +\|", markdown)


def recipe(markdown):
    """The last two blocks of code: a file and the command that it is given to."""
    blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in markdown.split("\n\n") if block[:4] == "    "]
    return blocks[-2] + "\n", shlex.split(blocks[-1].replace("\\\n", ""))


def test_flags_give_the_config_again(tmp_path, make_study, curve):
    made = make_study(3, {"model.cell": ("lstm", "gru"), "data.periods,data.discount": (((10, 25.0), 0.9),)})
    made.add("gru", 0, curve(1, 0.1), axes={"model.cell": "gru", "data.periods": [10, 25.0], "data.discount": 0.9})
    file, command = recipe(made.write()[1])
    (tmp_path / "again.py").write_text(file)
    program, *flags = command[2:]
    assert (program, flags.pop(0)) == ("rnn_compare.main", "--config=again.py")
    again = config.load(str(tmp_path / "again.py"), [flag.removeprefix("--config.") for flag in flags])
    assert as_json(again) == made.config


MINE = """
import names_of_mine
from rnn_compare import config as base

def get_config():
    config = base.base()
    config.data.length = 30
    config.train.epochs = 2
    config.train.backend = "scan"
    config.optimizer.clip = "none_at_all"
    config.sweep = {"model.cell,model.bias_init": (("lstm", "forget_2"), ("mine", "zeros"))}
    return config
"""
NAMES = """
import optax
from rnn_compare.cells import CELLS, GRUCell
from rnn_compare.training.optimizers import CLIPS

class Mine(GRUCell):
    pass

CELLS["mine"] = Mine
CLIPS["none_at_all"] = lambda limit: optax.identity()
"""


@pytest.mark.slow
def test_names_that_the_config_file_registers_are_there_when_it_is_run_again(tmp_path):
    """As a user would: the study, its report, and what the report says; the config file sets other things by then."""

    def python(*command):
        said = subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        return said.stdout

    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    (tmp_path / "my_study.py").write_text(MINE)
    (tmp_path / "names_of_mine.py").write_text(NAMES)
    python("-m", "rnn_compare.main", "--config", "my_study.py", "--config.data.sequences=2")
    first = (tmp_path / "runs/my_study/report.md").read_text()
    python("-m", "rnn_compare.report", "--workdir=runs/my_study")
    assert recipe((tmp_path / "runs/my_study/report.md").read_text()) == recipe(first)
    file, command = recipe(first)
    assert "run('my_study.py')  # registers none_at_all, mine\n" in file
    (tmp_path / "again_my_study.py").write_text(file)
    (tmp_path / "my_study.py").write_text(MINE.replace("30", "40"))
    then = json.loads((tmp_path / "runs/my_study/config.json").read_text())
    assert json.loads(python(*command[1:], "--print_config")).items() < then.items()
