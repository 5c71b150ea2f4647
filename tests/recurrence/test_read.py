"""What a step becomes: its graph and its arrays."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import hold, problem
from steps import MODELS, Model, Shape, output

from rnn_compare.recurrence import cpu
from rnn_compare.recurrence.cpu import vector
from rnn_compare.recurrence.step.graph import ancestors
from rnn_compare.recurrence.step.read import read

B, F, H = 3, 2, 4
FLOATS = jax.ShapeDtypeStruct((H, H), jnp.float32)
ROWS = jax.ShapeDtypeStruct((B, H), jnp.float32)
X = jax.ShapeDtypeStruct((B, H), jnp.float32)


@pytest.mark.slow
def test_more_units_than_sequences():
    def outer(p, h, x):
        pairs = h[:, :, None] * jnp.tanh(x)[:, None, :]
        return jnp.tanh(pairs.sum(axis=1) @ p["V"] + pairs[:, ::-1].sum(axis=2))

    hold(Model(output(outer), {"V": Shape((H, H))}, H), "cpu", 4, 3, H)


def test_a_product_that_is_given_out_and_taken_apart():
    def step(p, h, x):
        z = h @ p["W"]
        a, b = jnp.split(z, 2, axis=-1)
        return jnp.tanh(a) * b + x, jnp.sin(z)

    wide, _ = read(step, {"W": jnp.ones((H, 2 * H))}, ROWS, X)
    assert [node.width for node in wide.outputs] == [2 * H]


def test_many_functions_of_a_row_are_taken_apart_once():
    def deep(p, h, x):
        z = h @ p
        for _ in range(40):
            z = 0.3 * z + 0.3 * jnp.sin(z) * z
        return jnp.tanh(jnp.pad(z[:, :2], ((0, 0), (0, H - 2))) + x)

    assert len(read(output(deep), jnp.ones((H, H)), ROWS, X)[0].text.splitlines()) < 1000


def wrong_jvp():
    @jax.custom_jvp
    def function(x):
        return jnp.tanh(x)

    function.defjvp(lambda primals, tangents: (jnp.tanh(primals[0]), 5.0 * jnp.cos(primals[0]) * tangents[0]))
    return function


def wrong_vjp():
    @jax.custom_vjp
    def function(x):
        return jnp.tanh(x)

    function.defvjp(lambda x: (jnp.tanh(x), x), lambda x, d: (5.0 * jnp.cos(x) * d,))
    return function


def test_a_gradient_that_is_reversed_and_no_more():
    """An identity with a derivative of its own, right at the state: nothing of it is left in the forward graph."""

    @jax.custom_vjp
    def reverse(x):
        return x

    reverse.defvjp(lambda x: (x, None), lambda _, d: (-d,))
    step = output(lambda p, h, x: jnp.tanh(reverse(h) @ p["V"] + x) + 0.5 * reverse(h))
    hold(Model(step, {"V": Shape((H, H))}, H), "cpu", 4, 3, H)


def test_what_is_computed_again_is_rounded_as_it_was():
    """A difference of a product and itself is 0, and not the product's rounding, in both passes."""

    def difference(p, h, x):
        v = jnp.tanh(h) * p["v"]
        return (v - v) @ p["V"] + x

    hold(Model(output(difference), {"V": Shape((H, H)), "v": Shape((H,))}, H), "cpu", 3, 3, H)


@pytest.mark.slow
@pytest.mark.parametrize("make", [wrong_jvp, wrong_vjp])
def test_a_functions_own_derivative_is_used(make):
    """It is not the true one here, so that it shows."""

    def step_with(function):
        return output(lambda p, h, x: 0.5 * function(h @ p["V"]) + x)

    shapes = {"V": Shape((H, H))}
    own, true = Model(step_with(make()), shapes, H), Model(step_with(jnp.tanh), shapes, H)
    hold(own, "cpu", 4, 3, H)
    params, x, carry, _ = problem(own, 4, 3, H, 0)
    gradient = {
        m: jax.grad(lambda p, m=m: cpu.recurrence(m.step, p, x, carry)[0].sum())(params)["V"] for m in (own, true)
    }
    assert np.abs(gradient[own] - gradient[true]).max() > 0.1


def graph_of(name, F=F, H=H):
    model = MODELS[name](F, H)
    params, x, carry, _ = problem(model, 1, B, F, 0)
    return (*read(model.step, params, carry, x[0]), (model, params, x, carry))


