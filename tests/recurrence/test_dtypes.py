"""No array of another type than float32 reaches compiled code: refused at the boundary, and by the handler itself."""

import jax
import jax.numpy as jnp
import pytest

from rnn_compare.cells import CELLS
from rnn_compare.network.readout import squared_error
from rnn_compare.recurrence import cpu, recurrence

OTHERS = [jnp.float16, jnp.bfloat16, jnp.int32]
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
@pytest.mark.parametrize("cell", CELLS)
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


def calls():
    """Each handler as XLA knows it, with the shapes of its results and operands."""
    squared_error(*readout_operands(), "cpu")  # registers it
    yield "readout_forward", [(O,)], [leaf.shape for leaf in readout_operands()]
    lstm = CELLS["lstm"](units=H)
    x, carry = jnp.ones((T, B, F)), lstm.initialize_carry(None, (B, F))
    cpu.recurrence(lstm, lstm.init(jax.random.key(0), carry, x[0])["params"], x, carry)
    width = 4 * H
    operands = [(F, width), (H, width), (width,), (width,), (T, B, F), (B, H), (B, H)]
    yield "lstm_forward", [(T, B, H), (B, H), (T, B, H)], operands


@pytest.mark.parametrize("dtype", OTHERS)
def test_a_handler_refuses_what_got_past_the_boundary(dtype):
    for name, results, operands in calls():
        arrays = [jnp.ones(shape) for shape in operands]
        for wrong in range(len(arrays) + 1):  # the last one: a result of another type
            given = [array.astype(dtype) if i == wrong else array for i, array in enumerate(arrays)]
            returned = [
                jax.ShapeDtypeStruct(shape, dtype if wrong == len(arrays) else jnp.float32) for shape in results
            ]
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"INVALID_ARGUMENT.*float32"):
                jax.block_until_ready(jax.ffi.ffi_call(f"rnn_compare_{name}", returned)(*given))
