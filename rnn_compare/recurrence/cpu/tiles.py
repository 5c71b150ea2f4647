"""Matrix products that stay in registers, made for what a step's products look like.

All sum in an order that no vector width changes: a product over the units one after the other, in a fixed number of
partial sums; a single number over the units too, in LANES partial sums; a gradient over the rows one after the other.
"""

import functools
import itertools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_compare.recurrence.cpu.arithmetic import call
from rnn_compare.recurrence.cpu.vector import (
    GRADIENT_ROWS,
    LANES,
    TILE_ROWS,
    emit_load,
    emit_masked_load,
    emit_store,
    splat,
    vector_at,
    width,
)
from rnn_compare.recurrence.xla_ffi import njit

_I64 = ir.IntType(64)
WIDE = 4  # blocks of units in a tile, where that is what makes it big enough


def _elements(builder, value, type_):
    return [builder.extract_value(value, i) for i in range(len(type_))]


def _slots(builder, rows, columns, vector):
    """Registers, once LLVM has promoted them."""
    slots = [[cgutils.alloca_once(builder, vector.llvm) for _ in range(columns)] for _ in range(rows)]
    for row in slots:
        for slot in row:
            builder.store(ir.Constant(vector.llvm, None), slot)
    return slots


def _accumulate(builder, factor, vector, slot):
    builder.store(call(builder, "fmuladd", factor, vector, builder.load(slot)), slot)


def at_once(segments):
    """How many blocks of units a product takes at once.

    Several where no number of a row has two weights in a block and none of a segment's terms adds to another's sum: it
    takes one term after the other then, and all of the tile's sums are of that term.
    """
    alone = all(len(set(part)) == len(part) for terms in segments for part in zip(*terms, strict=True))
    return WIDE if alone else 1


@functools.cache
def product(segments, outputs, add):
    """Makes a product of rows, over all blocks of units.

    A segment is a run of numbers k < count of each of its sources; its terms are pairs (accumulator, source), each with
    its own weight: accumulator += source[row, k] * weight[block, k, term]. An output is a sum of accumulators.

    Args:
        segments: their terms.
        outputs: the accumulators of each output.
        add: whether outputs are added to what is there.

    Returns:
        A function of the number of rows; tuples: sources' addresses, their floats from row to row, segments' counts,
        their weights as `packing.packed` has them; the number of blocks, a tuple of the outputs' addresses, and their
        floats from row to row. It reads and writes whole tiles, up to TILE_ROWS - 1 rows more.
    """
    together = at_once(segments)
    several, one = (_product_rows(blocks, segments, outputs, add) for blocks in (together, 1))

    @njit()
    def multiply(rows, sources, strides, counts, weights, blocks, targets, stride):
        whole = blocks // together * together
        for block in range(0, whole, together):  # their weights stay in the cache
            several(rows, sources, strides, counts, weights, block, targets, stride)
        for block in range(whole, blocks):
            one(rows, sources, strides, counts, weights, block, targets, stride)

    return multiply


@functools.cache
def _product_rows(blocks, segments, outputs, add):
    """All rows of so many blocks."""
    tile, single = (_product_tile(height, blocks, segments, outputs, add) for height in (TILE_ROWS, 1))

    @njit()
    def multiply(rows, sources, strides, counts, weights, block, targets, stride):
        for row in range(0, rows, TILE_ROWS):
            if rows - row == 1:
                single(row, sources, strides, counts, weights, block, targets, stride)
            else:
                tile(row, sources, strides, counts, weights, block, targets, stride)

    return multiply


