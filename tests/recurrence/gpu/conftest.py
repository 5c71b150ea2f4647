import functools

import pytest
from contract import BACKENDS
from emulated import registered

from rnn_compare.recurrence import gpu

WAYS = {"first": 0, "second": 1, "last": -1}


OTHERS = "second", "first, last thread first"


@pytest.fixture(params=["first", "last, last thread first", *(pytest.param(o, marks=pytest.mark.slow) for o in OTHERS)])
def emulated(request, monkeypatch):
    """The backend "gpu" on this processor: which split of a unit's products, and in which order threads go on."""
    way, _, backward = request.param.partition(", ")

    @functools.cache
    def ready(ways):
        kernel = ways[min(WAYS[way], len(ways) - 1)]
        return kernel, registered(kernel, bool(backward))

    monkeypatch.setattr(gpu, "ready", ready)
    monkeypatch.setattr(gpu, "why_not", functools.partial(gpu.fused.why_not, gpu.kernels_of))
    monkeypatch.setitem(BACKENDS, f"gpu, {request.param}", gpu.recurrence)  # a name each: programs are kept by it
    return f"gpu, {request.param}"
