"""What is particular to the CPU backend: activations, threads, the cache of machine code, what it refuses."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest

from rnn_compare.cells import CELLS, RecurrentCell
from rnn_compare.recurrence import cpu, pick
from rnn_compare.recurrence.cpu import kernels, vector, xla_ffi


def on_vectors(function):
    """A kernel's function of one vector, as a function of an array whose length is a multiple of 16."""

    @numba.cfunc("void(int64, int64, int64)")
    def apply(source, target, count):
        for i in range(0, count, vector.WIDTH):
            vector.store(xla_ffi.as_floats(target) + i, function(vector.load(xla_ffi.as_floats(source) + i)))

    def applied(x):
        x = np.ascontiguousarray(x, np.float32)
        out = np.empty_like(x)
        apply.ctypes(x.ctypes.data, out.ctypes.data, len(x))
        return out

    return applied


def sigmoid(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.abs(x))))


ACTIVATIONS = {"tanh": (kernels.tanh, np.tanh), "sigmoid": (kernels.sigmoid, sigmoid)}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_right_to_3_ulp_everywhere(name):
    function, exact = ACTIVATIONS[name]
    positive = np.arange(0, 0x7F800000, 97, np.uint32).view(np.float32)  # every 97th float
    x = np.concatenate([positive, -positive])
    x = x[: len(x) // 16 * 16]
    ours, expected = on_vectors(function)(x), exact(x.astype(np.float64))
    normal = np.abs(expected) > np.finfo(np.float32).tiny
    ulp = np.abs(ours - expected) / np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    assert ulp[normal].max() < 3
    assert np.abs(ours - expected)[~normal].max() <= np.finfo(np.float32).tiny  # denormals may be zero
    assert np.abs(ours).max() <= 1


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_what_is_not_finite(name):
    function, exact = ACTIVATIONS[name]
    x = np.array([np.nan, np.inf, -np.inf, 0.0] * 4, np.float32)
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(on_vectors(function)(x), exact(x), rtol=1e-6, atol=1e-37)


PROGRAM = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from rnn_compare.cells import CELLS
from rnn_compare.recurrence import recurrence
x = jax.random.normal(jax.random.key(0), ({T}, 40, 1))


def both(cell, carry, params):
    hidden, pull = jax.vjp(lambda params: recurrence(cell, params, x, carry, "cpu")[0], params)
    return hidden, pull(hidden)  # no sum of XLA's own, whose order may depend on the threads


for name in {cells}:
    cell = CELLS[name](units=16)
    carry = cell.initialize_carry(None, (40, 1))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]
    value = jax.jit(both, static_argnums=0)(cell, carry, params)
    print(hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(value))).hexdigest())
"""


def start(cache=None, cells=("gru",), T=200, prefix=()):
    """A process that prints a hash of all values and gradients of each cell."""
    environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    command = [*prefix, sys.executable, "-W", "error", "-c", PROGRAM.format(cells=cells, T=T)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    return out


def test_two_processes_fill_one_cache_and_a_third_uses_it(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    assert finish(first) == finish(second)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert any("gru_backward_task" in path.name for path in files)
    assert not any(path.name.startswith("tmp") for path in files)
    finish(start(tmp_path))
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}


def test_kernels_that_two_processes_compiled_work_in_a_third(tmp_path):
    """Numba numbers its functions from 1 in each process: their machine code has helpers of the same names."""
    first, second = start(tmp_path, ("gru",)), start(tmp_path, ("gru_reset_before",))
    apart = finish(first) + finish(second)
    assert finish(start(tmp_path, ("gru", "gru_reset_before"))) == apart


def test_a_damaged_or_unwritable_cache_only_costs_the_compile(tmp_path):
    good = finish(start(tmp_path))
    for path in tmp_path.rglob("*task"):
        path.write_bytes(path.read_bytes()[:-7])
    assert finish(start(tmp_path)) == good
    (tmp_path / "file").write_text("")
    assert finish(start(tmp_path / "file")) == good


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="needs two cores to vary")
@pytest.mark.parametrize("cell", CELLS)
def test_the_number_of_threads_changes_no_bit(cell):
    alone = finish(start(cells=(cell,), T=2000, prefix=("taskset", "-c", "0")))
    assert finish(start(cells=(cell,), T=2000)) == alone


def test_nothing_of_size_t_is_kept_but_hidden_and_cell_states():
    """No [T, B, nH] array, forward or backward: read off the compiled program's buffers."""
    cell = CELLS["lstm"](units=16)
    T, B = 5000, 8
    x, carry = jnp.ones((T, B, 1)), cell.initialize_carry(None, (B, 1))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]
    loss = lambda p: jnp.sum(cpu.recurrence(cell, p, x, carry)[0])  # noqa: E731
    for function, arrays in ((loss, 1.1), (jax.grad(loss), 3.3)):  # hidden; hidden, cells and the cotangent
        memory = jax.jit(function).lower(params).compile().memory_analysis()
        assert memory.temp_size_in_bytes < arrays * 4 * T * B * 16


class Unknown(RecurrentCell):
    gates = ("a",)


def test_what_it_cannot_serve_is_an_error_that_says_why():
    cell = Unknown(units=2)
    with pytest.raises(ValueError, match="no kernel for Unknown; use scan or auto"):
        pick("cpu", cell)
    assert pick("auto", cell) == "scan"
    assert pick("auto", CELLS["gru"](units=2)) == "cpu"
    with pytest.raises(ValueError, match="no kernel for Unknown"):
        cpu.recurrence(cell, {}, jnp.ones((1, 1, 1)), jnp.ones((1, 2)))
    lstm = CELLS["lstm"](units=2)
    params = lstm.init(jax.random.key(0), lstm.initialize_carry(None, (1, 1)), jnp.ones((1, 1)))["params"]
    with pytest.raises(ValueError, match="was given the shapes"):
        cpu.recurrence(lstm, params, jnp.ones((1, 1, 2)), lstm.initialize_carry(None, (1, 1)))
    with pytest.raises(ValueError, match="was given the shapes"):
        cpu.recurrence(lstm, params, jnp.ones((1, 3, 1)), lstm.initialize_carry(None, (2, 1)))
    with pytest.raises(ValueError, match="float32, and was given int32"):
        cpu.recurrence(lstm, params, jnp.ones((1, 1, 1), jnp.int32), lstm.initialize_carry(None, (1, 1)))
