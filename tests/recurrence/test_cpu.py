"""What is particular to the CPU backend: threads, the cache of machine code, what it refuses."""

import ctypes
import hashlib
import inspect
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numba
import numpy as np
import pytest
from numba.core.codegen import JITCodeLibrary

from rnn_compare.cells import CELLS, RecurrentCell, project, recur
from rnn_compare.recurrence import BACKENDS, cpu, pick, recurrence, xla_ffi
from rnn_compare.recurrence.cpu import compiled, packing, support


def hashes(cells, T, gradients):
    """A hash of all values and, if asked for, gradients of each cell."""
    x = jax.random.normal(jax.random.key(0), (T, 40, 1))

    def both(cell, carry, params):
        hidden, pull = jax.vjp(lambda params: recurrence(cell, params, x, carry, "cpu")[0], params)
        return hidden, pull(hidden) if gradients else ()  # no sum of XLA's own, whose order may depend on the threads

    for name in cells:
        cell = CELLS[name](units=16)
        carry = cell.initialize_carry(None, (40, 1))
        params = cell.init(jax.random.key(1), carry, x[0])["params"]
        value = jax.jit(both, static_argnums=0)(cell, carry, params)
        yield hashlib.sha256(b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(value))).hexdigest()


PROGRAM = f"""
import hashlib, jax, numpy as np, sys
from rnn_compare.cells import CELLS
from rnn_compare.recurrence import recurrence

{inspect.getsource(hashes)}

print(*hashes(sys.argv[3:], int(sys.argv[1]), bool(int(sys.argv[2]))))
"""


def start(cache=None, cells=("gru",), T=200, gradients=True, prefix=()):
    """A process that prints the hashes."""
    environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
    command = [*prefix, sys.executable, "-W", "error", "-c", PROGRAM, str(T), str(int(gradients)), *cells]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, problems = process.communicate(timeout=300)
    assert process.returncode == 0, problems
    return out.split()


def files(cache):
    return {path: path.stat().st_mtime_ns for path in cache.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("gradients", [False, True])
def test_kernels_that_two_processes_compiled_work_in_a_third(tmp_path, gradients):
    """Numba numbers its functions from 1 in each process: their machine code has helpers of the same names."""
    first, second = (start(tmp_path, [cell], gradients=gradients) for cell in ("gru", "gru_reset_before"))
    apart = finish(first) + finish(second)
    filled = files(tmp_path)
    assert sum(path.name.endswith("_task") for path in filled) == 2 * (1 + gradients)
    assert not any(path.name.startswith("tmp") for path in filled)
    assert finish(start(tmp_path, ["gru", "gru_reset_before"], gradients=gradients)) == apart
    assert files(tmp_path) == filled  # nothing was compiled


@pytest.mark.slow
def test_two_processes_fill_one_cache_and_a_third_uses_it(tmp_path):
    first, second = start(tmp_path), start(tmp_path)
    assert finish(first) == finish(second)
    filled = files(tmp_path)
    assert sum(path.name.endswith("_task") for path in filled) == 2
    assert not any(path.name.startswith("tmp") for path in filled)
    finish(start(tmp_path))
    assert files(tmp_path) == filled


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, for this process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled.cache_folder.cache_clear()
    yield tmp_path
    compiled.cache_folder.cache_clear()


def test_machine_code_is_kept_and_a_damaged_or_unwritable_cache_only_costs_the_compile(cache, monkeypatch):
    def add(a, b):
        return a + b

    def works():
        return ctypes.CFUNCTYPE(*[ctypes.c_int64] * 3)(compiled._compile("add", add, 2, xla_ffi.word))(3, 4) == 7

    assert works()
    (path,) = files(cache)
    good = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.delattr(numba, "cfunc")
        assert works()
    for damaged in (good[:-7], b"", bytes([good[0] ^ 1]) + good[1:]):
        path.write_bytes(damaged)
        assert works()
        assert path.read_bytes()[:32] == hashlib.sha256(path.read_bytes()[32:]).digest()
    monkeypatch.setenv("XDG_CACHE_HOME", str(path))  # a file is no folder
    compiled.cache_folder.cache_clear()
    assert works()


@pytest.mark.slow
def test_a_damaged_or_unwritable_cache_only_costs_the_compile(tmp_path):
    good = finish(start(tmp_path))
    for path in tmp_path.rglob("*task"):
        path.write_bytes(path.read_bytes()[:-7])
    assert finish(start(tmp_path)) == good
    (tmp_path / "file").write_text("")
    assert finish(start(tmp_path / "file")) == good


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2, reason="needs two cores to vary")
@pytest.mark.parametrize(
    "name", [name if name == "gru" else pytest.param(name, marks=pytest.mark.slow) for name in CELLS]
)
def test_the_number_of_threads_changes_no_bit(name):
    alone = finish(start(cells=[name], T=2000, prefix=("taskset", "-c", "0")))
    assert list(hashes([name], 2000, gradients=True)) == alone


