"""What every cell and its witness are asked: one small problem each, and where the witnesses' answers are kept."""

import pathlib

import jax
import numpy as np

from rnn_compare.cells import CELLS

T, B, F, H = 4, 2, 3, 5
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
    """All steps one after the other: (params, carry, x) -> (outputs, last carry)."""

    def function(params, carry, x):
        outputs = []
        for t in range(len(x)):
            carry, y = step(params, carry, x[t])
            outputs.append(y)
        return stack(outputs), carry

    return function


ANSWERS = pathlib.Path(__file__).with_name("witnessed.npz")


def flat(answer):
    """((outputs, carry), gradients) as one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(answer)])
