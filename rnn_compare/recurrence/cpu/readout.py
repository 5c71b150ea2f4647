"""The fused kernel of a linear readout's squared error: predictions exist for one block of rows at a time.

inputs[row, :]           a row [h, 1]: the 1 brings in the bias
weights                  packed; k runs over the row, lanes are outputs
errors[row, lane]        inputs @ weights - targets, then their gradients
"""

from rnn_compare.recurrence.cpu.arithmetic import fma
from rnn_compare.recurrence.cpu.packing import packed
from rnn_compare.recurrence.cpu.support import add_shares, copy, fill_zeros, past_caches, up, write
from rnn_compare.recurrence.cpu.tasks import Plan
from rnn_compare.recurrence.cpu.tiles import at_once, outer, product
from rnn_compare.recurrence.cpu.vector import GRADIENT_ROWS, WIDTH, load, load_some, store
from rnn_compare.recurrence.xla_ffi import arg, as_floats, inline, njit, peek, result, word

BLOCK = 64  # rows at a time, a multiple of every TILE_ROWS
PART = 8192  # least rows of a task

TERMS = (((0, 0),),)
multiply, add_gradient = product(TERMS, ((0,),), False), outer(1)
TOGETHER = at_once(TERMS)


@inline
def sizes(numbers):
    """(rows, hidden units, outputs, parts, floats of a row of the inputs)."""
    return peek(numbers), peek(numbers + 8), peek(numbers + 16), peek(numbers + 24), peek(numbers + 32)


def parts_of(rows):
    """How many tasks share the rows: a power of two up to 64."""
    parts = 1
    while parts < 64 and rows >= 2 * parts * PART:
        parts *= 2
    return parts


def input_stride(h):
    """Floats from one row of the inputs to the next; tiles may read a few past a row's end."""
    return up.py_func(h + 1 + GRADIENT_ROWS, WIDTH)


