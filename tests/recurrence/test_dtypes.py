"""No array of another type or size than was told reaches compiled code: refused at the boundary, and by the handler."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import problem
from steps import MODELS

from rnn_compare.cells import CELLS
from rnn_compare.network.readout import squared_error
from rnn_compare.recurrence import cpu, recurrence
from rnn_compare.recurrence.cpu import compiled

OTHERS = [jnp.float16, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in (jnp.bfloat16, jnp.int32))]
T, B, F, H, O = 5, 3, 2, 4, 7


def readout_operands():
    return [jnp.ones(shape) for shape in ((T, B, H), (H, O), (O,), (T, B, O))]


@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.parametrize("which", range(4))
def test_the_readout_refuses_every_operand_of_another_type(which, dtype):
    operands = readout_operands()
    operands[which] = operands[which].astype(dtype)
    with pytest.raises(ValueError, match=f"computes in float32, and was given {jnp.dtype(dtype).name}"):
        jax.jit(lambda *operands: squared_error(*operands, "cpu"))(*operands)


@pytest.mark.parametrize("dtype", OTHERS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "qrnn"])
def test_the_recurrence_refuses_every_operand_of_another_type(cell, dtype):
    cell = CELLS[cell](units=H)
    x = jnp.ones((T, B, F))
    carry = cell.initialize_carry(None, x.shape[1:])
    operands = cell.init(jax.random.key(0), carry, x[0])["params"], x, carry
    leaves, tree = jax.tree.flatten(operands)
    for i, leaf in enumerate(leaves):
        wrong = tree.unflatten([*leaves[:i], leaf.astype(dtype), *leaves[i + 1 :]])
        with pytest.raises(ValueError, match=f"computes in float32, and was given {jnp.dtype(dtype).name}"):
            recurrence(cell, *wrong, "cpu")


@pytest.fixture
def calls(monkeypatch):
    """The calls of handlers, as XLA gets them: name, results, operands and the attribute."""
    seen, call = [], compiled.call

    def record(target, functions, plan, results, *operands):
        seen.append((f"rnn_compare_{target}", results, operands, plan.words(operands, results)))
        return call(target, functions, plan, results, *operands)

    monkeypatch.setattr(compiled, "call", record)
    jax.block_until_ready(squared_error(*readout_operands(), "cpu"))
    model = MODELS["gru"](F, H)
    params, x, carry, cotangents = problem(model, T, B, F, 0)
    _, pull = jax.vjp(lambda *operands: cpu.recurrence(model.step, *operands), params, x, carry)
    pull(cotangents)
    concrete = [(*call[:2], [jnp.zeros(operand.shape) for operand in call[2]], call[3]) for call in seen]
    assert len(concrete) == 3
    return concrete


def ffi_call(name, results, operands, words):
    return jax.block_until_ready(jax.ffi.ffi_call(name, results)(*operands, words=words))


@pytest.mark.parametrize("dtype", OTHERS)
def test_a_handler_refuses_another_type_that_got_past_the_boundary(dtype, calls):
    for name, results, operands, words in calls:
        for i, operand in enumerate(operands):
            wrong = [*operands[:i], operand.astype(dtype), *operands[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*float32"):
                ffi_call(name, results, wrong, words)
        for i, result in enumerate(results):
            wrong = [*results[:i], jax.ShapeDtypeStruct(result.shape, dtype), *results[i + 1 :]]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*float32"):
                ffi_call(name, wrong, operands, words)


def others(array):
    """Arrays of other sizes: one row more, one less, nothing."""
    rows, *rest = array.shape or (1,)
    return [(rows + 1, *rest), (rows - 1, *rest), (0, *rest)]


def test_a_handler_refuses_another_size_that_got_past_the_boundary(calls):
    for name, results, operands, words in calls:
        ffi_call(name, results, operands, words)
        for i, operand in enumerate(operands):
            for shape in others(operand):
                wrong = [*operands[:i], jnp.zeros(shape), *operands[i + 1 :]]
                with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*another size"):
                    ffi_call(name, results, wrong, words)
        for i, result in enumerate(results):
            for shape in others(result):
                if np.prod(shape):  # XLA calls nothing for an empty result
                    wrong = [*results[:i], jax.ShapeDtypeStruct(shape, jnp.float32), *results[i + 1 :]]
                    with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*another size"):
                        ffi_call(name, wrong, operands, words)


def test_a_handler_refuses_another_number_of_arrays(calls):
    for name, results, operands, words in calls:
        more = [*results, jax.ShapeDtypeStruct((1,), jnp.float32)]
        for wrong in ((results, operands[:-1]), (results, [*operands, jnp.zeros(1)]), (more, operands)):
            with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID_ARGUMENT"):
                ffi_call(name, *wrong, words)
