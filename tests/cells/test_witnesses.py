"""Every cell against somebody else's: outputs, carry and every gradient, in double precision, at odd sizes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchrecurrent
from torch.func import functional_call
from witnesses import WITNESSES, usual

from rnn_compare.cells import CELLS

T, B, F, H = 6, 2, 3, 5
OPTIONS = {"slstm": {"units": 6, "heads": 2}, "rhn": {"depth": 3}}  # of ours, where the default would prove less


def problem(name):
    """Our cell, and random parameters, carry, inputs and cotangents, float64."""
    cell = CELLS[name](**{"units": H} | OPTIONS.get(name, {}))
    rng = np.random.default_rng(0)
    start = jax.eval_shape(lambda: {k: init(jax.random.key(0)) for k, init in cell.parameters(F).items()})
    params = {k: rng.normal(size=a.shape) * 0.7 for k, a in start.items()}
    carry = jax.tree.map(lambda a: rng.normal(size=a.shape), cell.initialize_carry(None, (B, F)))
    if name == "slstm":  # n is a sum of positive numbers
        carry = tuple(np.abs(a) for a in carry)
    x = rng.normal(size=(T, B, F))
    cotangents = rng.normal(size=(T, B, cell.units)), jax.tree.map(lambda a: rng.normal(size=a.shape), carry)
    return cell, (params, carry, x), cotangents


def unrolled(step, stack):
    def function(params, carry, x):
        outputs = []
        for t in range(len(x)):
            carry, y = step(params, carry, x[t])
            outputs.append(y)
        return stack(outputs), carry

    return function


def ours(cell, arguments, cotangents):
    out, pull = jax.vjp(unrolled(jax.jit(cell.step), jnp.stack), *arguments)
    return out, pull(cotangents)


def theirs(witness, arguments, cotangents):
    leaves, tree = jax.tree.flatten(arguments)
    leaves = [torch.tensor(leaf, requires_grad=True) for leaf in leaves]
    out = unrolled(witness, torch.stack)(*tree.unflatten(leaves))
    loss = sum((a * torch.tensor(b)).sum() for a, b in zip(*map(jax.tree.leaves, (out, cotangents)), strict=True))
    gradients = torch.autograd.grad(loss, leaves)
    return jax.tree.map(lambda a: a.detach().numpy(), (out, tree.unflatten(gradients)))


@pytest.mark.parametrize("name", list(CELLS))
def test_cell_equals_its_witness(name, x64):
    cell, *rest = problem(name)
    found, expected = ours(cell, *rest), theirs(WITNESSES[name], *rest)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), found, expected)


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
