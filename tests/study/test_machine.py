import importlib.util
import os
import resource
import sys

import pytest

import rnn_compare
from rnn_compare.study import machine
from rnn_compare.study.machine import commit, environment


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Puts a program in git's place, for a folder that is a checkout."""
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))

    def git(script):
        (tmp_path / "git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "git").chmod(0o755)
        return tmp_path

    return git


def test_the_version_is_this_packages_own():
    assert environment()["packages"]["rnn_compare"] == rnn_compare.__version__


def test_the_commit_is_what_git_says_in_the_checkout(git):
    folder = git('[ "$*" = "describe --always --dirty" ] && [ -d .git ] && echo 12ab34c-dirty')
    assert commit(folder) == {"commit": "12ab34c-dirty"}


def test_where_there_is_no_commit_nothing_is_said(git, tmp_path, capfd):
    assert commit(tmp_path) == {}  # no git
    assert commit(git("echo fatal: no commit >&2; exit 128")) == {}
    (tmp_path / ".git").rmdir()
    assert commit(git("echo 12ab34c")) == {}  # no checkout, though git may see one further up
    assert capfd.readouterr() == ("", "")


def test_the_processor_is_named_so_that_its_generation_can_be_told():
    said = environment()
    assert machine.llvm.get_host_cpu_name() in said["cpu"]
    assert set(said["instruction_sets"]) <= set(machine.VECTORS)
    assert said["instruction_sets"]
    assert any("openblas" in name and "(" in name for name in said["blas"])


CPUINFO = "processor\t: {i}\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nstepping\t: 1\n"


def test_one_name_of_two_generations_is_told_apart(monkeypatch):
    monkeypatch.setattr(machine.Path, "read_text", lambda path: "\n".join(CPUINFO.format(i=i) for i in range(2)))
    monkeypatch.setattr(machine.llvm, "get_host_cpu_name", lambda: "znver5")
    assert machine.cpu() == "AMD EPYC, family 26, model 2, znver5"


def test_without_what_only_unix_has(monkeypatch):
    """As on Windows, where nothing of this was ever run: it is imported, and says what it can."""
    monkeypatch.setitem(sys.modules, "resource", None)
    spec = importlib.util.find_spec("rnn_compare.study.machine")
    bare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bare)
    monkeypatch.delattr(os, "sysconf")
    assert bare.resource is None
    assert bare.most_open_files() > 10**6
    assert bare.device_memory() > 0
    assert bare.environment()["memory_gb"] > 10**5


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] // 2, before[1]))
        machine.most_open_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