def _product_tile(height, at_once, segments, outputs, add):
    """A tile of so many rows and blocks of units."""
    accumulators = 1 + max(i for terms in segments for i, _ in terms)

    @intrinsic
    def tile(typingctx, row, sources, strides, counts, weights, block, targets, stride):
        vector = vector_at(targets[0])

        def codegen(context, builder, sig, args):
            sources, strides, counts, weights, targets = (
                _elements(builder, args[i], sig.args[i]) for i in (1, 2, 3, 4, 6)
            )
            row, block, stride = args[0], args[5], args[7]
            rows = [builder.add(row, _I64(g)) for g in range(height)]
            blocks = [builder.add(block, _I64(b)) for b in range(at_once)]
            slots = [_slots(builder, height, accumulators, vector) for _ in blocks]
            for terms, count, weight in zip(segments, counts, weights, strict=True):
                start = builder.gep(weight, [builder.mul(builder.mul(block, count), _I64(len(terms) * vector.width))])
                for together in [[term] for term in terms] if at_once > 1 else [terms]:
                    step = len(together) * at_once * vector.width
                    with cgutils.for_range(builder, count, intp=_I64) as loop:
                        here = builder.gep(start, [builder.mul(loop.index, _I64(step))])
                        places = range(0, step, vector.width)
                        vectors = [emit_load(builder, builder.gep(here, [_I64(n)]), vector) for n in places]
                        for g in range(height):
                            factors = {}
                            for n, (i, source) in enumerate(together):
                                if source not in factors:
                                    offset = builder.add(builder.mul(strides[source], rows[g]), loop.index)
                                    number = builder.load(builder.gep(sources[source], [offset]))
                                    factors[source] = splat(builder, number, vector)
                                for of_block, weight in zip(slots, vectors[n * at_once :], strict=False):
                                    _accumulate(builder, factors[source], weight, of_block[g][i])
                    start = builder.gep(start, [builder.mul(count, _I64(step))])
            for of_block, block in zip(slots, blocks, strict=True):
                for g, (parts, target) in itertools.product(range(height), zip(outputs, targets, strict=True)):
                    total = builder.load(of_block[g][parts[0]])
                    for i in parts[1:]:
                        total = builder.fadd(total, builder.load(of_block[g][i]))
                    offset = builder.add(builder.mul(stride, rows[g]), builder.mul(block, _I64(vector.width)))
                    place = builder.gep(target, [offset])
                    if add:
                        total = builder.fadd(emit_load(builder, place, vector), total)
                    emit_store(builder, total, place)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, sources, strides, counts, weights, i, targets, i), codegen

    return tile


@functools.cache
def dots(segments, outputs, add):
    """Makes a product whose columns are single numbers, as a sum over the units is: lanes are terms of the sum.

    Args and returns as `product`, but that each term's weights lie together, [term, k] with zeros up to whole LANES,
    and that a result fills all lanes of a vector. No row but those asked for is read or written.
    """
    tile = _dots_tile(segments, outputs, add)

    @njit()
    def multiply(rows, sources, strides, counts, weights, blocks, targets, stride):
        for row in range(rows):
            tile(row, sources, strides, counts, weights, targets, stride)

    return multiply


