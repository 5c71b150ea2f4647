"""The fused kernels of the GRU that resets after the product."""

from rnn_compare.recurrence.cpu.kernels import (
    CHUNK,
    add_gradient3,
    add_product3,
    add_transposed3,
    chunk,
    chunks_of,
    copy,
    fill_block,
    fill_inputs,
    fill_zeros,
    input_stride,
    multiply3,
    njit,
    pack,
    pack_add,
    pack_transposed,
    prefetch_rows,
    sigmoid,
    sizes,
    steps_of_block,
    tanh,
    tasks_of,
    unpack,
    up,
    write_input_gradient3,
    zero_parameter_gradients,
)
from rnn_compare.recurrence.cpu.tasks import set_plan
from rnn_compare.recurrence.cpu.vector import GRADIENT_ROWS, TILE_ROWS, WIDTH, fma, load, load_some, store, store_some
from rnn_compare.recurrence.cpu.xla_ffi import arg, as_floats, result, result_size, use_huge_pages

# Columns of the gates: hp (the recurrent part of the candidate), z, r, xp (its input part).
# The recurrent weights have the first three columns and the bias of hp, z, r in their last
# row (of the inputs' 1), the input weights the last three and the bias of xp in their first.


@njit
def pack_weights(frame, run, f, h, recurrent_weights, kernel_weights):
    n = 3
    kernel, recurrent = arg(frame, 0) + run * f * n * h, arg(frame, 1) + run * h * n * h
    bias, recurrent_bias = arg(frame, 2) + run * n * h, arg(frame, 3) + run * n * h
    fill_zeros(kernel_weights, (1 + f) * n * up(h, WIDTH))
    for gate in range(n):
        column = (gate + 1) % 3
        pack(recurrent, h, n, gate, h, recurrent_weights, 0, h + 1, n, column)
        pack(recurrent_bias, 1, n, gate, h, recurrent_weights, h, h + 1, n, column)
        pack_add(bias, n, gate, h, kernel_weights, 0, 1 + f, n, gate)
        pack(kernel, f, n, gate, h, kernel_weights, 1, 1 + f, n, gate)


@njit
def compute_gates(inputs, stride, rows, f, h, recurrent_weights, kernel_weights, gates):
    """All four columns of the gates."""
    units = up(h, WIDTH)
    for i in range(0, rows * units, WIDTH):
        store(gates + (i * 4 + 3 * WIDTH), 0.0)
    multiply3(
        inputs, stride, 1, rows,
        recurrent_weights, (h + 1) * 3 * WIDTH, 3 * WIDTH, units // WIDTH, h + 1,
        gates, 4 * units, 4 * WIDTH,
    )  # fmt: skip
    add_product3(
        inputs + h, stride, 1, rows,
        kernel_weights, (1 + f) * 3 * WIDTH, 3 * WIDTH, units // WIDTH, 1 + f,
        gates + WIDTH, 4 * units, 4 * WIDTH,
    )  # fmt: skip


def forward_plan(frame, out):
    steps, batch, f, h = sizes(frame)
    use_huge_pages(frame, 0)
    weights = (h + 1 + 1 + f) * 3 * up(h, WIDTH)
    set_plan(out, tasks_of(frame), 0, weights + CHUNK * input_stride(f, h) + TILE_ROWS * 4 * up(h, WIDTH))


