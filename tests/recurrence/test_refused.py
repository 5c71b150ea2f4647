"""What no kernel is made of, with which words it is refused, and that this takes no time."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import problem
from steps import MODELS, output

from rnn_compare.recurrence import cpu
from rnn_compare.recurrence.step.graph import UnsupportedError
from rnn_compare.recurrence.step.read import read

B, F, H = 3, 2, 4
FLOATS = jax.ShapeDtypeStruct((H, H), jnp.float32)
ROWS = jax.ShapeDtypeStruct((B, H), jnp.float32)
X = jax.ShapeDtypeStruct((B, H), jnp.float32)


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


def test_no_kernel_is_compiled_to_find_out(monkeypatch):
    def compile_(*_):
        raise AssertionError("compiled")

    monkeypatch.setattr(cpu.compiled, "_compile", compile_)
    for model in (make(F, H) for make in list(MODELS.values())[::4]):
        params, x, carry, _ = problem(model, 5, B, F, 0)
        assert cpu.why_not(model.step, params, x, carry) is None


def test_a_derivative_of_what_is_not_computed():
    """A parameter would be in the backward pass alone; for a state, nothing is missing."""

    @jax.custom_vjp
    def straight(hard, soft):
        return hard

    straight.defvjp(lambda hard, soft: (hard, None), lambda _, d: (jnp.zeros_like(d), d))
    message = "a function's own derivative is handed to parameters that it does not read"
    assert refused(output(lambda p, h, x: straight(jnp.sign(x), jnp.tanh(h @ p)))) == message
    read(output(lambda p, h, x: straight(jnp.sign(x), h) + jnp.sin(h @ p)), jnp.ones((H, H)), ROWS, X)


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