@pytest.mark.slow
def test_results_written_past_the_caches_are_those_of_two_halves_written_through_them():
    T, B, H = 1200, 64, 16  # 1.2 million numbers in each of states, cell states and gradients of the input
    assert T * B * H > support.PAST_CACHES_FROM > T * B * H / 2
    cell = CELLS["lstm"](units=H)
    x = jax.random.normal(jax.random.key(0), (T, B, H))
    carry = cell.initialize_carry(None, (B, H))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]

    def both(x, carry):
        return jax.vjp(lambda x, carry: recurrence(cell, params, x, carry, "cpu"), x, carry)

    (whole, last), pull = jax.jit(both)(x, carry)
    (first, middle), pull_first = jax.jit(both)(x[: T // 2], carry)
    (second, end), pull_second = jax.jit(both)(x[T // 2 :], middle)
    dx, dcarry = pull((whole, last))
    dx_second, dmiddle = pull_second((second, end))
    dx_first, dstart = pull_first((first, dmiddle))
    halves = jnp.concatenate([first, second]), end, jnp.concatenate([dx_first, dx_second]), dstart
    jax.tree.map(np.testing.assert_array_equal, (whole, last, dx, dcarry), halves)


@pytest.mark.parametrize("weights", [1, 1 << 20])
def test_tasks_share_a_batch_the_larger_ones_first(monkeypatch, weights):
    batches = range(1, 1000, 1 if weights == 1 else 7)
    most_rows = [support.rows_of_task(batch, weights) for batch in batches]
    shared = list(map(support.chunks_of, batches, most_rows))
    monkeypatch.setattr(support, "up", support.up.py_func)
    for batch, most, chunks in zip(batches, most_rows, shared, strict=True):
        assert most == 12 or 9 <= chunks <= 32
        tasks = [support.chunk.py_func(index, batch, chunks)[1:] for index in range(chunks)]
        counts = [count for _, count in tasks]
        assert [first for first, _ in tasks] == [sum(counts[:i]) for i in range(chunks)]
        assert sum(counts) == batch
        assert counts == sorted(counts, reverse=True)
        assert max(counts) <= most <= 48
        assert max(counts) - min(counts[:-1] or counts) <= support.GROUP


@pytest.mark.slow
def test_nothing_of_size_t_is_kept_but_hidden_and_cell_states():
    """No [T, B, nH] array, forward or backward: read off the compiled program's buffers."""
    cell = CELLS["lstm"](units=16)
    T, B = 5000, 8
    x, carry = jnp.ones((T, B, 1)), cell.initialize_carry(None, (B, 1))
    params = cell.init(jax.random.key(1), carry, x[0])["params"]
    loss = lambda p: jnp.sum(cpu.recurrence(cell.step, p, x, carry)[0])  # noqa: E731
    for function, arrays in ((loss, 1.1), (jax.grad(loss), 3.3)):  # hidden; hidden, cells and the cotangent
        memory = jax.jit(function).lower(params).compile().memory_analysis()
        assert memory.temp_size_in_bytes < arrays * 4 * T * B * 16


class Sorting(RecurrentCell):
    gates = ("a",)

    def step(self, params, carry, x):
        h = jnp.sort(jnp.tanh(recur(params, carry) + project(params, x)), axis=-1)
        return h, h


def test_what_it_cannot_serve_is_an_error_that_says_why_and_auto_takes_the_scan(caplog):
    cell, why = Sorting(units=2), "there is no kernel for the primitive sort"
    with pytest.raises(ValueError, match=f"the backend cpu cannot serve Sorting: {why}; use scan or auto"):
        pick("cpu", cell, 1, 3, 1)
    with caplog.at_level("INFO", logger="absl"):
        assert pick("auto", cell, 1, 3, 1) == "scan"
    assert f"recurrence backend: scan (not fused: {why})" in caplog.text
    x, carry = jnp.ones((3, 1, 1)), jnp.zeros((1, 2))
    params = cell.init(jax.random.key(0), carry, x[0])["params"]
    with pytest.raises(ValueError, match=why):
        recurrence(cell, params, x, carry, "cpu")
    assert recurrence(cell, params, x, carry, "scan")[0].shape == (3, 1, 2)


def test_a_helper_is_compiled_once_and_only_to_text(cache, monkeypatch):
    """Once for each number that it was called with, and once more as machine code, was half of a kernel's compile."""
    made = []
    monkeypatch.setattr(JITCodeLibrary, "_finalize_specific", lambda library: made.append(library.name))

    def step(params, h, x):
        h = jnp.tanh(h @ params["U"] + 0.987 * x)  # a kernel that no other test has compiled
        return h, h * jax.nn.sigmoid(h @ params["V"])

    params, h, x = {"U": jnp.eye(3), "V": jnp.eye(3)}, jnp.zeros((2, 3)), jnp.ones((4, 2, 3))
    jax.grad(lambda params: BACKENDS["cpu"](step, params, x, h)[0].sum())(params)
    for helper in (packing.pack, packing.pack_transposed, support.add_shares):
        pointers = [signature[0] for signature in helper.signatures]  # by the width of vectors
        assert len(set(pointers)) == len(pointers)
    assert not made


@pytest.mark.parametrize("name", ["lstm", "gru", "slstm"])  # all of them: test_refused.py
def test_our_own_cells_are_served(name):
    cell = CELLS[name](units=8)
    assert pick("auto", cell, 3, 5, 2) == pick("cpu", cell, 3, 5, 2) == "cpu"
    assert pick("scan", cell, 3, 5, 2) == "scan"
    with pytest.raises(ValueError, match="it runs on an NVIDIA GPU, and JAX runs on cpu here; use scan or auto"):
        pick("gpu", cell, 3, 5, 2)


def test_a_backend_of_ones_own_is_taken_at_its_word(monkeypatch):
    monkeypatch.setitem(BACKENDS, "mine", None)
    assert pick("mine", CELLS["gru"](units=2), 3, 5, 2) == "mine"


def test_a_carry_of_another_batch_and_parameters_of_another_size_are_errors():
    lstm = CELLS["lstm"](units=2)
    x = jnp.ones((1, 3, 1))
    params = lstm.init(jax.random.key(0), lstm.initialize_carry(None, (3, 1)), x[0])["params"]
    with pytest.raises(ValueError, match=r"the input has a batch of 3, and the carry is \(2, 2\)"):
        recurrence(lstm, params, x, lstm.initialize_carry(None, (2, 1)), "cpu")
    with pytest.raises(ValueError, match=r"an input is 5 steps of 3 sequences, and another is \(4, 3, 1\)"):
        cpu.recurrence(lambda p, c, x: (c + x[0] * x[1], c), (), (jnp.ones((5, 3, 1)), jnp.ones((4, 3, 1))), x[0])
    with pytest.raises(TypeError, match="contracting dimension"):
        recurrence(lstm, params, jnp.ones((1, 3, 2)), lstm.initialize_carry(None, (3, 2)), "cpu")


def test_auto_takes_the_kernels_where_they_are_known_to_be_faster():
    picked = {
        steps: [pick("auto", CELLS["gru"](units=units), 1, steps, 1) for units in (4, 64, 128, 256, 257)]
        for steps in (1, 2, 4, 16, 1000)
    }
    assert picked == {
        1: ["scan"] * 5,
        2: ["scan", "cpu", "scan", "scan", "scan"],
        4: ["scan", "cpu", "cpu", "scan", "scan"],
        16: ["scan", "cpu", "cpu", "cpu", "scan"],
        1000: ["cpu", "cpu", "cpu", "cpu", "scan"],
    }
    assert [pick("auto", CELLS["gru"](units=4), 1, 16, batch) for batch in (2, 3)] == ["scan", "cpu"]
    assert pick("cpu", CELLS["gru"](units=257), 1, 1, 1) == "cpu"  # whoever asks for it gets it
