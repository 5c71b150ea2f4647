"""The contract, held by CUDA kernels without a GPU: their source runs on this processor, see `emulator.h`."""

import functools

import pytest
from contract import BACKENDS, hold
from emulated import needs_compiler, registered
from steps import STEPS, ours

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import gpu

pytestmark = needs_compiler


@pytest.fixture(params=["smallest", "smallest, last thread first", "next", "largest, last thread first"])
def emulated(request, monkeypatch):
    """The backend "gpu" on this processor: a split of a unit's products, and an order of the threads."""
    split, _, backward = request.param.partition(", ")

    @functools.cache
    def ready(ways):
        kernel = {"smallest": ways[0], "next": ways[min(1, len(ways) - 1)], "largest": ways[-1]}[split]
        return kernel, registered(kernel, bool(backward))

    monkeypatch.setattr(gpu, "ready", ready)
    monkeypatch.setitem(BACKENDS, f"gpu, {request.param}", gpu.recurrence)
    return f"gpu, {request.param}"


def model(name, F, H):
    return STEPS[name](F, H) if name in STEPS else ours(name, F, H)


@pytest.mark.parametrize(
    ("T", "B", "F", "H", "runs"), [(1, 1, 2, 4, 0), (3, 7, 3, 5, 3), (20, 3, 1, 16, 0), (5, 5, 9, 17, 2)]
)
@pytest.mark.parametrize("name", [*CELLS, *STEPS])
def test_values_and_gradients(name, emulated, T, B, F, H, runs):
    hold(model(name, F, H), emulated, T, B, F, runs)
