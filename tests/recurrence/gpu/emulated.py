"""CUDA kernels on a processor: their source compiled by g++, see `emulator.h`."""

import ctypes
import functools
import pathlib
import re
import shutil
import subprocess
import tempfile

import numpy as np
import pytest

from rnn_compare.recurrence import gpu
from rnn_compare.recurrence.gpu import handler

HERE = pathlib.Path(__file__).parent
COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no g++ to compile the emulated kernels with")


@functools.cache
def compiled(source, name, threads, double):
    """The kernel as a function of (blocks, runs, whether the last thread goes first, addresses of arguments)."""
    parameters = re.search(rf"{name}\((.*?)\)\n", source, re.DOTALL)[1].split(",\n")
    values = [
        f"*({parameter.replace('__restrict__', '').rsplit(' ', 1)[0]}*)given[{i}]"
        for i, parameter in enumerate(parameters)
    ]
    text = f"""{"#define DOUBLE" if double else ""}
#include "emulator.h"
{source}
static void** given;
static void call() {{ {name}({", ".join(values)}); }}
extern "C" void launch(long long blocks, long long runs, int backward, void** arguments) {{
    given = arguments;
    emulator::grid(blocks, runs, {threads}, backward, call);
}}
"""
    folder = tempfile.mkdtemp(prefix="emulated_")
    library = pathlib.Path(folder) / "kernel.so"
    command = [
        COMPILER,
        "-O1",
        "-std=c++17",
        "-shared",
        "-fPIC",
        "-w",
        "-I",
        str(HERE),
        "-x",
        "c++",
        "-",
        "-o",
        library,
    ]
    subprocess.run(command, input=text, text=True, check=True)
    launch = ctypes.CDLL(str(library)).launch
    launch.argtypes = [ctypes.c_longlong, ctypes.c_longlong, ctypes.c_int, ctypes.POINTER(ctypes.c_void_p)]
    launch.restype = None
    return launch


def launch(kernel, steps, batch, keep, operands, results, runs=1, double=True, backward=False):
    """Results of a kernel, arrays of these shapes, led by the runs as the operands are; full of nonsense before."""
    dtype = np.float64 if double else np.float32
    operands = [np.ascontiguousarray(operand, dtype) for operand in operands]
    found = [np.full((runs, *shape), 1e30, dtype) for shape in results]
    sizes = [ctypes.c_longlong(size) for size in (steps, batch, keep)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*operands, *found)]
    arguments = (ctypes.c_void_p * (3 + len(pointers)))(*(ctypes.addressof(a) for a in (*sizes, *pointers)))
    function = compiled(kernel.source, kernel.name, kernel.threads, double)
    function(-(-batch // kernel.sequences), runs, backward, arguments)
    return found


def registered(kernel, backward=False):
    """A kernel made known to XLA's CPU, with a launch that emulates the driver's: its name there."""
    target = f"{gpu.target_of(kernel)}_{'backward' if backward else 'onward'}"
    if target not in _launches:
        function = compiled(kernel.source, kernel.name, kernel.threads, False)

        @ctypes.CFUNCTYPE(*[ctypes.c_longlong] * 12)
        def launched(number, blocks, runs, _, threads, *rest):
            assert (number, threads, rest[:2]) == (7, kernel.threads, (1, 1))
            function(blocks, runs, backward, ctypes.cast(rest[4], ctypes.POINTER(ctypes.c_void_p)))
            return 0

        _launches[target] = launched
        handler.register(target, 7, ctypes.cast(launched, ctypes.c_void_p).value, platform="cpu")
    return target


_launches = {}