def test_vectors_have_no_more_lanes_than_units_fill():
    assert [vector.width_for(n) for n in (1, 4, 5, 8, 9, 99)] == [min(w, vector.WIDTH) for w in (4, 4, 8, 8, 16, 16)]
    kernels = cpu.kernels_of(graph_of("gru", 70, 3)[0])
    forward, alone, with_dx = kernels.forward, kernels.backward((False,)), kernels.backward((True,))
    assert [kernel.width for kernel in (forward, alone, with_dx)] == [4, 4, vector.WIDTH]  # of x, 70 units


@pytest.mark.parametrize(("name", "columns"), [("flax.LSTMCell", 4), ("flax.OptimizedLSTMCell", 4), ("lstm", 4)])
def test_kernels_of_single_gates_become_one_packed_product(name, columns):
    step, _, _ = graph_of(name)
    kernels = cpu.kernels_of(step)
    (product,) = kernels.layout.products
    assert len(product) == columns
    (segment,) = kernels.layout.segments  # the state, the biases and the input side by side
    assert [source.op for source in segment.sources] == ["state", "one", "input"]


def products(step):
    return [node for node in ancestors((*step.last, *step.outputs)) if node.op == "product"]


@pytest.mark.parametrize(
    ("terms", "shape"),
    [
        ("bi,ij->bj", (6, 4)),
        ("bi,ji->bj", (4, 6)),
        ("ij,bi->bj", (6, 4)),
        ("ij,bi->jb", (6, 4)),
        ("bij,jk->bik", (3, 4)),
        ("bij,ik->bjk", (2, 4)),
        ("kj,bij->bki", (4, 3)),
        ("bij,ijk->bk", (2, 3, 4)),
        ("bij,ijk->bik", (2, 3, 4)),
        ("ijk,bij->bkj", (2, 3, 4)),
        ("bij,gijk->bgik", (2, 2, 3, 4)),
        ("bij,i->bj", (2,)),
        ("bij,kl->bikjl", (2, 2)),
    ],
)
def test_any_product_with_parameters_is_one_matrix(terms, shape):
    """The one that makes of the identity's rows what the product does."""
    row, result = terms.split("->")[0].split(",").index("bij" if "bij" in terms else "bi"), terms.split("->")[1]
    W = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)

    def product(W, h):
        rows = h.reshape(-1, 2, 3) if "bij" in terms else h
        made = jnp.einsum(terms, *((rows, W) if row == 0 else (W, rows)), precision="highest")
        return jnp.moveaxis(made, result.index("b"), 0).reshape(h.shape[0], -1)

    carry, x = jax.ShapeDtypeStruct((B, 6), jnp.float32), jax.ShapeDtypeStruct((B, 2), jnp.float32)
    step, arrays = read(lambda p, h, x: (jnp.tanh(h), product(p["W"], h)), {"W": W}, carry, x)
    (node,) = step.outputs
    assert (node.op, node.inputs) == ("product", (step.states[0],))
    np.testing.assert_array_equal(arrays[node.value[0]], product(W, jnp.eye(6)))


def test_a_product_that_only_moves_units_is_part_of_the_one_beside_it():
    """The sLSTM's heads: a product for each gate, of what was one for all and a permutation."""
    step, _, _ = graph_of("slstm")
    assert {(node.inputs[0].op, node.width) for node in products(step)} == {("state", H), ("input", H)}
    assert len(products(step)) == 8
    assert not step.constants


def test_gates_that_are_normalised_together_are_computed_once():
    step, _, _ = graph_of("lstm_layer_norm")
    wide = [node for node in products(step) if node.width > 1]
    assert len(wide) == 8
    assert {node.width for node in wide} == {H}


def test_constants_get_no_gradient():
    step, arrays, _ = graph_of("lstm_layer_norm")
    kernels = cpu.kernels_of(step)
    ones = {number for number, array in arrays.items() if isinstance(array, np.ndarray)}
    assert step.constants == ones
    assert all((arrays[number] == 1).all() for number in ones)
    arrays = [{array for *_, arrays in segment.pairs() for array in arrays} for segment in kernels.layout.segments]
    learnt = {f"partial_w{i}" for i, named in enumerate(arrays) if not named <= ones}
    source = kernels.backward((True,)).source
    assert set(re.findall(r"(partial_w\d+) = ", source)) == learnt
    assert 0 < len(learnt) < len(arrays)


