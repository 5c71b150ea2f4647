"""What NVIDIA's compiler makes of the kernels, for each generation of GPUs: it needs no GPU."""

import pytest
from contract import problem
from steps import ours

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import gpu, shapes
from rnn_compare.recurrence.fused import problem_of
from rnn_compare.recurrence.gpu import kernels_of, nvrtc
from rnn_compare.recurrence.gpu.layout import REGISTERS
from rnn_compare.recurrence.step.graph import UnsupportedError

ARCHITECTURES = "sm_80", "sm_90", "sm_100", "sm_120"
# What does not fit in registers with the gradients of its inputs, however it is split: by units, the cells, and on
# which GPUs. The scan takes them.
TOO_LARGE = {
    8: {},
    16: {},
    32: {"lstm_projected": ("sm_120",)},
    64: {
        "slstm": ("sm_100", "sm_120"),
        "lem": ("sm_90", "sm_100", "sm_120"),
        "rhn": ("sm_120",),
        "lstm": ("sm_120",),
        "gru_reset_before": ("sm_100", "sm_120"),
        "lstm_peephole": ("sm_90", "sm_100"),
        "lstm_niaf": ("sm_90", "sm_100"),
        "lstm_noaf": ("sm_90", "sm_100", "sm_120"),
        "intersection_rnn": ("sm_80", "sm_90", "sm_100"),
    }
    | dict.fromkeys(
        (
            *("lstm_fgr", "lstm_projected", "lstm_residual", "lstm_layer_norm", "lstm_multiplicative"),
            *("lstm_working_memory", "lstm_memory_control", "nas"),
        ),
        ARCHITECTURES,
    ),
}

try:
    nvrtc.library()
except OSError as error:
    pytestmark = pytest.mark.skip(reason=str(error))


def kernels(name, H):
    model = ours(name, 1, H)
    params, x, carry, _ = problem(model, 1, 2, 1, 0)
    traced = problem_of(model.step, params, x, carry)
    return kernels_of(traced.read(traced.take_arrays())[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("H", [16, *(pytest.param(H, marks=pytest.mark.slow) for H in (8, 32, 64))])
@pytest.mark.parametrize(
    "name", [name if name in ("lstm", "gru") else pytest.param(name, marks=pytest.mark.slow) for name in CELLS]
)
def test_some_way_to_split_them_spills_nothing(name, H, architecture):
    assert fits(name, H, architecture) == (architecture not in TOO_LARGE[H].get(name, ()))


def fits(name, H, architecture):
    try:
        made = kernels(name, H)
    except UnsupportedError as error:
        assert "are more than a GPU's registers hold" in str(error)  # noqa: PT017
        return False
    for ways in (made.forward, made.backward((False,)), made.backward((True,))):
        codes = (nvrtc.compiled(kernel.source, architecture) for kernel in ways)
        if (code := next((code for code in codes if not code.spilled), None)) is None:
            return False
        assert 0 < code.registers <= REGISTERS
        assert code.binary[:4] == b"\x7fELF"
    return True


@pytest.mark.slow
def test_a_cell_that_does_not_fit_is_refused_by_name_before_it_is_raced(monkeypatch):
    cell = CELLS["lstm_projected"](units=32)
    monkeypatch.setattr(gpu.driver, "library", lambda: None)
    for architecture, why in (("sm_80", None), ("sm_120", "more registers than sm_120 has, however they are split")):
        monkeypatch.setattr(gpu.driver, "architecture", lambda a=architecture: a)
        found = gpu.why_not(cell.step, *shapes(cell, 1, 4, 2))
        assert found is None if why is None else why in found


def test_a_wrong_source_is_an_error_with_the_compilers_words():
    with pytest.raises(nvrtc.CompilerError, match=r"kernel\.cu"):
        nvrtc.compiled("__global__ void kernel() { this is no C; }", "sm_90")
