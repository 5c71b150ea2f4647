"""What a study runs on: its command, processor, memory, limits and versions."""

import contextlib
import os
import platform
import shlex
import subprocess
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import llvmlite.binding as llvm
import threadpoolctl

import rnn_compare
from rnn_compare.config.checks import LARGEST

try:
    import resource
except ImportError:  # Windows, where nothing of this was ever run
    resource = None  # type: ignore[assignment]

VECTORS = "sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "neon", "sve"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "numba", "scipy")


def environment() -> dict[str, Any]:
    """Of this process and its machine, as JSON values."""
    return {
        "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "started": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": cpu(),
        "instruction_sets": [name for name in VECTORS if llvm.get_host_cpu_features().get(name)],
        "blas": blas(),
        "cores": cores(),
        "memory_gb": round(machine_memory() / 1e9, 1),
        "devices": [f"{device.platform} ({device.device_kind})" for device in jax.devices()],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": package() | {name: metadata.version(name) for name in PACKAGES},
    }


@cache
def package() -> dict[str, str]:
    """This package's version, and its commit where it runs from a checkout."""
    return {"rnn_compare": rnn_compare.__version__} | commit(Path(__file__).parents[2])


def commit(folder: Path) -> dict[str, str]:
    """The commit of a git checkout, "-dirty" behind it if files differ; empty where there is no checkout or no git."""
    if not (folder / ".git").exists():
        return {}
    command = ["git", "describe", "--always", "--dirty"]
    try:
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"commit": said.stdout.strip()}


def cpu() -> str:
    """The processor: its name, family and model, for one name may mean several generations, and what LLVM calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        lines = []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = said.get("model name") or platform.processor() or platform.machine()
    numbers = [f"{words} {said[key]}" for key, words in (("cpu family", "family"), ("model", "model")) if key in said]
    return ", ".join([name, *numbers, llvm.get_host_cpu_name()])


def cores() -> int:
    """How many cores XLA computes with here."""
    told = os.environ.get("NPROC", "")
    return int(told) if told.isdecimal() else os.cpu_count() or 1


def blas() -> list[str]:
    """The libraries of linear algebra that are loaded, with the kernels that they have picked for this processor."""
    found = [library for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"]
    return sorted({f"{i['internal_api']} {i['version']} ({i.get('architecture', 'any')})" for i in found})


def most_open_files() -> int:
    """How many runs can have their event files open at once, less some for all else; raises the limit if it may."""
    if resource is None:
        return LARGEST
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return max(1, soft - 200) if soft != resource.RLIM_INFINITY else LARGEST


def machine_memory() -> int:
    """Bytes of the machine's memory; where the system does not say, more than any has."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 2**50


def device_memory() -> int:
    """Bytes of the first device's memory, or of what this process may have of the machine's."""
    if stats := jax.devices()[0].memory_stats():  # None on a CPU
        return stats["bytes_limit"]
    machine = machine_memory()
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))  # of a container
    except (OSError, ValueError):
        return machine