@pytest.mark.parametrize("name", ["parts", "whole_and_parts", "lstm"])
def test_parts_of_an_array_are_read_where_they_lie(name):
    """If they are all of it together, and nobody reads the whole."""
    step, arrays, (_, params, _, _) = graph_of(name)
    found = [arrays[number] for number in cpu.kernels_of(step).layout.arrays]
    wanted = list(params.values())
    if name == "whole_and_parts":
        W, U = params["W2"], params["U2"]
        wanted = [W, W[:, :H], W[:, H:], W.T, U[:, :H], params["X"]]
    assert len(found) == len(wanted)
    assert all(any(np.array_equal(array, part) for array in found) for part in wanted)


@pytest.mark.parametrize(
    ("name", "columns", "functions"),
    [
        ("rnn", 0, 0),  # tanh' = 1 - tanh^2, of a state
        ("irnn", 0, 0),
        ("scrn", 0, 0),  # the states are what is multiplied, too
        ("lstm_fgr", 1, 2),  # its gates are states: the candidate is left, and the cell state's tanh
        ("lstm", 4, 5),
        ("kept_states", 1, 1),
    ],
)
def test_what_a_kept_state_or_output_spares_is_not_computed_again(name, columns, functions):
    kernels = cpu.kernels_of(graph_of(name)[0])
    backward = kernels.backward((True,))
    recurrent = [line for line in backward.packing if line[4].startswith("at_packed_w0_") and line[5:7] == ("0", "0")]
    assert len(recurrent) == columns
    assert len(re.findall(r"= (?:tanh|logistic)\(", backward.source)) == functions


@pytest.mark.parametrize("name", ["antisymmetric", "scalars"])
def test_what_depends_on_parameters_alone_is_computed_outside_of_the_loop(name):
    step, arrays, (_, params, _, _) = graph_of(name)
    if name == "antisymmetric":
        U = params["recurrent_kernel"]
        made = U - U.T - 0.01 * jnp.eye(H)
        assert any(np.array_equal(array, made) for array in arrays.values())
    else:
        for made in (jax.nn.sigmoid(params["s"]), jax.nn.softplus(params["s"])):
            assert any(array.size == 1 and np.allclose(array, made, rtol=1e-6) for array in arrays.values())
    operations = {node.op for node in ancestors((*step.last, *step.outputs))}
    assert operations <= {"state", "input", "product", "vector", "add", "mul", "tanh", "logistic", "constant"}


def test_the_same_step_is_the_same_graph_whatever_the_numbers():
    model = MODELS["slstm"](F, H)
    graphs = []
    for seed in range(2):
        params, x, carry, _ = problem(model, 1, B, F, 0, seed)
        graphs.append(read(model.step, params, carry, x[0])[0])
    assert graphs[0] == graphs[1]
    assert graphs[0] is not graphs[1]
    assert cpu.kernels_of(graphs[0]) is cpu.kernels_of(graphs[1])


@pytest.mark.parametrize("name", ["lem", "slstm", "lstm_layer_norm", "mean_of_units"])
def test_a_source_does_not_depend_on_where_nodes_lie_in_memory(name):
    sources = set()
    for _ in range(8):
        made = cpu.Kernels(graph_of(name)[0])
        sources.add((made.forward.source, made.backward((True,)).source))
    assert len(sources) == 1


def test_sizes_that_are_not_equal_change_no_kernel():
    sources = set()
    for sizes in ((2, 20), (3, 27), (40, 33)):  # which all fill the widest vectors
        step, _, _ = graph_of("slstm", *sizes)
        kernels = cpu.kernels_of(step)
        sources.add((kernels.forward.source, *(kernels.backward((want,)).source for want in (False, True))))
    assert len(sources) == 1


def test_a_number_in_a_sum_that_is_handed_another_gradient_than_the_rest():
    @jax.custom_vjp
    def handed(a, number):
        return a * 1.0

    handed.defvjp(lambda a, number: (a * 1.0, None), lambda _, d: (0.3 * d, d.sum(axis=-1, keepdims=True)))

    def step(p, carry, x):
        (h,) = carry
        number = jnp.concatenate([jnp.broadcast_to(p["s"], (h.shape[0], 1)), h], axis=-1)[:, :1]
        h = jnp.tanh(handed(h @ p["V"] + x @ p["X"] + number, number))
        return (h,), h

    params = {"V": Shape((11, 11)), "X": Shape((F, 11)), "s": Shape(())}
    hold(Model(step, params, (11,)), "cpu", 9, 5, F, 2)
