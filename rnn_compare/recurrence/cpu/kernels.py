"""What the fused kernels share: activations, small matrix products, packed weights, how work is cut."""

import numba
import numpy as np

from rnn_compare.recurrence.cpu.vector import (
    GRADIENT_ROWS,
    TILE_ROWS,
    WIDTH,
    at_least,
    at_most,
    fma,
    load,
    load_some,
    multiply_sum_tile,
    multiply_tile,
    power_of_two_bits,
    prefetch,
    store,
    store_some,
)
from rnn_compare.recurrence.cpu.xla_ffi import arg, arg_dim, arg_runs, result, result_size

inline = numba.njit(forceinline=True, error_model="numpy")
njit = numba.njit(error_model="numpy")

GROUP, CHUNK = 4, 12  # sequences: a task has so many, or a multiple, up to CHUNK
BLOCK_BYTES = 32768  # gates of a block of steps in the backward pass


# --- Activations.

_LOG2_E = float(np.float32(np.log2(np.e)))
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their products with integers are exact
_MAGIC = 1.5 * 2**23 + 127  # adding it rounds to integer n; the low bits are then n + 127


@inline
def _exp_parts(x):
    """exp(x) = scale * (1 + p), as (scale, p), for -88 <= x <= 89."""
    shifted = fma(x, _LOG2_E, _MAGIC)
    n = shifted - _MAGIC
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    q = fma(r, 0.0013882509665563703, 0.008366580121219158)
    q = fma(q, r, 0.04166720062494278)
    q = fma(q, r, 0.1666654348373413)
    q = fma(q, r, 0.4999999701976776)
    return power_of_two_bits(shifted), fma(r * r, q, r)


@inline
def sigmoid(x):
    scale, p = _exp_parts(at_most(at_least(-x, -88.0), 89.0))  # at the ends scale is 0 and inf
    return 1.0 / (1.0 + scale * (1.0 + p))


@inline
def tanh(x):
    x = at_most(at_least(x, -9.02), 9.02)  # rounds to 1 beyond
    scale, p = _exp_parts(x + x)
    minus_1 = fma(scale, p, scale - 1.0)  # exp(2x) - 1, exact to the last bits near 0 too
    return minus_1 / (minus_1 + 2.0)


# --- Small things.


@inline
def up(n, multiple):
    return (n + multiple - 1) // multiple * multiple


@inline
def fill_zeros(p, count):
    for i in range(0, count, WIDTH):
        store(p + i, 0.0)


@inline
def copy(source, target, count):
    """Copies floats."""
    whole = count // WIDTH * WIDTH
    for i in range(0, whole, WIDTH):
        store(target + i, load(source + i))
    for i in range(whole, count):  # not a masked store: reading it back soon would stall
        target[i] = source[i]


@inline
def prefetch_rows(p, count):
    """Asks for the rows of a step of the block before: the processor doesn't foresee them."""
    for i in range(0, count, 16):
        prefetch(p + i)


def product(columns, add, tile_rows=TILE_ROWS):
    """Makes a matrix product over `rows` rows and all blocks of `columns` vectors.

    c[row, block] = (c[row, block] if add else 0) + a[row, :count] @ w[block, :count]
    """

    @njit
    def multiply(a, a_row, a_k, rows, w, w_block, w_k, blocks, count, c, c_row, c_block):
        for row in range(0, rows, tile_rows):
            for block in range(blocks):
                multiply_tile(
                    tile_rows,
                    columns,
                    a + row * a_row,
                    a_row,
                    a_k,
                    w + block * w_block,
                    w_k,
                    count,
                    c + (row * c_row + block * c_block),
                    c_row,
                    add,
                )

    return multiply


multiply4, multiply3 = product(4, False), product(3, False)
add_product3, add_product2, add_product1 = (product(n, True) for n in (3, 2, 1))
add_gradient4, add_gradient3 = product(4, True, GRADIENT_ROWS), product(3, True, GRADIENT_ROWS)
add_gradient2, add_gradient1 = product(2, True, GRADIENT_ROWS), product(1, True, GRADIENT_ROWS)