def forward_task(frame, workspace, scratch, index):
    steps, batch, f, h = sizes(frame)
    run, first, rows = chunk(index, batch)
    units, stride = up(h, WIDTH), input_stride(f, h)

    recurrent_weights = as_floats(scratch)
    kernel_weights = recurrent_weights + (h + 1) * 3 * units
    inputs = kernel_weights + (1 + f) * 3 * units
    gates = inputs + CHUNK * stride
    pack_weights(frame, run, f, h, recurrent_weights, kernel_weights)
    fill_zeros(inputs, CHUNK * stride)

    start = run * batch + first
    fill_inputs(arg(frame, 5) + start * h, arg(frame, 4), rows, 0, h, inputs, stride)
    xs, hs = arg(frame, 4), result(frame, 0)

    for t in range(steps):
        step = (run * steps + t) * batch + first
        for tile in range(0, rows, TILE_ROWS):
            tile_rows = range(tile, min(tile + TILE_ROWS, rows))
            tile_inputs = inputs + tile * stride
            for row in tile_rows:
                copy(xs + (step + row) * f, inputs + (row * stride + h + 1), f)
            compute_gates(tile_inputs, stride, TILE_ROWS, f, h, recurrent_weights, kernel_weights, gates)
            for row in tile_rows:
                for unit in range(0, h, WIDTH):
                    p = gates + ((row - tile) * units + unit) * 4
                    z, r = sigmoid(load(p + WIDTH)), sigmoid(load(p + 2 * WIDTH))
                    candidate = tanh(fma(r, load(p), load(p + 3 * WIDTH)))
                    left, q = h - unit, inputs + (row * stride + unit)
                    y = fma(z, load_some(q, left) - candidate, candidate)
                    store_some(q, y, left)
                    store_some(hs + ((step + row) * h + unit), y, left)


def backward_plan(frame, out):
    steps, batch, f, h = sizes(frame)
    units, f_units = up(h, WIDTH), up(f, WIDTH)
    use_huge_pages(frame, 4)
    tasks, block = tasks_of(frame), CHUNK * steps_of_block(CHUNK, units)
    scratch = (h + 1 + 1 + f) * 3 * units + (units + f_units) * 3 * units
    scratch += block * (input_stride(f, h) + 4 * units) + CHUNK * (units + f_units)
    dweights = (up(h + 1, GRADIENT_ROWS) + up(1 + f, GRADIENT_ROWS)) * 3 * units
    set_plan(out, tasks, tasks * dweights, scratch)


