"""The phases before and behind a kernel's own, alike for all: weights are packed, and gradients' shares added up.

What is to be done is in tables among the numbers that a kernel is told, so that both are compiled once for all kernels
of one width of vectors.
"""

import functools

from rnn_compare.recurrence.cpu.packing import pack, pack_dot, pack_transposed, pack_vector
from rnn_compare.recurrence.cpu.support import add_shares, zero
from rnn_compare.recurrence.cpu.vector import lanes, lanes_like
from rnn_compare.recurrence.xla_ffi import arg, as_floats, njit, peek, result

# What every kernel is told first; the last two say where the tables begin, in words.
HEAD = ("steps", "batch", "chunks", "ends", "packed_floats", "share", "workspace_floats", "packing", "adding")
_CHUNKS, _ENDS, _PACKED, _SHARE, _WORKSPACE, _PACKING, _ADDING = range(16, 8 * len(HEAD), 8)
PACK, PACK_TRANSPOSED, PACK_DOT, PACK_VECTOR = range(4)
_WORDS_OF_PACKING, _WORDS_OF_ADDING, _ADDS = 14, 9, 40


@functools.cache
def phases_of(width):
    """Both phases, `start` and `finish`, with vectors of so many lanes."""
    of_width = lanes(width)

    def start(frame, numbers, workspace, scratch, index):
        """Packs one thing for one run, unless its line adds to what the line before has left, whose task does it then.

        A line of its table: what is done (`PACK`, …), the number of an operand, its size, where in it the weights
        begin, where the result does, whether it adds, and what the function is told besides.
        """
        table = numbers + 8 * peek(numbers + _PACKING)
        jobs = peek(table)
        run, line = index // jobs, index % jobs
        target = of_width(as_floats(workspace)) + run * peek(numbers + _WORKSPACE)
        first = table + 8
        job, last = first + 8 * _WORDS_OF_PACKING * line, first + 8 * _WORDS_OF_PACKING * (jobs - 1)
        if peek(job + _ADDS):
            return
        _pack(frame, run, job, target)
        while job < last and peek(job + 8 * _WORDS_OF_PACKING + _ADDS):
            job += 8 * _WORDS_OF_PACKING
            _pack(frame, run, job, target)

    def finish(frame, numbers, workspace, scratch, index):
        """Adds up a part of the tasks' shares of all gradients of one run.

        A line of its table: the number of a result, its size, where its share begins, how many rows that has and their
        distance, its width, where it begins in the result, the distance of the rows there, and whether it adds to what
        a line before has left; or no rows, for a gradient that is zero.
        """
        chunks, ends, share = peek(numbers + _CHUNKS), peek(numbers + _ENDS), peek(numbers + _SHARE)
        run, part = index // ends, index % ends
        shares = of_width(as_floats(workspace)) + run * peek(numbers + _WORKSPACE) + peek(numbers + _PACKED)
        table = numbers + 8 * peek(numbers + _ADDING)
        for i in range(peek(table)):
            job = table + 8 + 8 * _WORDS_OF_ADDING * i
            size, first, rows, line = peek(job + 8), peek(job + 16), peek(job + 24), peek(job + 32)
            units, target, stride, adds = peek(job + 40), peek(job + 48), peek(job + 56), peek(job + 64)
            gradient = of_width(result(frame, peek(job))) + run * size
            if rows > 0:
                place = gradient + target
                add_shares(shares + first, share, chunks, line, rows, units, place, stride, adds, part, ends)
            elif part == 0:
                zero(gradient, size)

    start.__name__, finish.__name__ = f"start_{width}", f"finish_{width}"
    return start, finish


@njit()
def _pack(frame, run, job, workspace):
    """What one line says; its last words are in the order of `Pass.pack_rows`."""
    what, operand, size, first, place = peek(job), peek(job + 8), peek(job + 16), peek(job + 24), peek(job + 32)
    adds, a, b, c, d = peek(job + _ADDS), peek(job + 48), peek(job + 56), peek(job + 64), peek(job + 72)
    e, f, g, h = peek(job + 80), peek(job + 88), peek(job + 96), peek(job + 104)
    source, target = lanes_like(arg(frame, operand), workspace) + run * size + first, workspace + place
    if what == PACK:
        pack(source, d, h, target, a, b, c, e, f, g, adds)
    elif what == PACK_TRANSPOSED:
        pack_transposed(source, d, h, target, c, e, f, g)
    elif what == PACK_DOT:
        pack_dot(source, d, target, a, b, c, e, adds)
    else:
        pack_vector(source, a, target)


def tables(packing, adding):
    """Both tables in words: how many lines, then the lines, each as long as the functions read it."""
    return _table(packing, _WORDS_OF_PACKING), _table(adding, _WORDS_OF_ADDING)


def _table(lines, length):
    return (len(lines), *(word for line in lines for word in (*line, *[0] * (length - len(line)))))
