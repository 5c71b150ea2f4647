"""The fused kernels of the LSTM."""

from rnn_compare.recurrence.cpu.kernels import (
    CHUNK,
    add_gradient4,
    add_transposed4,
    chunk,
    chunks_of,
    copy,
    fill_block,
    fill_inputs,
    fill_zeros,
    input_stride,
    multiply4,
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
    write_input_gradient4,
    zero_parameter_gradients,
)
from rnn_compare.recurrence.cpu.tasks import set_plan
from rnn_compare.recurrence.cpu.vector import GRADIENT_ROWS, TILE_ROWS, WIDTH, fma, load, load_some, store, store_some
from rnn_compare.recurrence.cpu.xla_ffi import arg, as_floats, result, result_size, use_huge_pages

# Columns of the gates: i, f, c, o


@njit
def pack_weights(frame, run, f, h, weights):
    n, k = 4, h + 1 + f
    kernel, recurrent = arg(frame, 0) + run * f * n * h, arg(frame, 1) + run * h * n * h
    bias, recurrent_bias = arg(frame, 2) + run * n * h, arg(frame, 3) + run * n * h
    for gate in range(n):
        pack(recurrent, h, n, gate, h, weights, 0, k, n, gate)
        pack(bias, 1, n, gate, h, weights, h, k, n, gate)
        pack_add(recurrent_bias, n, gate, h, weights, h, k, n, gate)
        pack(kernel, f, n, gate, h, weights, h + 1, k, n, gate)


def forward_plan(frame, out):
    steps, batch, f, h = sizes(frame)
    units = up(h, WIDTH)
    use_huge_pages(frame, 0)
    use_huge_pages(frame, 2)
    rows = CHUNK * (input_stride(f, h) + units)
    set_plan(out, tasks_of(frame), 0, (h + 1 + f) * 4 * units + rows + TILE_ROWS * 4 * units)


def forward_task(frame, workspace, scratch, index):
    steps, batch, f, h = sizes(frame)
    run, first, rows = chunk(index, batch)
    units, stride, k = up(h, WIDTH), input_stride(f, h), h + 1 + f
    blocks = units // WIDTH

    weights = as_floats(scratch)
    inputs = weights + k * 4 * units
    cells = inputs + CHUNK * stride
    gates = cells + CHUNK * units
    pack_weights(frame, run, f, h, weights)
    fill_zeros(inputs, CHUNK * (stride + units))

    start = run * batch + first
    fill_inputs(arg(frame, 5) + start * h, arg(frame, 4), rows, 0, h, inputs, stride)
    for row in range(rows):
        copy(arg(frame, 6) + (start + row) * h, cells + row * units, h)
    xs, hs, cs = arg(frame, 4), result(frame, 0), result(frame, 2)
    keep_cells = result_size(frame, 2) > 0

    for t in range(steps):
        step = (run * steps + t) * batch + first
        for tile in range(0, rows, TILE_ROWS):
            tile_rows = range(tile, min(tile + TILE_ROWS, rows))
            for row in tile_rows:
                copy(xs + (step + row) * f, inputs + (row * stride + h + 1), f)
            multiply4(
                inputs + tile * stride, stride, 1, TILE_ROWS,
                weights, k * 4 * WIDTH, 4 * WIDTH, blocks, k,
                gates, 4 * units, 4 * WIDTH,
            )  # fmt: skip
            for row in tile_rows:
                for unit in range(0, h, WIDTH):
                    z = gates + ((row - tile) * units + unit) * 4
                    i, forget = sigmoid(load(z)), sigmoid(load(z + WIDTH))
                    g, o = tanh(load(z + 2 * WIDTH)), sigmoid(load(z + 3 * WIDTH))
                    cell = cells + (row * units + unit)
                    c = fma(forget, load(cell), i * g)
                    y = o * tanh(c)
                    out, left = (step + row) * h + unit, h - unit
                    store(cell, c)
                    store_some(inputs + (row * stride + unit), y, left)
                    store_some(hs + out, y, left)
                    if keep_cells:
                        store_some(cs + out, c, left)

    for row in range(rows):
        copy(cells + row * units, result(frame, 1) + (start + row) * h, h)


def backward_plan(frame, out):
    steps, batch, f, h = sizes(frame)
    units, k = up(h, WIDTH), h + 1 + f
    tasks = tasks_of(frame)
    use_huge_pages(frame, 4)
    block = CHUNK * steps_of_block(CHUNK, units)
    scratch = k * 4 * units + (units + up(f, WIDTH)) * 4 * units
    scratch += block * (input_stride(f, h) + 4 * units)
    scratch += CHUNK * 2 * units + CHUNK * up(f, WIDTH)
    set_plan(out, tasks, tasks * up(k, GRADIENT_ROWS) * 4 * units, scratch)


