"""Narrower vectors, and fewer instructions in a process of their own: right, and with the same bits from AVX2 up."""

import functools
import hashlib
import os
import pathlib
import subprocess
import sys

import jax
import llvmlite.binding
import numpy as np
import pytest
from contract import compiled, hold, problem
from steps import MODELS

from rnn_compare.recurrence import contract, cpu, fused
from rnn_compare.recurrence.cpu import source, vector

HERE = pathlib.Path(__file__).parent
FEATURES = llvmlite.binding.get_host_cpu_features()
SIZES = ((50, 13, 3, 37, 2), (3, 5, 2, 16, 0))  # with narrower vectors, four blocks of units and one or two more
WIDTHS = {"avx2": 8, "sse": 4}
NAMES = ["gru"], [name for name in MODELS if name != "gru"]


@pytest.mark.parametrize("name", ["gru", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1])])
def test_no_bit_depends_on_the_width_of_vectors(name, monkeypatch):
    model, found = MODELS[name](3, 37), []
    arguments = problem(model, 50, 13, 3, 2)
    for width in sorted({4, min(8, vector.WIDTH), vector.WIDTH}):
        monkeypatch.setattr(source, "width_for", lambda units, width=width: width)
        pulled = contract.pulled(functools.partial(fused.recurrence, cpu.Kernels), model.step)
        found.append(jax.jit(jax.vmap(pulled))(*arguments))
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


def bits(names, check):
    """A hash of all values and gradients of each model, held to the contract if asked for."""
    for name in names:
        digest = hashlib.sha256()
        for T, B, F, H, runs in SIZES:
            model = MODELS[name](F, H)
            if check:
                hold(model, "cpu", T, B, F, runs)
            for leaf in jax.tree.leaves(compiled(model, "cpu", runs)(*problem(model, T, B, F, runs))):
                digest.update(np.asarray(leaf).tobytes())
        yield digest.hexdigest()


PROGRAM = """
import sys
from rnn_compare.recurrence import contract
from rnn_compare.recurrence.cpu.vector import WIDTH
from test_vector import bits

if WIDTH == 4:  # no fused multiply-add: products are rounded, too
    contract.FACTOR *= 2
print(WIDTH, *bits(sys.argv[1:], check=True))
"""


def in_a_process(instructions, names):
    """The vectors' width and the bits there, where the contract is held."""
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"RNN_COMPARE_INSTRUCTIONS": instructions, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", PROGRAM, *names]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3000)
    assert process.returncode == 0, process.stderr
    width, *found = process.stdout.split()
    return int(width), found


@pytest.mark.slow
@pytest.mark.skipif(not FEATURES.get("fma"), reason="this processor has no AVX2 and FMA")
@pytest.mark.parametrize("names", NAMES)
def test_avx2_holds_the_contract_and_gives_the_bits_of_avx512(names):
    width, found = in_a_process("avx2", names)
    assert width == WIDTHS["avx2"]
    if not FEATURES.get("avx512f") or os.environ.get("RNN_COMPARE_INSTRUCTIONS"):
        pytest.skip("this processor has no AVX-512 to compare bits with")
    assert dict(zip(names, found, strict=True)) == dict(zip(names, bits(names, check=False), strict=True))


@pytest.mark.slow
@pytest.mark.skipif(not FEATURES.get("sse4.2"), reason="this processor has no SSE")
@pytest.mark.parametrize("names", NAMES)
def test_sse_holds_the_contract(names):
    """It has no fused multiply-add, so its bits are others."""
    width, _ = in_a_process("sse", names)
    assert width == WIDTHS["sse"]


def test_unknown_instructions_are_an_error_that_names_the_known():
    environment = os.environ | {"RNN_COMPARE_INSTRUCTIONS": "mmx"}
    command = [sys.executable, "-c", "import rnn_compare.recurrence.cpu.vector"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "RNN_COMPARE_INSTRUCTIONS is 'mmx', and can be avx2 or sse" in process.stderr
