"""A graph evaluated node by node, in NumPy and float64, is the step and its derivatives: no kernel has a part in it.

Traces and derivatives of many steps can be held against the scan this way in the time that one kernel takes to compile.
"""

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pytest
import scipy.special
from contract import NAMES, for_a_draw, in_double, problem
from random_steps import steps
from steps import MODELS, STEPS

from rnn_compare.recurrence.step.graph import ancestors
from rnn_compare.recurrence.step.read import read

ALLOWED = 1e-5  # of the largest entry: what is made of parameters alone is float32
OPERATIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "tanh": np.tanh,
    "logistic": scipy.special.expit,
    "sin": np.sin,
    "cos": np.cos,
    "erf": scipy.special.erf,
    "pow": np.power,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "select_n": lambda which, no, yes: np.where(which, yes, no),
    "stop_gradient": lambda x: x,
    "custom": lambda x: x,
}


def evaluated(step, arrays, states, x, dlast, doutputs):
    """The values of all nodes that results are made of, [B, units]."""
    given = dict(
        zip((*step.states, *step.inputs, *step.dlast, *step.doutputs), (*states, x, *dlast, *doutputs), strict=True)
    )
    roots = [*step.last, *step.outputs, *step.dstates, *step.dinputs, *step.gradients, *step.gradients.values()]
    values = {}
    for node in ancestors(roots):
        inputs = [values[input_] for input_ in node.inputs]
        if node in given:
            value = given[node]
        elif node.op == "constant":
            value = np.float64(node.value)
        elif node.op == "vector":
            value = arrays[node.value]
        elif node.op == "product":
            array, transposed = node.value
            value = inputs[0] @ (arrays[array].T if transposed else arrays[array])
        else:
            value = OPERATIONS[node.op](*inputs)
        values[node] = np.broadcast_to(value, (len(x), node.width))
    return values


def by_the_graph(model, params, x, carry, cotangents):
    """What `contract.pulled` gives for one step."""
    leaves, tree = jax.tree.flatten(carry)
    steps = []

    def arrays_of(params):
        step, arrays = read(model.step, params, carry, x[0])
        steps.append(step)
        return arrays

    arrays, pull = jax.vjp(arrays_of, params)
    (step,) = steps
    doutputs = [d[0] for d in jax.tree.leaves(cotangents[0])]
    given = arrays, leaves, x[0], jax.tree.leaves(cotangents[1]), doutputs
    values = evaluated(step, *jax.tree.map(lambda a: np.asarray(a, np.float64), given))
    gradients = {number: np.zeros(array.shape) for number, array in arrays.items()}
    for node, gradient in step.gradients.items():
        d = values[gradient] * np.ones((x.shape[1], node.width))
        if node.op == "vector":
            gradients[node.value] += d.sum(axis=0)
        else:
            gradients[node.value[0]] += values[node.inputs[0]].T @ d
    (dparams,) = pull({number: np.asarray(gradient, np.float32) for number, gradient in gradients.items()})

    def rows(nodes, like):
        return [np.broadcast_to(values[node], leaf.shape) for node, leaf in zip(nodes, like, strict=True)]

    last, dcarry = (tree.unflatten(rows(nodes, leaves)) for nodes in (step.last, step.dstates))
    outputs = jax.tree.unflatten(jax.tree.structure(cotangents[0]), [o[None] for o in rows(step.outputs, doutputs)])
    (dx,) = rows(step.dinputs, x)
    return dict(zip(NAMES, (outputs, last, dparams, dx[None], dcarry), strict=True))


def hold(model, B, F):
    def at(seed):
        arguments = problem(model, 1, B, F, 0, seed)
        jax.tree_util.tree_map_with_path(close, by_the_graph(model, *arguments), in_double(model, arguments, 0))

    for_a_draw(at)


def close(path, ours, exact):
    error, scale = np.abs(ours - exact).max(), np.abs(exact).max()
    assert ours.shape == exact.shape
    assert error <= ALLOWED * scale, f"{jax.tree_util.keystr(path)}: {error:.2e} of {scale:.2e}"


OF_NUMBERS = (
    "moved_and_joined",
    "a_number_is_all",
    "sums_with_a_number",
    "joined_with_parameters",
    "own_derivatives",
    "masks",
)


@pytest.mark.parametrize(("F", "H"), [(2, 5), pytest.param(1, 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name",
    [
        name if name in [*list(STEPS)[::2], *OF_NUMBERS, "slstm"] else pytest.param(name, marks=pytest.mark.slow)
        for name in MODELS
    ],
)
def test_graphs_of_assorted_steps(name, F, H):
    hold(MODELS[name](F, H), 4, F)


sizes = {"B": st.integers(1, 4), "F": st.integers(1, 6), "H": st.integers(1, 9), "K": st.integers(2, 4)}
everything = hypothesis.settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


@hypothesis.settings(everything, max_examples=4, phases=[hypothesis.Phase.generate])
@hypothesis.given(written=steps(8), **sizes)
def test_graphs_of_random_steps(written, B, F, H, K):
    hold(written.model(F, H, K), B, F)


@pytest.mark.slow
@hypothesis.settings(everything, max_examples=3000)
@hypothesis.given(written=steps(14), **sizes)
def test_graphs_of_thousands_of_random_steps(written, B, F, H, K):
    hold(written.model(F, H, K), B, F)