def transposed_product(columns):
    """Makes the sum out[row] += gates[row, :, :columns] @ (packed transposed weights)."""

    @njit
    def multiply(gates, gates_row, rows, weights, h, gates_block, out, out_units):
        units = up(h, WIDTH)
        for row in range(0, rows, TILE_ROWS):
            for out_block in range(out_units // WIDTH):
                for block in range(units // WIDTH):
                    multiply_sum_tile(
                        columns,
                        gates + (row * gates_row + block * gates_block),
                        gates_row,
                        weights + (out_block * units + block * WIDTH) * columns * WIDTH,
                        min(WIDTH, h - block * WIDTH),
                        out + (row * out_units + out_block * WIDTH),
                        out_units,
                    )

    return multiply


add_transposed4, add_transposed3 = transposed_product(4), transposed_product(3)
add_transposed2, add_transposed1 = transposed_product(2), transposed_product(1)


def input_gradient(add_transposed):
    """Makes dx[row, :f] = gates[row, :, :columns] @ (packed transposed kernel), for the rows of one step."""

    @njit
    def write(gates, gates_row, rows, kernel_back, h, gates_block, scratch, dx, f):
        units = up(f, WIDTH)
        fill_zeros(scratch, up(rows, TILE_ROWS) * units)
        add_transposed(gates, gates_row, rows, kernel_back, h, gates_block, scratch, units)
        for row in range(rows):
            copy(scratch + row * units, dx + row * f, f)

    return write


write_input_gradient4, write_input_gradient3 = input_gradient(add_transposed4), input_gradient(add_transposed3)


@njit
def pack(source, rows, gates, gate, h, target, row, k, columns, column):
    """Copies one gate of a kernel of `rows` rows to packed weights of k rows, from `row` on."""
    for block in range(up(h, WIDTH) // WIDTH):
        at, left = gate * h + block * WIDTH, h - block * WIDTH
        for i in range(rows):
            p = target + ((block * k + row + i) * columns + column) * WIDTH
            store(p, load_some(source + (i * gates * h + at), left))


@njit
def pack_add(source, gates, gate, h, target, row, k, columns, column):
    """Adds one gate of a bias to row `row` of packed weights."""
    for block in range(up(h, WIDTH) // WIDTH):
        p = target + ((block * k + row) * columns + column) * WIDTH
        store(p, load(p) + load_some(source + (gate * h + block * WIDTH), h - block * WIDTH))


@njit
def pack_transposed(source, rows, gates, gate, h, target, columns, column):
    """Packs one gate of a kernel for products with gate gradients, see multiply_sum_tile."""
    units = up(h, WIDTH)
    for row in range(up(rows, WIDTH)):
        for unit in range(units):
            value = np.float32(0)
            if row < rows and unit < h:
                value = source[(row * gates + gate) * h + unit]
            at = (row // WIDTH * units + unit) * columns + column
            target[at * WIDTH + row % WIDTH] = value


@njit
def unpack(source, row, k, columns, column, rows, target, gates, gate, h):
    """Adds rows of one packed column to one gate of a kernel or bias: the reverse of `pack`."""
    for block in range(up(h, WIDTH) // WIDTH):
        for i in range(rows):
            left = h - block * WIDTH
            p = target + ((i * gates + gate) * h + block * WIDTH)
            value = load(source + ((block * k + row + i) * columns + column) * WIDTH)
            store_some(p, load_some(p, left) + value, left)


@njit
def fill_inputs(h_before, x, rows, f, h, inputs, stride):
    """Rows [h, 1, x]."""
    for row in range(rows):
        copy(h_before + row * h, inputs + row * stride, h)
        inputs[row * stride + h] = 1
        copy(x + row * f, inputs + (row * stride + h + 1), f)


@njit
def fill_block(frame, run, first, rows, block_start, count, inputs, stride):
    """The rows [h before, 1, x] of `count` steps from block_start on, each step's padded to whole tiles."""
    steps, batch, f, h = sizes(frame)
    xs, hs = arg(frame, 4), arg(frame, 6)
    for s in range(count):
        step = (run * steps + block_start + s) * batch + first
        before = hs + (step - batch) * h if block_start + s > 0 else arg(frame, 5) + (run * batch + first) * h
        fill_inputs(before, xs + step * f, rows, f, h, inputs + s * up(rows, TILE_ROWS) * stride, stride)


@inline
def input_stride(f, h):
    """Floats from one row of the inputs to the next; tiles may read a few past a row's end."""
    return up(h + 1 + f + GRADIENT_ROWS, 16)


@inline
def sizes(frame):
    """(steps, batch, f, h)."""
    return arg_dim(frame, 4, 3), arg_dim(frame, 4, 2), arg_dim(frame, 4, 1), arg_dim(frame, 1, 2)


@inline
def chunks_of(batch):
    """How many tasks share a batch: a power of two, for the sake of the processor's cores."""
    chunks = 1
    while up(batch, GROUP) >= chunks * CHUNK:
        chunks *= 2
    return chunks


@inline
def chunk(index, batch):
    """run, first row and number of rows of a task."""
    chunks, groups = chunks_of(batch), up(batch, GROUP) // GROUP
    i = index % chunks
    first = i * groups // chunks * GROUP
    return index // chunks, first, min((i + 1) * groups // chunks * GROUP, batch) - first


@inline
def tasks_of(frame):
    return arg_runs(frame, 4, 3) * chunks_of(arg_dim(frame, 4, 2))


@inline
def steps_of_block(rows, units):
    """How many steps the backward pass takes at once."""
    return max(1, BLOCK_BYTES // (4 * 4 * units * rows))


@njit
def zero_parameter_gradients(frame):
    for i in range(4):
        for j in range(result_size(frame, i)):
            result(frame, i)[j] = 0
