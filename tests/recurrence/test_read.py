"""What a step becomes: what is refused, with which words, and what the graph and its arrays are."""

import functools
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import hold, problem
from steps import MODELS, Model, Shape

from rnn_compare.recurrence import cpu
from rnn_compare.recurrence.step.graph import UnsupportedError, ancestors
from rnn_compare.recurrence.step.read import read

B, F, H = 3, 2, 4
FLOATS = jax.ShapeDtypeStruct((H, H), jnp.float32)
ROWS = jax.ShapeDtypeStruct((B, H), jnp.float32)
X = jax.ShapeDtypeStruct((B, H), jnp.float32)


def output(function):
    """A step with one carry h, of which the function of (parameters, h, x) is the next and the output."""

    def step(p, h, x):
        h = function(p, h, x)
        return h, h

    return step


def refused(step, params=FLOATS, carry=ROWS, x=X):
    with pytest.raises(UnsupportedError) as error:
        read(step, jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), params), carry, x)
    sequence = jax.ShapeDtypeStruct((5, *x.shape), x.dtype)
    assert cpu.why_not(step, params, sequence, carry) == str(error.value)
    return str(error.value)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.float16, jnp.bfloat16, jnp.bool_])
def test_other_types_than_float32(dtype):
    step = output(lambda p, h, x: jnp.tanh(h @ p.astype(jnp.float32) + x))
    wrong = [jax.ShapeDtypeStruct((H, H), dtype), jax.ShapeDtypeStruct((B, H), dtype)]
    message = f"a kernel computes in float32, and was given {jnp.dtype(dtype).name}"
    assert refused(step, params=wrong[0]) == message
    assert refused(step, carry=wrong[1]) == message
    assert refused(step, x=wrong[1]) == message


def test_float64_parameters(x64):
    step = output(lambda p, h, x: jnp.tanh(h @ p + x))
    assert refused(step, params=jax.ShapeDtypeStruct((H, H), jnp.float64)).endswith("and was given float64")


@pytest.mark.parametrize(
    ("name", "function"),
    {
        "sort": lambda p, h, x: jnp.sort(h @ p),
        "cumprod": lambda p, h, x: jnp.cumprod(h @ p, axis=-1),
        "reduce_max": lambda p, h, x: h - h.max(axis=-1, keepdims=True),
        "cummax": lambda p, h, x: jax.lax.cummax(h, axis=1),
        "floor": lambda p, h, x: jnp.floor(h + x),
        "round": lambda p, h, x: jnp.round(h + x),
        "tan": lambda p, h, x: jnp.tan(h),
        "atan2": lambda p, h, x: jnp.arctan2(h, x),
        "while": lambda p, h, x: jax.lax.while_loop(lambda s: s.sum() < 1, lambda s: s + 1, h),
        "scan": lambda p, h, x: jax.lax.scan(lambda h, _: (jnp.tanh(h @ p), None), h, length=2)[0],
    }.items(),
)
def test_a_primitive_without_a_kernel(name, function):
    assert refused(output(function)) == f"there is no kernel for the primitive {name}"


def test_indices_that_depend_on_the_state():
    assert refused(output(lambda p, h, x: h * h.argmax(axis=-1, keepdims=True))) == "argmax computes in int32"
    assert "int32" in refused(output(lambda p, h, x: h + h.astype(jnp.int32).astype(jnp.float32)))
    assert "int32" in refused(output(lambda p, h, x: p[h[:, 0].astype(jnp.int32)]))


def test_softmax_over_the_units():
    assert "reduce_max" in refused(output(lambda p, h, x: jax.nn.softmax(h @ p, axis=-1)))


def test_what_depends_on_the_state_multiplied_by_what_depends_on_the_state():
    def attention(p, h, x):
        parts = h.reshape(h.shape[0], 2, 2)
        return jnp.einsum("bij,bkj->bik", parts, parts).reshape(h.shape)

    message = "dot_general multiplies what depends on the state by what depends on the state"
    assert refused(output(attention)) == message


@pytest.mark.parametrize(
    ("primitive", "function"),
    {
        "iota": lambda p, h, x: h + jnp.arange(h.shape[0])[:, None],
        "random_": lambda p, h, x: h * jax.random.bernoulli(jax.random.key(0), 0.5, h.shape),
    }.items(),
)
def test_other_numbers_for_each_sequence(primitive, function):
    message = refused(output(function))
    assert message.endswith("makes other numbers for each sequence of the batch"), message


