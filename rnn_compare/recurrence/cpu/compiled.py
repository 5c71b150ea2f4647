"""Compiling handlers, and keeping the machine code on disk between processes."""

import contextlib
import functools
import hashlib
import os
import pathlib
import platform
import sys
import tempfile
import threading
from unittest import mock

import jax
import jax.numpy as jnp
import llvmlite
import llvmlite.binding as llvm
import numba
from numba import types
from numba.core.codegen import JITCodeLibrary, JITCPUCodegen
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from rnn_compare.recurrence.cpu import phases
from rnn_compare.recurrence.cpu.tasks import handle, help_out
from rnn_compare.recurrence.cpu.vector import CPU, FEATURES, WIDTH
from rnn_compare.recurrence.xla_ffi import bind, word


@functools.cache
def cache_folder():
    """Where machine code is kept: one folder for each version of anything that matters."""
    key = [CPU, FEATURES, str(WIDTH), sys.version, platform.platform()]
    key += [numba.__version__, llvmlite.__version__]
    here = pathlib.Path(__file__).parent
    for source in (here.parent / "xla_ffi.py", *sorted(here.glob("*.py"))):
        key.append(source.read_text())
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:32]
    return pathlib.Path(base) / "rnn_compare" / name


def _read(name):
    """The symbol and the object file kept under a name; None if there is none, or not a whole one."""
    try:
        data = (cache_folder() / name).read_bytes()
    except OSError:
        return None
    digest, data = data[:32], data[32:]
    if hashlib.sha256(data).digest() != digest:
        return None
    symbol, _, machine_code = data.partition(b"\0")
    return symbol.decode(), machine_code


def _write(name, symbol, machine_code):
    """Keeps them in a file, which appears whole or not at all; a folder that cannot be written to is left alone."""
    data = symbol.encode() + b"\0" + machine_code
    folder = cache_folder()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(hashlib.sha256(data).digest() + data)
        os.replace(file.name, folder / name)


def _target_machine():
    triple = llvm.get_process_triple()
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=CPU,
        features=FEATURES,
        opt=3,
        reloc="static" if triple.startswith("x86") else "default",
        jit=True,
    )


@contextlib.contextmanager
def _text_alone():
    """Numba stops at LLVM's text: the machine code that it makes of it, a sixth of the time, is called by nobody."""

    def no_address(library, name):
        library._ensure_finalized()
        return 0

    with (
        global_compiler_lock,
        mock.patch.object(JITCodeLibrary, "_finalize_specific"),
        mock.patch.object(JITCodeLibrary, "get_pointer_to_function", no_address),
        mock.patch.object(JITCPUCodegen, "_add_module", return_value=None),
        mock.patch.object(JITCPUCodegen, "set_env"),
    ):
        yield


def _compile(name, function, count, returns=types.void):
    """The address of a C function of `count` words.

    Each is loaded into an execution engine of its own. Numba tells functions of one name apart by a number that counts
    from 1 in every process: in one engine, the object files of two processes would be linked to each other's helpers.
    """
    kept = _read(name)
    if kept is None:
        with _text_alone():
            compiled = numba.cfunc(returns(*[word] * count), error_model="numpy")(function)
        kept = compiled.native_name, _target_machine().emit_object(llvm.parse_assembly(compiled.inspect_llvm()))
        _write(name, *kept)
    symbol, machine_code = kept
    cpu_target.target_context.refresh()  # tells LLVM where the functions are that all of Numba's code refers to
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
    engine.add_object_file(llvm.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    _keep_alive.append(engine)
    return engine.get_function_address(symbol)


_keep_alive: list = []
_registered: set[str] = set()
_lock = threading.Lock()


@functools.cache
def _shared():
    return _compile("handle", handle, 5, word), _compile("help_out", help_out, 1)


@functools.cache
def _address(target, function):
    """The address of a phase; those that all kernels share are compiled once."""
    shared = function.__module__ == phases.__name__
    return _compile(function.__name__ if shared else f"{target}_{function.__name__}", function, 5)


def call(target, functions, plan, results, *operands):
    """Calls a kernel from JAX; compiles it when it is first needed.

    Args:
        target: its name in XLA.
        functions: one for each phase, None where it has no tasks: `task(frame, numbers, workspace, scratch, index)`,
            called in any order, on any thread. `numbers` is the address of the plan's.
        plan: a `Plan`.
        results: `jax.ShapeDtypeStruct`s.
        *operands: arrays; under `jax.vmap` each gets the leading axis, as each result does.

    Raises:
        ValueError: an operand is not float32. (The handler looks once more: compiled code reads memory by this.)
    """
    if wrong := [operand.dtype for operand in operands if operand.dtype != jnp.float32]:
        raise ValueError(f"the backend cpu computes in float32, and was given {wrong[0]}")
    target = f"rnn_compare_{target}"
    _register(target, functions)
    function = jax.ffi.ffi_call(target, results, vmap_method="broadcast_all")
    return function(*operands, words=plan.words(operands, results))


def _register(target, functions):
    """Registers an FFI handler, made out of Python functions that Numba compiles."""
    with _lock:
        if target in _registered:
            return
        run, helper = _shared()
        addresses = [_address(target, function) if function else 0 for function in functions]
        jax.ffi.register_ffi_target(target, bind(run, *addresses, helper), platform="cpu")
        _registered.add(target)
