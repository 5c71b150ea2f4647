"""The house: nothing imports what stands above it, nothing low drags in what is heavy, and the map is true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "rnn_compare"
ROOMS = (
    "main.py", "gpu_check", "study", "report", "training", "layers", "network", "recurrence", "cells", "tasks",
    "statistics", "workdir", "config", "console", "__init__.py",
)  # fmt: skip
HEAVY = {"jax", "flax", "optax", "numba", "scipy", "matplotlib", "tensorboardX", "orbax"}

FILES = {path.relative_to(HOUSE): ast.parse(path.read_text()) for path in HOUSE.rglob("*.py")}
MODULES = {".".join(("rnn_compare", *file.with_suffix("").parts)).removesuffix(".__init__"): file for file in FILES}


def imported(file):
    """The files of ours that a file imports, anywhere in it; for what a package offers, its `__init__.py`."""
    for node in ast.walk(FILES[file]):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import, which is not followed here"
            names = [(f"{node.module}.{alias.name}", node.module) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [(alias.name, alias.name) for alias in node.names]
        else:
            names = []
        for name, module in names:
            if module.split(".")[0] == "rnn_compare":
                yield MODULES[name if name in MODULES else module]


def upward(place):
    """The imports that do not lead further down; `place` gives each file's, counted from above."""
    return [f"{a} imports {b}" for a in FILES for b in imported(a) if place(b) < place(a)]


def mapped():
    """The files of the map in WORKSPACE.md, from top to bottom."""
    block = (ROOT / "WORKSPACE.md").read_text().split("```\nrnn_compare/\n")[1].split("\n```")[0]
    folders, found = [], []
    for indent, name in re.findall(r"^( +)(\S+)", block, re.MULTILINE):
        folders = [*folders[: len(indent) // 2 - 1], name]
        found.append(Path(*folders))
    return [path for path in found if path.suffix == ".py"]


def test_rooms_import_only_rooms_below_them():
    assert {file.parts[0] for file in FILES} == set(ROOMS)
    assert upward(lambda file: ROOMS.index(file.parts[0])) == []


def test_the_map_names_every_file_in_an_order_in_which_nothing_imports_what_stands_above_it():
    order = mapped()
    said = {file for file, tree in FILES.items() if file.name != "__init__.py" or len(tree.body) > 1}
    assert sorted(map(str, order)) == sorted(map(str, said))
    assert upward(lambda file: order.index(file) if file in order else len(order)) == []


def test_every_folder_is_a_package_so_that_a_wheel_has_it():
    """`find:` in setup.cfg leaves out a folder without `__init__.py`, and all that is in it."""
    assert {str(file.parent) for file in FILES if file.parent / "__init__.py" not in FILES} == set()


def test_what_is_low_drags_in_nothing_heavy():
    consoles = [module for module in MODULES if module.startswith("rnn_compare.console.")]
    low = ["rnn_compare.config", "rnn_compare.workdir.lock", "rnn_compare.workdir.files", *consoles]
    code = f"import sys, {', '.join(low)}; print(*{HEAVY!r} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_no_file_of_the_kernels_is_long():
    lengths = {path.name: len(path.read_text().splitlines()) for path in (HOUSE / "recurrence").rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