def _dots_tile(segments, outputs, add):
    accumulators = 1 + max(i for terms in segments for i, _ in terms)

    def add_up(builder, vectors):
        """The sum of all lanes: the upper half onto the lower, again and again."""
        while len(vectors) > 1:
            half = len(vectors) // 2
            vectors = [builder.fadd(a, b) for a, b in zip(vectors[:half], vectors[half:], strict=True)]
        (total,) = vectors
        while (count := total.type.count // 2) > 1:
            half = ir.VectorType(ir.IntType(32), count)
            low, high = (ir.Constant(half, list(range(first, first + count))) for first in (0, count))
            total = builder.fadd(*(builder.shuffle_vector(total, total, lanes) for lanes in (low, high)))
        return builder.fadd(*(builder.extract_element(total, ir.IntType(32)(i)) for i in range(2)))

    @intrinsic
    def tile(typingctx, row, sources, strides, counts, weights, targets, stride):
        vector = vector_at(targets[0])
        parts = range(0, LANES, vector.width)

        def codegen(context, builder, sig, args):
            sources, strides, counts, weights, targets = (
                _elements(builder, args[i], sig.args[i]) for i in (1, 2, 3, 4, 5)
            )
            row, stride = args[0], args[6]
            slots = _slots(builder, accumulators, len(parts), vector)

            def some(count, place, start):
                return emit_masked_load(builder, place, builder.sub(count, start), vector)

            def accumulate(terms, weight, padded, start, load):
                for i, part in enumerate(parts):
                    offset, factors = builder.add(start, _I64(part)), {}
                    for n, (slot, source) in enumerate(terms):
                        if source not in factors:
                            here = builder.add(builder.mul(strides[source], row), offset)
                            factors[source] = load(builder.gep(sources[source], [here]), offset)
                        place = builder.add(builder.mul(padded, _I64(n)), offset)
                        column = emit_load(builder, builder.gep(weight, [place]), vector)
                        _accumulate(builder, factors[source], column, slots[slot][i])

            for terms, count, weight in zip(segments, counts, weights, strict=True):
                whole = builder.and_(count, _I64(-LANES))
                padded = builder.and_(builder.add(count, _I64(LANES - 1)), _I64(-LANES))
                with cgutils.for_range_slice(builder, _I64(0), whole, _I64(LANES), intp=_I64) as (start, _):
                    accumulate(terms, weight, padded, start, lambda place, _: emit_load(builder, place, vector))
                with builder.if_then(builder.icmp_signed("<", whole, count)):
                    accumulate(terms, weight, padded, whole, functools.partial(some, count))
            for numbers, target in zip(outputs, targets, strict=True):
                vectors = [[builder.load(slot) for slot in slots[i]] for i in numbers]
                first, *others = vectors
                for other in others:
                    first = [builder.fadd(a, b) for a, b in zip(first, other, strict=True)]
                total = splat(builder, add_up(builder, first), vector)
                place = builder.gep(target, [builder.mul(stride, row)])
                if add:
                    total = builder.fadd(emit_load(builder, place, vector), total)
                emit_store(builder, total, place)
            return context.get_dummy_value()

        i = types.intp
        return types.void(i, sources, strides, counts, weights, targets, i), codegen

    return tile


def _outer_tile(height):
    """A tile of sums over rows, target[g, n] += sum of source[row, g] * columns[n][row], all in registers."""

    @intrinsic
    def tile(typingctx, source, source_stride, rows, columns, stride, target, target_row, target_column):
        vector = vector_at(target)

        def codegen(context, builder, sig, args):
            source, source_stride, rows, _, stride, target, target_row, target_column = args
            columns = _elements(builder, args[3], sig.args[3])
            slots = _slots(builder, height, len(columns), vector)
            with cgutils.for_range(builder, rows, intp=_I64) as loop:
                here = builder.gep(source, [builder.mul(loop.index, source_stride)])
                offset = builder.mul(loop.index, stride)
                vectors = [emit_load(builder, builder.gep(c, [offset]), vector) for c in columns]
                for g in range(height):
                    factor = splat(builder, builder.load(builder.gep(here, [_I64(g)])), vector)
                    for slot, column in zip(slots[g], vectors, strict=True):
                        _accumulate(builder, factor, column, slot)
            for g in range(height):
                for n, slot in enumerate(slots[g]):
                    offset = builder.add(builder.mul(target_row, _I64(g)), builder.mul(target_column, _I64(n)))
                    place = builder.gep(target, [offset])
                    # Added last: over a long sequence, partial sums of blocks round less than one running sum.
                    emit_store(builder, builder.fadd(emit_load(builder, place, vector), builder.load(slot)), place)
            return context.get_dummy_value()

        i = types.intp
        return types.void(source, i, i, columns, i, target, i, i), codegen

    return tile


_high, _low = _outer_tile(GRADIENT_ROWS), _outer_tile(2)


def _moved(count):
    @intrinsic
    def moved(typingctx, columns, offset):
        """A tuple of addresses, all moved by so many floats."""

        def codegen(context, builder, sig, args):
            values = [builder.gep(c, [args[1]]) for c in _elements(builder, args[0], sig.args[0])]
            return cgutils.pack_array(builder, values)

        return columns(columns, types.intp), codegen

    return moved


@functools.cache
def outer(columns):
    """Makes the sum target[k, n, unit] += source[row, k] * columns[n][row, unit] over rows.

    Returns:
        A function of the source's address, its floats from row to row, the number of k, the number of rows, a tuple of
        the columns' addresses, their floats from row to row, the number of blocks of units, and the target's address.
    """
    moved = _moved(columns)

    @njit()
    def add(source, source_stride, count, rows, columns_, stride, blocks, target):
        units = blocks * width(target)
        k = 0
        while k < count:
            high = count - k > 2
            for block in range(blocks):
                here = moved(columns_, block * width(target))
                place = target + (k * columns * units + block * width(target))
                if high:
                    _high(source + k, source_stride, rows, here, stride, place, columns * units, units)
                else:
                    _low(source + k, source_stride, rows, here, stride, place, columns * units, units)
            k += GRADIENT_ROWS if high else 2

    return add