@njit()
def pack_weights(frame, run, h, outputs, weights):
    """[kernel; bias], and zeros in the lanes beyond the outputs."""
    for i in range(h + 1):
        row = arg(frame, 1) + (run * h + i) * outputs if i < h else arg(frame, 2) + run * outputs
        for lane in range(0, outputs, WIDTH):
            vector = packed(lane // WIDTH, up(outputs, WIDTH) // WIDTH, i, h + 1, 0, 1, TOGETHER)
            store(weights + vector * WIDTH, load_some(row + lane, outputs - lane))


@njit()
def fill_errors(frame, at, rows, h, outputs, stride, weights, inputs, errors):
    """The errors of up to BLOCK rows of all runs' rows, from row `at` on."""
    lanes = up(outputs, WIDTH)
    for row in range(rows):
        copy(arg(frame, 0) + (at + row) * h, inputs + row * stride, h)
        inputs[row * stride + h] = 1
    multiply(rows, (inputs,), (stride,), (h + 1,), (weights,), lanes // WIDTH, (errors,), lanes)
    for row in range(rows):
        for lane in range(0, outputs, WIDTH):
            p = errors + (row * lanes + lane)
            target = arg(frame, 3) + ((at + row) * outputs + lane)
            store(p, load(p) - load_some(target, outputs - lane))


def forward_plan(rows, h, outputs):
    """Results: the mean squared error of each output."""
    lanes, parts = up.py_func(outputs, WIDTH), parts_of(rows)
    scratch = (h + 1) * lanes + BLOCK * (input_stride(h) + lanes) + lanes
    return Plan((0, parts, 1), parts * lanes, scratch, (rows, h, outputs, parts, input_stride(h)))


def forward_task(frame, numbers, workspace, scratch, index):
    """The sum of squares of one part of one run, into its place in the workspace."""
    rows, h, outputs, parts, stride = sizes(numbers)
    lanes = up(outputs, WIDTH)
    run, part = index // parts, index % parts
    weights = as_floats(scratch)
    inputs = weights + (h + 1) * lanes
    errors = inputs + BLOCK * stride
    total = as_floats(workspace) + index * lanes
    pack_weights(frame, run, h, outputs, weights)
    fill_zeros(inputs, BLOCK * stride)
    fill_zeros(total, lanes)
    end = (part + 1) * rows // parts
    for first in range(part * rows // parts, end, BLOCK):
        count = min(BLOCK, end - first)
        fill_errors(frame, run * rows + first, count, h, outputs, stride, weights, inputs, errors)
        for lane in range(0, lanes, WIDTH):
            squares = load(errors + lane) * load(errors + lane)  # a block by itself: partial sums round less
            for row in range(1, count):
                e = load(errors + (row * lanes + lane))
                squares = fma(e, e, squares)
            store(total + lane, load(total + lane) + squares)


def forward_finish(frame, numbers, workspace, scratch, run):
    """Adds the parts, in their order."""
    rows, _, outputs, parts, _ = sizes(numbers)
    lanes = up(outputs, WIDTH)
    for output in range(outputs):
        total = 0.0
        for part in range(parts):
            total += as_floats(workspace)[(run * parts + part) * lanes + output]
        result(frame, 0)[run * outputs + output] = total / rows


def backward_plan(rows, h, outputs):
    """Results: the gradients of the hidden states, the kernel and the bias; argument 4 is that of the result."""
    lanes, units, parts = up.py_func(outputs, WIDTH), up.py_func(h, WIDTH), parts_of(rows)
    scratch = (h + 1) * lanes + outputs * units + lanes + BLOCK * (input_stride(h) + lanes + units)
    workspace = parts * up.py_func(h + 1, GRADIENT_ROWS) * lanes
    return Plan((0, parts, 1), workspace, scratch, (rows, h, outputs, parts, input_stride(h)))


def backward_task(frame, numbers, workspace, scratch, index):
    """The hidden states' gradients of one part of one run, and its share of the parameters'."""
    rows, h, outputs, parts, stride = sizes(numbers)
    lanes, units = up(outputs, WIDTH), up(h, WIDTH)
    run, part = index // parts, index % parts
    weights = as_floats(scratch)
    transposed = weights + (h + 1) * lanes
    scale = transposed + outputs * units
    inputs = scale + lanes
    errors = inputs + BLOCK * stride
    dhidden = errors + BLOCK * lanes
    dweights = as_floats(workspace) + index * up(h + 1, GRADIENT_ROWS) * lanes
    pack_weights(frame, run, h, outputs, weights)
    fill_zeros(transposed, outputs * units + lanes)
    for output in range(outputs):
        scale[output] = 2 * arg(frame, 4)[run * outputs + output] / rows
        for unit in range(h):
            vector = packed(unit // WIDTH, units // WIDTH, output, outputs, 0, 1, TOGETHER)
            transposed[vector * WIDTH + unit % WIDTH] = arg(frame, 1)[(run * h + unit) * outputs + output]
    far = past_caches(result(frame, 0), h, rows * h)
    fill_zeros(inputs, BLOCK * stride)
    fill_zeros(dweights, up(h + 1, GRADIENT_ROWS) * lanes)
    end = (part + 1) * rows // parts
    for first in range(part * rows // parts, end, BLOCK):
        count, at = min(BLOCK, end - first), run * rows + first
        fill_errors(frame, at, count, h, outputs, stride, weights, inputs, errors)
        for row in range(count):
            for lane in range(0, lanes, WIDTH):
                p = errors + (row * lanes + lane)
                store(p, load(p) * load(scale + lane))
        multiply(count, (errors,), (lanes,), (outputs,), (transposed,), units // WIDTH, (dhidden,), units)
        for row in range(count):
            for unit in range(0, h, WIDTH):
                target = result(frame, 0) + ((at + row) * h + unit)
                write(target, load(dhidden + (row * units + unit)), h - unit, far)
        add_gradient(inputs, stride, h + 1, count, (errors,), lanes, lanes // WIDTH, dweights)


def backward_finish(frame, numbers, workspace, scratch, run):
    """Adds the parts of the parameters' gradients, in their order."""
    rows, h, outputs, parts, stride = sizes(numbers)
    lanes = up(outputs, WIDTH)
    share = up(h + 1, GRADIENT_ROWS) * lanes
    dkernel, dbias = result(frame, 1) + run * h * outputs, result(frame, 2) + run * outputs
    first = as_floats(workspace) + run * parts * share
    none, one = word(0), word(1)
    add_shares(first, share, parts, lanes, h, outputs, dkernel, outputs, none, none, one)
    add_shares(first + h * lanes, share, parts, lanes, one, outputs, dbias, outputs, none, none, one)
