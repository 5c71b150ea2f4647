"""NVIDIA's runtime compiler, which comes with `jax[cuda12]` and `jax[cuda13]`: CUDA C becomes machine code."""

import ctypes
import ctypes.util
import dataclasses
import functools
import pathlib
import re
import site
import sys
from typing import Any

# The second to be told how many registers it takes, which a cache does not tell.
FLAGS = "--std=c++17", "--ptxas-options=-v", "--no-cache"
_INVALID_OPTION = 5  # of a compiler that has no cache


@dataclasses.dataclass(frozen=True)
class Code:
    """What it made of a source.

    Attributes:
        binary: a cubin.
        registers: of each thread.
        spilled: bytes of each thread that did not fit in them.
    """

    binary: bytes
    registers: int
    spilled: int


class CompilerError(RuntimeError):
    """A source was not compiled; holds the compiler's log."""


@functools.cache
def library() -> ctypes.CDLL:
    """The compiler.

    Raises:
        OSError: there is none.
    """
    folders = map(pathlib.Path, dict.fromkeys([*site.getsitepackages(), site.getusersitepackages(), *sys.path]))
    shipped = [str(file) for folder in folders for file in sorted(folder.glob("nvidia/*/lib/libnvrtc.so.*"))]
    for name in (*shipped, ctypes.util.find_library("nvrtc")):
        if name and "builtins" not in name and ".alt." not in name:
            for part in pathlib.Path(name).parent.glob("libnvrtc-builtins.so.*"):  # which it does not find by itself
                ctypes.CDLL(str(part))
            return ctypes.CDLL(name)
    raise OSError("there is no NVRTC, which comes with jax[cuda12]")


@functools.cache
def compiled(source: str, architecture: str) -> Code:
    """A source's machine code.

    Args:
        source: CUDA C.
        architecture: as "sm_90".

    Raises:
        OSError: there is no compiler.
        CompilerError: the source is wrong, or the architecture unknown to it.
    """
    code, log, binary = _compile(source, [f"--gpu-architecture={architecture}", *FLAGS])
    if code == _INVALID_OPTION:
        code, log, binary = _compile(source, [f"--gpu-architecture={architecture}", *FLAGS[:-1]])
    if code:
        raise CompilerError(log.strip("\0\n"))
    spilled = sum(int(count) for count in re.findall(r"(\d+) bytes spill", log))
    return Code(binary, max(int(count) for count in re.findall(r"Used (\d+) registers", log)), spilled)


def _compile(source: str, flags: list[str]) -> tuple[int, str, bytes]:
    """The compiler's answer, its log and a cubin."""
    nvrtc, program = library(), ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    try:
        given = (ctypes.c_char_p * len(flags))(*(flag.encode() for flag in flags))
        code = nvrtc.nvrtcCompileProgram(program, len(flags), given)
        log = _read(program, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog).decode(errors="replace")
        return code, log, b"" if code else _read(program, nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(program: ctypes.c_void_p, size_of: Any, read: Any) -> bytes:
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    read(program, buffer)
    return buffer.raw