@pytest.mark.parametrize(
    "function",
    {
        "mean": lambda p, h, x: h - h.mean(axis=0),
        "sum of all": lambda p, h, x: h / (1 + (h * h).sum()),
        "reversed": lambda p, h, x: h[::-1],
        "neighbours": lambda p, h, x: jnp.roll(h, 1, axis=0),
        "batch by batch": lambda p, h, x: (h @ h.T) @ x,
        "first": lambda p, h, x: h + h[:1],
        "transposed": lambda p, h, x: (h.T.reshape(-1)).reshape(h.shape),
        "cumsum": lambda p, h, x: jnp.cumsum(h, axis=0),
        "reshaped": lambda p, h, x: h.reshape(h.shape[1], -1).T,
        "shifted": lambda p, h, x: jax.lax.pad(h, 0.0, [(-1, 1, 0), (0, 0, 0)]),
        "counted": lambda p, h, x: h + jnp.cumsum(jnp.ones_like(h), axis=0),
        "number of sequences": lambda p, h, x: h + jnp.ones_like(h).sum(axis=0),
        "sum by ones": lambda p, h, x: jnp.ones((h.shape[0],) * 2) @ h,
    }.values(),
)
def test_sequences_that_depend_on_each_other(function):
    """Refused, in whatever words: never computed."""
    refused(output(function))


@pytest.mark.slow
def test_more_units_than_sequences():
    def outer(p, h, x):
        pairs = h[:, :, None] * jnp.tanh(x)[:, None, :]
        return jnp.tanh(pairs.sum(axis=1) @ p["V"] + pairs[:, ::-1].sum(axis=2))

    hold(Model(output(outer), {"V": Shape((H, H))}, H), "cpu", 4, 3, H)


def test_carries_and_outputs_of_other_forms():
    keep = output(lambda p, h, x: h)
    assert "[batch, units] but (3,)" in refused(keep, carry=jax.ShapeDtypeStruct((B,), jnp.float32))
    assert "[batch, units] but (3, 2, 2)" in refused(keep, carry=jax.ShapeDtypeStruct((B, 2, 2), jnp.float32))
    changes = "the step's carry changes its structure or its shapes"
    assert refused(lambda p, h, x: ((h, h), h)) == changes
    assert refused(lambda p, h, x: (h[:, :2], h)) == changes
    assert refused(lambda p, h, x: ({"h": h["h"]}, h["h"]), carry={"h": ROWS, "c": ROWS}) == changes
    one = "the step's outputs are not arrays [batch, units]"
    assert refused(lambda p, h, x: (h, None)) == one
    assert refused(lambda p, h, x: (h, (h, h.sum(axis=-1)))) == one
    assert refused(lambda p, h, x: (h, h.sum(axis=-1))) == one
    assert refused(lambda p, h, x: (h, h.reshape(-1, 2, 2))) == one
    assert refused(lambda p, h, x: (h, jnp.concatenate([h, x], axis=-1))).startswith("rows are joined, and neither")


@jax.custom_vjp
def handed_on(a, b):
    return a


handed_on.defvjp(lambda a, b: (a, None), lambda _, d: (0.3 * d, d))


@jax.custom_vjp
def constant(a):
    return jnp.zeros_like(a)


constant.defvjp(lambda a: (constant(a), a), lambda a, d: (d * jnp.cos(a),))


@jax.custom_vjp
def two(a, b):
    return a, b


two.defvjp(lambda a, b: ((a, b), None), lambda _, d: d)


@pytest.mark.parametrize(
    ("why", "function"),
    {
        "a function's own derivative is handed to a part of a sum": lambda p, h, x: handed_on((z := h @ p) + x @ p, z),
        "a function with a derivative of its own has a constant result": lambda p, h, x: h @ p + constant(x),
        "a function of several results has a custom_vjp": lambda p, h, x: sum(two(h @ p, x)),
        "select_n makes truth values": lambda p, h, x: jnp.where(jnp.where(x > 0, h > 1, h < 0), h @ p, x),
        "rev makes truth values": lambda p, h, x: jnp.where((x > 0)[:, ::-1], h @ p, x),
        "the step is too long a chain": lambda p, h, x: functools.reduce(lambda z, _: jnp.sin(z) + z, range(2000), h),
    }.items(),
)
def test_what_would_be_computed_wrongly(why, function):
    sequence = jax.ShapeDtypeStruct((5, B, H), jnp.float32)
    assert cpu.why_not(output(function), FLOATS, sequence, ROWS).startswith(why)


def test_truth_values_that_are_not_of_float32():
    assert refused(lambda p, h, x: (h, h > 0)) == "the step gives out bool"
    assert refused(output(lambda p, h, x: h), carry=jax.ShapeDtypeStruct((B, 0), jnp.float32)).endswith("has no units")


def test_parameters_that_are_numbers_of_python():
    step = output(lambda p, h, x: jnp.tanh(p["s"] * h + x))
    sequence = jax.ShapeDtypeStruct((5, B, H), jnp.float32)
    assert cpu.why_not(step, {"s": 0.5}, sequence, ROWS) is None
    assert cpu.why_not(step, {"s": 2}, sequence, ROWS) == "a kernel computes in float32, and was given int32"


def test_no_carry():
    assert refused(lambda p, h, x: ((), jnp.tanh(x @ p)), carry=()) == "there is no carry"


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


