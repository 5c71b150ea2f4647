"""Weights packed as products read them, see `tiles`."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from rnn_compare.recurrence.cpu.support import up
from rnn_compare.recurrence.cpu.vector import (
    LANES,
    emit_load,
    emit_store,
    integers,
    load,
    load_some,
    store,
    vector_at,
    width,
)
from rnn_compare.recurrence.xla_ffi import inline, njit


@inline
def packed(block, blocks, k, count, term, terms, together):
    """The number of a vector of a product's packed weights: [block, k, term].

    Of blocks that it takes together, [blocks, term, k, block].
    """
    first = block // together * together
    if together == 1 or first + together > blocks:
        return (block * count + k) * terms + term
    return (first * terms + term * together) * count + k * together + block - first


@njit()
def pack(source, stride, units, target, first, rows, count, term, terms, together, adds):
    """Rows of a product's weights, packed: those with k from `first` on. The source's lie `stride` floats apart."""
    lanes = width(target)
    blocks = up(units, lanes) // lanes
    for block in range(blocks):
        for row in range(rows):
            vector = load_some(source + (row * stride + block * lanes), units - block * lanes)
            q = target + packed(block, blocks, first + row, count, term, terms, together) * lanes
            store(q, load(q) + vector if adds else vector)


@intrinsic
def transpose(typingctx, source, stride, target, step):
    """As many rows as vectors have lanes, `stride` floats apart, as columns; these are rows `step` floats apart."""
    vector = vector_at(target)

    def codegen(context, builder, sig, args):
        source, stride, target, step = args
        lanes = range(vector.width)
        places = [[builder.mul(distance, ir.IntType(64)(i)) for i in lanes] for distance in (stride, step)]
        rows = [emit_load(builder, builder.gep(source, [place]), vector) for place in places[0]]
        half, all_ = 1, vector.width
        while half < all_:  # of each square of squares, those off the diagonal change places
            upper = ir.Constant(integers(vector), [i + all_ - half if i & half else i for i in lanes])
            lower = ir.Constant(integers(vector), [i + all_ if i & half else i + half for i in lanes])
            for i in (i for i in lanes if not i & half):
                pair = rows[i], rows[i + half]
                rows[i], rows[i + half] = (builder.shuffle_vector(*pair, which) for which in (upper, lower))
            half *= 2
        for row, place in zip(rows, places[1], strict=True):
            emit_store(builder, row, builder.gep(target, [place]))
        return context.get_dummy_value()

    return types.void(source, stride, target, step), codegen


@njit()
def pack_transposed(source, stride, units, target, count, term, terms, together):
    """All rows of weights that are the source's transpose: blocks are of its rows, and k < `count` of its columns."""
    lanes = width(target)
    blocks = up(units, lanes) // lanes
    for block in range(blocks):
        first = packed(block, blocks, 0, count, term, terms, together) * lanes
        step = packed(block, blocks, 1, count, term, terms, together) * lanes - first
        rows = source + block * lanes * stride
        whole = count // lanes * lanes if (block + 1) * lanes <= units else 0
        for k in range(0, whole, lanes):
            transpose(rows + k, stride, target + (first + k * step), step)
        for lane in range(lanes):
            for k in range(whole, count):
                number = rows[lane * stride + k] if block * lanes + lane < units else np.float32(0)
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
def pack_vector(source, units, target):
    """A vector, padded with zeros; a single number fills all lanes."""
    for i in range(up(units, width(target))):
        target[i] = source[0] if units == 1 else (source[i] if i < units else np.float32(0))
