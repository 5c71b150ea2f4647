"""The whole training program, compiled for an H100 that is not there: it takes `jax[cuda12]`, and no GPU."""

import importlib.util

import jax
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh

from rnn_compare import config as base
from rnn_compare.recurrence import gpu
from rnn_compare.recurrence.gpu import handler, nvrtc
from rnn_compare.training import program

H100 = """
gpu_device_info {
  driver_version: "12.8.0"  # without it, XLA makes no graphs of loops
  cuda_compute_capability { major: 9 } core_count: 132 clock_rate_ghz: 1.98 fpus_per_core: 128
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84929347584
}
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 7 }
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax_cuda12_plugin") is None, reason="jax[cuda12] is not installed"),
]


@pytest.fixture
def h100(monkeypatch):
    """Programs are compiled for it."""
    monkeypatch.setenv("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")
    devices = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1").devices

    def ready(ways):
        kernel = next(kernel for kernel in ways if not nvrtc.compiled(kernel.source, "sm_90").spilled)
        handler.register(gpu.target_of(kernel), 0, 0)  # never called
        return kernel, gpu.target_of(kernel)

    monkeypatch.setattr(gpu, "ready", ready)
    monkeypatch.setattr(gpu, "why_not", lambda *_: None)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(program, "devices_for", lambda _: Mesh(np.array(devices), ("runs",)))


@pytest.mark.parametrize("runs", [1, 32])
@pytest.mark.parametrize("backend", ["gpu", "scan"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_post8_is_compiled(h100, cell, backend, runs):
    config = base.base()
    config.model.cell, config.train.backend = cell, backend
    compiled = program.program(base.validate(config), runs)
    text = compiled.as_text()
    for name in ("forward", "backward"):
        assert (f'custom_call_target="rnn_compare_{name}' in text) == (backend == "gpu")
    gigabytes = program.bytes_of(compiled) / 1e9
    print(f"{cell}, {backend}, {runs} runs: {gigabytes:.2f} GB")
    assert gigabytes < (0.4 if backend == "gpu" else 1.3) * runs