def backward_task(frame, workspace, scratch, index):
    steps, batch, f, h = sizes(frame)
    run, first, rows = chunk(index, batch)
    units, stride, f_units = up(h, WIDTH), input_stride(f, h), up(f, WIDTH)
    blocks, padded = units // WIDTH, up(rows, TILE_ROWS)
    block_steps = steps_of_block(CHUNK, units)
    need_dx = result_size(frame, 4) > 0

    recurrent_weights = as_floats(scratch)
    kernel_weights = recurrent_weights + (h + 1) * 3 * units
    recurrent_back = kernel_weights + (1 + f) * 3 * units
    kernel_back = recurrent_back + units * 3 * units
    inputs = kernel_back + f_units * 3 * units
    gates = inputs + block_steps * CHUNK * stride
    dhs_now = gates + block_steps * CHUNK * 4 * units
    dx_now = dhs_now + CHUNK * units
    recurrent_rows, kernel_rows = up(h + 1, GRADIENT_ROWS), up(1 + f, GRADIENT_ROWS)
    drecurrent = as_floats(workspace) + index * (recurrent_rows + kernel_rows) * 3 * units
    dkernel = drecurrent + recurrent_rows * 3 * units

    pack_weights(frame, run, f, h, recurrent_weights, kernel_weights)
    for gate in range(3):
        recurrent, kernel = arg(frame, 1) + run * h * 3 * h, arg(frame, 0) + run * f * 3 * h
        pack_transposed(recurrent, h, 3, gate, h, recurrent_back, 3, (gate + 1) % 3)
        pack_transposed(kernel, f, 3, gate, h, kernel_back, 3, gate)
    fill_zeros(inputs, block_steps * CHUNK * stride)
    fill_zeros(drecurrent, (recurrent_rows + kernel_rows) * 3 * units)
    fill_zeros(dhs_now, CHUNK * units)

    start = run * batch + first
    for row in range(rows):
        copy(arg(frame, 8) + (start + row) * h, dhs_now + row * units, h)
    hs, dhs, dxs = arg(frame, 6), arg(frame, 7), result(frame, 4)

    for block_start in range((steps - 1) // block_steps * block_steps, -1, -block_steps):
        count = min(block_steps, steps - block_start)
        fill_block(frame, run, first, rows, block_start, count, inputs, stride)
        compute_gates(inputs, stride, count * padded, f, h, recurrent_weights, kernel_weights, gates)
        for s in range(count - 1, -1, -1):
            step = (run * steps + block_start + s) * batch + first
            prefetch_rows(hs + (step - (block_steps + 1) * batch) * h, rows * h)
            prefetch_rows(dhs + (step - block_steps * batch) * h, rows * h)
            for tile in range(0, rows, TILE_ROWS):
                tile_gates = gates + (s * padded + tile) * 4 * units
                for row in range(tile, min(tile + TILE_ROWS, rows)):
                    for unit in range(0, h, WIDTH):
                        left = h - unit
                        p = tile_gates + ((row - tile) * units + unit) * 4
                        hp, xp = load(p), load(p + 3 * WIDTH)
                        z, r = sigmoid(load(p + WIDTH)), sigmoid(load(p + 2 * WIDTH))
                        candidate = tanh(fma(r, hp, xp))
                        h_before = load_some(inputs + ((s * padded + row) * stride + unit), left)
                        q = dhs_now + (row * units + unit)
                        dh = load(q) + load_some(dhs + ((step + row) * h + unit), left)
                        dsum = dh * (1.0 - z) * (1.0 - candidate * candidate)
                        store(q, dh * z)
                        store(p, dsum * r)
                        store(p + WIDTH, dh * (h_before - candidate) * z * (1.0 - z))
                        store(p + 2 * WIDTH, dsum * hp * r * (1.0 - r))
                        store(p + 3 * WIDTH, dsum)
                add_transposed3(
                    tile_gates, 4 * units, TILE_ROWS, recurrent_back, h, 4 * WIDTH,
                    dhs_now + tile * units, units,
                )  # fmt: skip
            if need_dx:
                write_input_gradient3(
                    gates + (s * padded * 4 * units + WIDTH), 4 * units, rows,
                    kernel_back, h, 4 * WIDTH, dx_now, dxs + step * f, f,
                )  # fmt: skip
        add_gradient3(
            inputs, 1, stride, h + 1,
            gates, 4 * WIDTH, 4 * units, blocks, count * padded,
            drecurrent, 3 * WIDTH, recurrent_rows * 3 * WIDTH,
        )  # fmt: skip
        add_gradient3(
            inputs + h, 1, stride, 1 + f,
            gates + WIDTH, 4 * WIDTH, 4 * units, blocks, count * padded,
            dkernel, 3 * WIDTH, kernel_rows * 3 * WIDTH,
        )  # fmt: skip

    for row in range(rows):
        copy(dhs_now + row * units, result(frame, 5) + (start + row) * h, h)


def backward_finish(frame, workspace):
    steps, batch, f, h = sizes(frame)
    rows, kernel_rows = up(h + 1, GRADIENT_ROWS), up(1 + f, GRADIENT_ROWS)
    zero_parameter_gradients(frame)
    for index in range(tasks_of(frame)):
        run = index // chunks_of(batch)
        drecurrent = as_floats(workspace) + index * (rows + kernel_rows) * 3 * up(h, WIDTH)
        dkernel = drecurrent + rows * 3 * up(h, WIDTH)
        for gate in range(3):
            column = (gate + 1) % 3
            unpack(dkernel, 1, kernel_rows, 3, gate, f, result(frame, 0) + run * f * 3 * h, 3, gate, h)
            unpack(drecurrent, 0, rows, 3, column, h, result(frame, 1) + run * h * 3 * h, 3, gate, h)
            unpack(dkernel, 0, kernel_rows, 3, gate, 1, result(frame, 2) + run * 3 * h, 3, gate, h)
            unpack(drecurrent, h, rows, 3, column, 1, result(frame, 3) + run * 3 * h, 3, gate, h)
