"""What generated kernels call: memory copied, gradients' shares added up, and how work is cut."""

from rnn_compare.recurrence.cpu.vector import (
    every_lane,
    load,
    load_some,
    prefetch,
    store,
    store_past_caches,
    store_some,
    width,
)
from rnn_compare.recurrence.xla_ffi import address_of, inline, njit

GROUP, ROWS = 4, 12  # sequences: a task has a multiple of GROUP, up to ROWS; see `rows_of_task`
BLOCK_FLOATS = 8192  # columns of a block of steps in the backward pass
PAST_CACHES_FROM = 1 << 20  # floats: nothing of a bigger array is still in a cache when it is read


@inline
def up(n, multiple):
    """The next multiple."""
    return (n + multiple - 1) // multiple * multiple


@inline
def fill_zeros(p, count):
    """Zeros up to the next whole vector."""
    for i in range(0, count, width(p)):
        store(p + i, 0.0)


@njit()
def zero(p, count):
    """Exactly so many zeros."""
    for i in range(count):
        p[i] = 0


@inline
def largest(p, count):
    """The largest of some whole numbers that are not negative."""
    most = 0
    for i in range(count):
        most = max(most, int(p[i]))
    return most


@inline
def copy(source, target, count):
    """Copies floats."""
    whole = count // width(source) * width(source)
    for i in range(0, whole, width(source)):
        store(target + i, load(source + i))
    for i in range(whole, count):  # not a masked store: reading it back soon would stall
        target[i] = source[i]


@inline
def prefetch_rows(p, count):
    """Asks for the rows of a step of the block before: the processor doesn't foresee them."""
    for i in range(0, count, 16):
        prefetch(p + i)


@inline
def past_caches(p, units, size):
    """Whether an array [..., units] at p, of so many floats, is written to memory alone.

    Threads write neighbouring rows. In caches, each would fetch what another is about to write.
    """
    return size >= PAST_CACHES_FROM and units % width(p) == 0 and address_of(p) % (4 * width(p)) == 0


@inline
def write(p, value, count, far):
    """Writes the first `count` lanes of a vector to p; `far` is what `past_caches` said."""
    if far:
        store_past_caches(p, value)
    else:
        store_some(p, value, count)


@njit()
def add_shares(first, share, tasks, line, rows, units, target, stride, adds, part, parts):
    """Adds up a part of the tasks' shares of a gradient's rows, in their order.

    A task's lie `share` floats behind those of the task before, their rows `line` floats apart, and the gradient's rows
    `stride`. If it `adds`, the sum is added to what is there.
    """
    for row in range(part * rows // parts, (part + 1) * rows // parts):
        for unit in range(0, units, width(target)):
            total = every_lane(target, 0.0)
            for task in range(tasks):
                total = total + load(first + (task * share + row * line + unit))
            place = target + (row * stride + unit)
            store_some(place, load_some(place, units - unit) + total if adds else total, units - unit)


@inline
def chunk(index, batch, chunks):
    """run, first row and number of rows of a task, of which so many share a batch."""
    groups, i = up(batch, GROUP) // GROUP, index % chunks
    each, more = groups // chunks, groups % chunks  # the larger tasks come first: the smaller ones fill up
    first = (i * each + min(i, more)) * GROUP
    return index // chunks, first, min(first + (each + (i < more)) * GROUP, batch) - first


# How work is cut, by shapes alone: no bit depends on the number of threads, nor on the width of a vector.


def rows_of_task(batch, weights):
    """How many sequences a task has at most, for so many weights.

    More where weights fill a cache and come from behind it at each step, though for 16 processors there is still work.
    """
    return ROWS if weights < 1 << 16 else min(max(batch // 16 // GROUP * GROUP + GROUP, ROWS), 4 * ROWS)


def chunks_of(batch, most):
    """How many tasks share a batch: a power of two, for the sake of the processor's cores."""
    chunks = 1
    while up.py_func(batch, GROUP) >= chunks * most:
        chunks *= 2
    return chunks


def ends_of(share):
    """How many tasks add up the shares of a gradient of so many floats; no bit depends on it."""
    return min(share // 16384 + 1, 16)


def steps_of_block(rows, columns):
    """How many steps the backward pass takes at once, for so many rows of a task and so many units in all columns.

    More where gradients are big, as each block adds to them, though no more than a cache holds.
    """
    return max(1, max(BLOCK_FLOATS // columns, ROWS * min(columns // 256, 4)) // rows)
