"""The contract, held by CUDA kernels without a GPU: their source runs on this processor, see `emulator.h`."""

import pytest
from contract import hold
from emulated import needs_compiler
from steps import STEPS, ours

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import UnsupportedError

pytestmark = needs_compiler


def model(name, F, H):
    return STEPS[name](F, H) if name in STEPS else ours(name, F, H)


TOO_WIDE = ("lstm_projected",)  # with nine inputs and 17 units: rows of four times as many
QUICK = ("several_outputs",)
SIZES = (
    (3, 7, 3, 5, 3),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in ((20, 3, 1, 16, 0), (5, 5, 9, 17, 2))),
)


@pytest.mark.parametrize(("T", "B", "F", "H", "runs"), SIZES)
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in (*CELLS, *STEPS)]
)
def test_values_and_gradients(name, emulated, T, B, F, H, runs):
    if H == 17 and name in TOO_WIDE:
        with pytest.raises(UnsupportedError, match="more than a GPU's registers hold"):
            hold(model(name, F, H), emulated, T, B, F, runs)
    else:
        hold(model(name, F, H), emulated, T, B, F, runs)