def test_no_kernel_is_compiled_to_find_out(monkeypatch):
    def compile_(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(cpu.compiled, "_compile", compile_)
    for model in (make(F, H) for make in list(MODELS.values())[::4]):
        params, x, carry, _ = problem(model, 5, B, F, 0)
        assert cpu.why_not(model.step, params, x, carry) is None


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


def test_a_derivative_of_what_is_not_computed():
    """A parameter would be in the backward pass alone; for a state, nothing is missing."""

    @jax.custom_vjp
    def straight(hard, soft):
        return hard

    straight.defvjp(lambda hard, soft: (hard, None), lambda _, d: (jnp.zeros_like(d), d))
    message = "a function's own derivative is handed to parameters that it does not read"
    assert refused(output(lambda p, h, x: straight(jnp.sign(x), jnp.tanh(h @ p)))) == message
    read(output(lambda p, h, x: straight(jnp.sign(x), h) + jnp.sin(h @ p)), jnp.ones((H, H)), ROWS, X)


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


@pytest.mark.parametrize(("name", "columns"), [("flax.LSTMCell", 4), ("flax.OptimizedLSTMCell", 4), ("lstm", 4)])
def test_kernels_of_single_gates_become_one_packed_product(name, columns):
    step, _, _ = graph_of(name)
    kernels = cpu.kernels_of(step)
    (product,) = kernels.layout.products
    assert len(product) == columns
    (segment,) = kernels.layout.weights  # the state, the biases and the input side by side
    assert [source.op for source in segment.sources] == ["state", "one", "input"]


def products(step):
    return [node for node in ancestors((*step.last, *step.outputs)) if node.op == "product"]


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
    learnt = {f"partial_w{i}" for i, segment in enumerate(kernels.layout.weights) if not segment.arrays <= ones}
    source = kernels.backward((True,)).source
    assert set(re.findall(r"(partial_w\d+) = ", source)) == learnt
    assert 0 < len(learnt) < len(kernels.layout.weights)


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
    source = cpu.kernels_of(graph_of(name)[0]).backward((True,)).source
    recurrent = re.findall(r"\bpack\(w0, .*", source)
    assert len(recurrent) == columns
    assert len(re.findall(r"= (?:tanh|logistic)\(", source)) == functions


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
    for sizes in ((2, 4), (3, 7), (40, 33)):
        step, _, _ = graph_of("slstm", *sizes)
        kernels = cpu.kernels_of(step)
        sources.add((kernels.forward.source, *(kernels.backward((want,)).source for want in (False, True))))
    assert len(sources) == 1


def test_what_knows_the_number_of_sequences():
    assert refused(output(lambda p, h, x: jnp.tanh(h @ p) / h.shape[0])) == (
        "it computes with the number of sequences in the batch"
    )
    for rows in (jnp.ones((B, H)), np.ones((B, H), np.float32)):
        why = refused(output(lambda p, h, x, rows=rows: jnp.tanh(h @ p) + rows))
        assert why.startswith("it cannot be traced with a batch of 113: ")
    made = {
        "its numbers": lambda p, h, x: h + np.linspace(0, 1, h.shape[0], dtype=np.float32)[:, None],
        "its shape": lambda p, h, x: jnp.maximum(h @ p, np.zeros(h.shape, np.float32)),
        "its value": lambda p, h, x: h @ p + np.full(H, h.shape[0], np.float32) * np.arange(H, dtype=np.float32),
    }
    for function in made.values():
        assert refused(output(function)) == "an array of constants goes by the number of sequences in the batch"


def test_rows_that_are_padded_with_anything_but_zero():
    for value in (1.0, jnp.float32(0.5)):
        why = refused(
            output(lambda p, h, x, v=value: jax.lax.pad(h[:, 1:], jnp.float32(v), ((0, 0, 0), (0, 1, 0))) @ p)
        )
        assert why == "pad fills in something other than 0"
    assert "pad" in refused(output(lambda p, h, x: jax.lax.pad(h[:, 1:], p[0, 0], ((0, 0, 0), (0, 1, 0))) @ p))


def test_own_derivatives_that_move_what_the_step_computed():
    @jax.custom_vjp
    def f(z):
        return jnp.sin(z)

    f.defvjp(lambda z: (jnp.sin(z), z), lambda z, d: (d * jnp.cos(z) + 0.1 * jnp.flip(z, -1),))
    message = "a function's own derivative multiplies or moves a value of the step"
    assert refused(output(lambda p, h, x: f(h @ p + x))) == message
    assert refused(lambda p, h, x: (h2 := jnp.tanh(h @ p + x), f(h2))) == message


def test_a_chain_of_pointwise_work_takes_no_longer_than_it_is():
    """FitzHugh and Nagumo's neuron, Euler's method: of each value there are ever more ways back to the first."""

    def neuron(p, carry, x):
        v, w = carry
        current = v @ p + x
        for _ in range(20):
            v, w = v + 0.1 * (v - v**3 / 3 - w + current), w + 0.008 * (v + 0.7 - 0.8 * w)
        return (v, w), v

    start = time.perf_counter()
    assert cpu.why_not(neuron, FLOATS, jax.ShapeDtypeStruct((5, B, H), jnp.float32), (ROWS, ROWS)) is None
    assert time.perf_counter() - start < 30


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
