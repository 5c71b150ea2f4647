"""The witnesses themselves, where PyTorch is: they still say what is kept of them, and where a package is wrong."""

import numpy as np
import pytest

pytest.importorskip("torchrecurrent", reason="the witnesses need PyTorch: pip install -e '.[witnesses]'")

import torch
import torchrecurrent
from problems import ANSWERS, F, H, flat, problem
from torch.func import functional_call
from witnesses import WITNESSES, answer, usual


@pytest.mark.parametrize("name", list(WITNESSES))
def test_a_witness_says_what_is_kept_of_it(name, x64):
    np.testing.assert_allclose(flat(answer(name)), np.load(ANSWERS)[name], rtol=1e-12, atol=1e-14)


def of_torchrecurrent(cls, weights, name, **options):
    """The first hidden state that torchrecurrent's class makes, and ours, of the same weights."""
    cell, (params, (first, second), x), _ = problem(name)
    ours = cell.step(params, (first, second), x[0])[1]
    p = {key: torch.tensor(value) for key, value in params.items()}
    h, c = (first, second) if name in ("lem", "scrn") else (second, first)
    module = cls(F, H, **options).double()
    theirs = functional_call(module, weights(p), (torch.tensor(x[0]), (torch.tensor(h), torch.tensor(c))))[0]
    return theirs.detach().numpy(), np.asarray(ours)


def test_the_package_feeds_lem_the_old_state(x64):
    """The paper's eq. 3 has z_n in y_n, and so has its code; torchrecurrent 0.2.5 has z_(n−1)."""

    def weights(p):
        biases = {"bias_ih": p["bias"], "bias_hh": torch.zeros(3 * H), "bias_ch": torch.zeros(H)}
        matrices = ("kernel", "recurrent_kernel", "slow_kernel")
        return biases | {
            f"weight_{n}": p[matrix].T.double() for n, matrix in zip(("ih", "hh", "ch"), matrices, strict=True)
        }

    theirs, ours = of_torchrecurrent(torchrecurrent.LEMCell, weights, "lem")
    assert np.abs(theirs - ours).max() > 0.05


def test_the_package_adds_where_the_nas_cell_multiplies(x64):
    """TensorFlow's NASCell, the authors' own, has relu(inputs[3] * m[3]); torchrecurrent 0.2.5 has the sum."""
    theirs, ours = of_torchrecurrent(torchrecurrent.NASCell, usual, "nas")
    assert np.abs(theirs - ours).max() > 0.05
