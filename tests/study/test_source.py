import sys
from pathlib import Path

import pytest

from rnn_compare.cells import CELLS
from rnn_compare.config import UserError
from rnn_compare.study.source import Source

CONFIG = """
import helper_of_a_test
from rnn_compare import config as base
from rnn_compare.cells import CELLS

CELLS["of_a_test"] = helper_of_a_test.Cell

def get_config():
    config = base.base()
    config.model.cell = "of_a_test"
    return config
"""
HELPER = "from rnn_compare.cells.gru import GRUCell as Cell"


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file that registers a cell from a module beside it, and a process that has loaded it."""
    (tmp_path / "my.py").write_text(CONFIG)
    (tmp_path / "helper_of_a_test.py").write_text(HELPER)
    (tmp_path / "not_imported.py").write_text("raise ValueError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = dict(CELLS)
    __import__("helper_of_a_test")
    yield tmp_path / "my.py"
    CELLS.clear()
    CELLS.update(before)
    sys.modules.pop("helper_of_a_test", None)


def test_the_file_and_what_it_imports_from_its_folder_are_sent(config):
    assert Source.of(config, []).files == {"my.py": CONFIG.encode(), "helper_of_a_test.py": HELPER.encode()}


def test_a_path_may_be_relative(config, monkeypatch):
    monkeypatch.chdir(config.parent)
    for path in (Path("my.py"), Path("..", config.parent.name, "my.py")):
        assert set(Source.of(path, []).files) == {"my.py", "helper_of_a_test.py"}


def test_nothing_of_this_package_is_sent_from_its_own_checkout(pytestconfig):
    files = Source.of(pytestconfig.rootpath / "README.md", []).files
    assert [path for path in files if path.startswith(("rnn_compare", "."))] == []


def test_names_are_known_where_it_was_sent(config, monkeypatch):
    source = Source.of(config, ["model.units=3"])
    for path in config.parent.iterdir():
        path.unlink()
    del sys.modules["helper_of_a_test"]
    before = list(sys.path)
    with source.registered():
        assert "of_a_test" in CELLS
    assert sys.path == before


def test_a_file_that_does_not_run_there_is_one_sentence(config):
    source = Source.of(config, [])._replace(files={"my.py": CONFIG.encode()})
    config.with_name("helper_of_a_test.py").unlink()
    del sys.modules["helper_of_a_test"]
    with (
        pytest.raises(UserError, match=r"^--config=my.py: my.py:2 .*helper_of_a_test.* \(on the worker"),
        source.registered(),
    ):
        pass


def test_a_study_without_a_file_runs_none():
    with Source().registered():
        pass