def backward_task(frame, workspace, scratch, index):
    steps, batch, f, h = sizes(frame)
    run, first, rows = chunk(index, batch)
    units, stride, k = up(h, WIDTH), input_stride(f, h), h + 1 + f
    blocks, f_units, padded = units // WIDTH, up(f, WIDTH), up(rows, TILE_ROWS)
    block_steps = steps_of_block(CHUNK, units)
    need_dx = result_size(frame, 4) > 0

    weights = as_floats(scratch)
    recurrent_back = weights + k * 4 * units
    kernel_back = recurrent_back + units * 4 * units
    inputs = kernel_back + f_units * 4 * units
    gates = inputs + block_steps * CHUNK * stride
    dhs_now = gates + block_steps * CHUNK * 4 * units
    dcs_now = dhs_now + CHUNK * units
    dx_now = dcs_now + CHUNK * units
    dweights = as_floats(workspace) + index * up(k, GRADIENT_ROWS) * 4 * units

    pack_weights(frame, run, f, h, weights)
    for gate in range(4):
        recurrent, kernel = arg(frame, 1) + run * h * 4 * h, arg(frame, 0) + run * f * 4 * h
        pack_transposed(recurrent, h, 4, gate, h, recurrent_back, 4, gate)
        pack_transposed(kernel, f, 4, gate, h, kernel_back, 4, gate)
    fill_zeros(inputs, block_steps * CHUNK * stride)
    fill_zeros(dweights, up(k, GRADIENT_ROWS) * 4 * units)
    fill_zeros(dhs_now, CHUNK * 2 * units)

    start = run * batch + first
    for row in range(rows):
        copy(arg(frame, 8) + (start + row) * h, dhs_now + row * units, h)
        copy(arg(frame, 11) + (start + row) * h, dcs_now + row * units, h)
    hs, dhs, cs, dxs = arg(frame, 6), arg(frame, 7), arg(frame, 10), result(frame, 4)

    for block_start in range((steps - 1) // block_steps * block_steps, -1, -block_steps):
        count = min(block_steps, steps - block_start)
        fill_block(frame, run, first, rows, block_start, count, inputs, stride)
        multiply4(
            inputs, stride, 1, count * padded,
            weights, k * 4 * WIDTH, 4 * WIDTH, blocks, k,
            gates, 4 * units, 4 * WIDTH,
        )  # fmt: skip
        for s in range(count - 1, -1, -1):
            step = (run * steps + block_start + s) * batch + first
            before = cs + (step - batch) * h if block_start + s > 0 else arg(frame, 9) + start * h
            prefetch_rows(hs + (step - (block_steps + 1) * batch) * h, rows * h)
            prefetch_rows(cs + (step - (block_steps + 1) * batch) * h, rows * h)
            prefetch_rows(dhs + (step - block_steps * batch) * h, rows * h)
            for tile in range(0, rows, TILE_ROWS):
                tile_gates = gates + (s * padded + tile) * 4 * units
                for row in range(tile, min(tile + TILE_ROWS, rows)):
                    for unit in range(0, h, WIDTH):
                        z = tile_gates + ((row - tile) * units + unit) * 4
                        i, forget = sigmoid(load(z)), sigmoid(load(z + WIDTH))
                        g, o = tanh(load(z + 2 * WIDTH)), sigmoid(load(z + 3 * WIDTH))
                        c_before = load_some(before + (row * h + unit), h - unit)
                        tanh_c = tanh(fma(forget, c_before, i * g))
                        p, q = dhs_now + (row * units + unit), dcs_now + (row * units + unit)
                        dh = load(p) + load_some(dhs + ((step + row) * h + unit), h - unit)
                        dc = fma(dh * o, 1.0 - tanh_c * tanh_c, load(q))
                        store(p, 0.0)
                        store(q, dc * forget)
                        store(z, dc * g * i * (1.0 - i))
                        store(z + WIDTH, dc * c_before * forget * (1.0 - forget))
                        store(z + 2 * WIDTH, dc * i * (1.0 - g * g))
                        store(z + 3 * WIDTH, dh * tanh_c * o * (1.0 - o))
                add_transposed4(
                    tile_gates, 4 * units, TILE_ROWS, recurrent_back, h, 4 * WIDTH,
                    dhs_now + tile * units, units,
                )  # fmt: skip
            if need_dx:
                write_input_gradient4(
                    gates + s * padded * 4 * units, 4 * units, rows,
                    kernel_back, h, 4 * WIDTH, dx_now, dxs + step * f, f,
                )  # fmt: skip
        add_gradient4(
            inputs, 1, stride, k,
            gates, 4 * WIDTH, 4 * units, blocks, count * padded,
            dweights, 4 * WIDTH, up(k, GRADIENT_ROWS) * 4 * WIDTH,
        )  # fmt: skip

    for row in range(rows):
        copy(dhs_now + row * units, result(frame, 5) + (start + row) * h, h)
        copy(dcs_now + row * units, result(frame, 6) + (start + row) * h, h)


def backward_finish(frame, workspace):
    steps, batch, f, h = sizes(frame)
    k = h + 1 + f
    rows = up(k, GRADIENT_ROWS)
    zero_parameter_gradients(frame)
    for index in range(tasks_of(frame)):
        run = index // chunks_of(batch)
        dweights = as_floats(workspace) + index * rows * 4 * up(h, WIDTH)
        dkernel, drecurrent = result(frame, 0) + run * f * 4 * h, result(frame, 1) + run * h * 4 * h
        for gate in range(4):
            unpack(dweights, 0, rows, 4, gate, h, drecurrent, 4, gate, h)
            unpack(dweights, h, rows, 4, gate, 1, result(frame, 2) + run * 4 * h, 4, gate, h)
            unpack(dweights, h, rows, 4, gate, 1, result(frame, 3) + run * 4 * h, 4, gate, h)
            unpack(dweights, h + 1, rows, 4, gate, f, dkernel, 4, gate, h)
