"""Compiling handlers, and keeping the machine code on disk between processes."""

import contextlib
import functools
import hashlib
import os
import pathlib
import pickle
import platform
import sys
import tempfile
import threading

import jax
import llvmlite.binding
import numba
from numba import types
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult

from rnn_compare.recurrence.cpu.tasks import handle, help_out
from rnn_compare.recurrence.cpu.xla_ffi import call5, word


@functools.cache
def cache_folder():
    """Where machine code is kept: one folder for each version of anything that matters."""
    features = llvmlite.binding.get_host_cpu_features().flatten()
    key = [llvmlite.binding.get_host_cpu_name(), features, sys.version, platform.platform()]
    key += [numba.__version__, llvmlite.__version__]
    for source in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        key.append(source.read_text())
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    return pathlib.Path(base) / "rnn_compare" / name


class _Cache:
    """Keeps a compiled function in a file; all failures mean that it is compiled again."""

    cache_path = None

    def __init__(self, name):
        self.name = name

    def load_overload(self, sig, context):
        """Numba's question for a compiled function: from the file, if it is there and whole."""
        try:
            data = (cache_folder() / self.name).read_bytes()
            digest, data = data[:32], data[32:]
            if hashlib.sha256(data).digest() != digest:
                return None
            context.refresh()
            return CompileResult._rebuild(context, *pickle.loads(data))
        except Exception:
            return None

    def save_overload(self, sig, compiled):
        """Numba's answer after compiling: into the file, which appears whole or not at all."""
        with contextlib.suppress(Exception):
            data = pickle.dumps(compiled._reduce())
            folder = cache_folder()
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(file.name, folder / self.name)


def _compile(name, function, count, returns=types.void):
    """The address of a C function of `count` words."""
    sig = returns(*[word] * count)
    compiled = CFunc(function, (sig.args, sig.return_type), {}, {"error_model": "numpy"})
    compiled._cache = _Cache(name)
    compiled.compile()
    _keep_alive.append(compiled)
    return compiled.address


_keep_alive: list = []
_registered: set[str] = set()
_lock = threading.Lock()


@functools.cache
def _shared():
    return _compile("handle", handle, 5, word), _compile("help_out", help_out, 1)


def _nothing(frame, workspace):
    """For handlers with nothing left to do after their tasks."""


def call(target, module, direction, results, *operands):
    """Calls one direction of a kernel from JAX; compiles it when it is first needed.

    Args:
        target: its name in XLA.
        module: has `forward_plan`, `forward_task` and perhaps `forward_finish`, and the same for `backward`.
        direction: "forward" or "backward".
        results: `jax.ShapeDtypeStruct`s.
        *operands: arrays; under `jax.vmap` each gets the leading axis, as each result does.
    """
    target = f"rnn_compare_{target}_{direction}"
    register(target, *(getattr(module, f"{direction}_{part}", None) for part in ("plan", "task", "finish")))
    return jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")(*operands)


def register(target, plan, task, finish):
    """Registers an FFI handler, made out of three Python functions that Numba compiles.

    Args:
        target: its name in XLA.
        plan: `plan(frame, out)` calls `set_plan(out, tasks, floats of workspace, floats of scratch)`.
        task: `task(frame, workspace, scratch, index)`; called in any order, on any thread.
        finish: `finish(frame, workspace)`, called once after all tasks; or None.
    """
    with _lock:
        if target in _registered:
            return
        run, helper = _shared()
        plan = _compile(f"{target}_plan", plan, 2)
        task = _compile(f"{target}_task", task, 4)
        finish = _compile(f"{target}_finish", finish or _nothing, 2)

        @numba.cfunc(word(word))
        def handler(frame):
            return call5(run, (frame, plan, task, finish, helper))

        _keep_alive.append(handler)
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(handler.ctypes), platform="cpu")
        _registered.add(target)
