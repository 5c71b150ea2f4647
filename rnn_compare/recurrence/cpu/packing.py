"""Weights packed as products read them, see `tiles`."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rnn_compare.recurrence.cpu.support import up
from rnn_compare.recurrence.cpu.vector import LANES, WIDTH, at, load, load_some, store
from rnn_compare.recurrence.xla_ffi import inline, njit

_LANES = ir.VectorType(ir.IntType(32), WIDTH)


@inline
def packed(block, blocks, k, count, term, terms, together):
    """Where a vector of a product's packed weights lies: [block, k, term, lane].

    Of blocks that it takes together, [blocks, term, k, block, lane].
    """
    first = block // together * together
    if together == 1 or first + together > blocks:
        return ((block * count + k) * terms + term) * WIDTH
    return ((first * terms + term * together) * count + k * together + block - first) * WIDTH


@njit()
def pack(source, stride, width, target, first, rows, count, term, terms, together, adds):
    """Rows of a product's weights, packed: those with k from `first` on. The source's lie `stride` floats apart."""
    blocks = up(width, WIDTH) // WIDTH
    for block in range(blocks):
        for row in range(rows):
            vector = load_some(source + (row * stride + block * WIDTH), width - block * WIDTH)
            q = target + packed(block, blocks, first + row, count, term, terms, together)
            store(q, load(q) + vector if adds else vector)


@intrinsic
def transpose(typingctx, source, stride, target, step):
    """WIDTH rows of as many numbers, `stride` floats apart, as columns; these are rows `step` floats apart."""

    def codegen(context, builder, sig, args):
        source, stride, target, step = args
        places = [[builder.mul(distance, ir.IntType(64)(i)) for i in range(WIDTH)] for distance in (stride, step)]
        rows = [builder.load(at(builder, builder.gep(source, [place])), align=4) for place in places[0]]
        half = 1
        while half < WIDTH:  # of each square of squares, those off the diagonal change places
            lanes = range(WIDTH)
            upper = ir.Constant(_LANES, [lane + WIDTH - half if lane & half else lane for lane in lanes])
            lower = ir.Constant(_LANES, [lane + WIDTH if lane & half else lane + half for lane in lanes])
            for i in (i for i in lanes if not i & half):
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (builder.shuffle_vector(*pair, which) for which in (upper, lower))
            half *= 2
        for row, place in zip(rows, places[1], strict=True):
            builder.store(row, at(builder, builder.gep(target, [place])), align=4)
        return context.get_dummy_value()

    return types.void(source, stride, target, step), codegen


@njit()
def pack_transposed(source, stride, units, target, count, term, terms, together):
    """All rows of weights that are the source's transpose: blocks are of its rows, and k < `count` of its columns."""
    blocks = up(units, WIDTH) // WIDTH
    for block in range(blocks):
        first = packed(block, blocks, 0, count, term, terms, together)
        step = packed(block, blocks, 1, count, term, terms, together) - first
        rows = source + block * WIDTH * stride
        whole = count // WIDTH * WIDTH if (block + 1) * WIDTH <= units else 0
        for k in range(0, whole, WIDTH):
            transpose(rows + k, stride, target + (first + k * step), step)
        for lane in range(WIDTH):
            for k in range(whole, count):
                number = rows[lane * stride + k] if block * WIDTH + lane < units else np.float32(0)
                target[first + k * step + lane] = number


@njit()
def pack_dot(source, stride, target, first, rows, count, term, adds):
    """Rows of one column of weights as a term of `tiles.dots`: [term, k], the last with zeros up to LANES."""
    padded = up(count, LANES)
    place = target + term * padded
    for k in range(first, first + rows):
        number = source[(k - first) * stride]
        place[k] = place[k] + number if adds else number
    if first + rows == count:
        for k in range(count, padded):
            place[k] = 0


@njit()
def pack_vector(source, width, target):
    """A vector, padded with zeros; a width of 1 fills all lanes."""
    for i in range(up(width, WIDTH)):
        target[i] = source[0] if width == 1 else (source[i] if i < width else np.float32(0))
