"""What a handler does: numbered tasks in three phases, which XLA's own thread pool helps to run.

The calling thread claims tasks too, until none is left, and then waits only for those that are running elsewhere: it
does not matter whether and when the pool's threads come. A phase begins when the one before has ended: weights are
packed, then sequences are computed, then their shares of the gradients are added up. How work is cut into tasks depends
on shapes alone, so the number of threads changes no bit of a result.
"""

import ctypes
import math
import sys
from typing import NamedTuple

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_compare.recurrence.xla_ffi import (
    API,
    CONTEXT,
    FRAME_SIZE,
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    Api,
    NumThreadsArgs,
    ScheduleArgs,
    all_float32,
    answer_metadata,
    attribute,
    call1,
    call5,
    error,
    fetch_add,
    free,
    malloc,
    njit,
    peek,
    poke,
    right_sizes,
    runs_of,
    text,
    use_huge_pages,
    use_huge_pages_for_results,
    word,
)

_give_way = types.ExternalFunction("SwitchToThread" if sys.platform == "win32" else "sched_yield", types.int32())

# --- Denormals.

_X86 = llvmlite.binding.get_default_triple().startswith(("x86", "i686", "amd64"))
_ARM = llvmlite.binding.get_default_triple().startswith(("aarch64", "arm64"))
_FLUSH = 0x8040 if _X86 else 1 << 24  # flush results and treat operands as zero


@intrinsic
def get_float_mode(typingctx):
    """The processor's float control word of this thread."""

    def codegen(context, builder, signature, args):
        i64, i32, module = ir.IntType(64), ir.IntType(32), builder.module
        if _X86:
            slot = cgutils.alloca_once(builder, i32)
            pointer = ir.IntType(8).as_pointer()
            store = cgutils.get_or_insert_function(
                module, ir.FunctionType(ir.VoidType(), [pointer]), "llvm.x86.sse.stmxcsr"
            )
            builder.call(store, [builder.bitcast(slot, pointer)])
            return builder.zext(builder.load(slot), i64)
        if _ARM:
            get = cgutils.get_or_insert_function(module, ir.FunctionType(i64, []), "llvm.aarch64.get.fpcr")
            return builder.call(get, [])
        return i64(0)

    return word(), codegen


@intrinsic
def set_float_mode(typingctx, mode):
    """Sets it."""

    def codegen(context, builder, signature, args):
        i64, i32, module = ir.IntType(64), ir.IntType(32), builder.module
        if _X86:
            slot = cgutils.alloca_once(builder, i32)
            builder.store(builder.trunc(args[0], i32), slot)
            pointer = ir.IntType(8).as_pointer()
            load = cgutils.get_or_insert_function(
                module, ir.FunctionType(ir.VoidType(), [pointer]), "llvm.x86.sse.ldmxcsr"
            )
            builder.call(load, [builder.bitcast(slot, pointer)])
        elif _ARM:
            put = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [i64]), "llvm.aarch64.set.fpcr")
            builder.call(put, [args[0]])
        return context.get_dummy_value()

    return types.void(word), codegen


# --- The tasks.

_PHASES = 3

# What a handler is told of the arrays, an attribute of 64-bit words, see `Plan.words`; first the tasks of each phase.
_TASKS, _WORKSPACE_FLOATS, _SCRATCH_FLOATS, _NUMBERS, _SIZES, _SIZE_OF_RUN = 8, *range(8 * _PHASES, 64, 8)


class Plan(NamedTuple):
    """How a kernel works on arrays of certain shapes.

    Attributes:
        tasks: how many tasks share a run, in each phase.
        workspace: floats of a run that its tasks leave for those behind.
        scratch: floats that a task needs while it works.
        numbers: what else the kernel wants to know.
    """

    tasks: tuple[int, int, int]
    workspace: int
    scratch: int
    numbers: tuple[int, ...]

    def words(self, operands, results):
        """The attribute that tells a handler: the plan, and how many elements the arrays of one run have."""
        sizes = [len(operands), *(math.prod(a.shape) for a in operands)]
        sizes += [len(results), *(math.prod(a.shape) for a in results)]
        head = (*self.tasks, self.workspace, self.scratch, 3 + _PHASES + len(sizes))
        return np.array([*head, *sizes, *self.numbers], np.int64)


# The state of one call, shared by all threads that help: 64-bit words at these offsets.
_WORKSPACE, _SCRATCH_BYTES, _NEXT, _DONE, _USERS, _FRAME, _WORDS, _FUNCTIONS = range(0, 64, 8)
_FIRSTS = _FUNCTIONS + 8 * _PHASES  # the number of each phase's first task, and that of all tasks
_TOTAL = _FIRSTS + 8 * _PHASES
_SCHEDULE = _TOTAL + 8
_STATE_SIZE = _SCHEDULE + ctypes.sizeof(ScheduleArgs)
_LITTLE = 1 << 14  # bytes of the stack, where one thread works alone: short work takes less time than asking for memory

_SCHEDULE_FUNCTION = Api.ThreadPool_Schedule.offset
_NUM_THREADS_FUNCTION = Api.ThreadPool_NumThreads.offset
_ERROR_DESTROY = Api.Error_Destroy.offset
_POOL_TASK, _POOL_DATA = ScheduleArgs.task.offset, ScheduleArgs.data.offset
_POOL_CONTEXT = ScheduleArgs.context.offset
_SCHEDULE_SIZE = ctypes.sizeof(ScheduleArgs)
_NUM_THREADS = NumThreadsArgs.num_threads.offset
_NUM_THREADS_SIZE = ctypes.sizeof(NumThreadsArgs)
_API_SIZE = ctypes.sizeof(Api)


@njit()
def _refused(api, error):
    """Whether a function of the API returned an error, which is dropped."""
    if error == 0:
        return False
    args = malloc(24)
    poke(args, 24)
    poke(args + 8, 0)
    poke(args + 16, error)
    call1(peek(api + _ERROR_DESTROY), (args,))
    free(args)
    return True


@njit()
def num_threads(frame):
    """How many threads XLA's pool has; 0 if there is none."""
    api = peek(frame + API)
    args = malloc(_NUM_THREADS_SIZE + 8)
    poke(args, _NUM_THREADS_SIZE)
    poke(args + 8, 0)
    poke(args + 16, peek(frame + CONTEXT))
    poke(args + _NUM_THREADS, args + _NUM_THREADS_SIZE)
    poke(args + _NUM_THREADS_SIZE, 0)
    refused = _refused(api, call1(peek(api + _NUM_THREADS_FUNCTION), (args,)))
    threads = 0 if refused else peek(args + _NUM_THREADS_SIZE)
    free(args)
    return threads


@njit()
def _leave(state):
    """The last user of the state frees it."""
    if fetch_add(state + _USERS, -1) == 1:
        free(state)


@njit()
def _call_helpers(frame, state, helper, count):
    """Asks XLA's pool to run the helper `count` times, some time, perhaps too late."""
    api, args = peek(frame + API), state + _SCHEDULE
    poke(args, _SCHEDULE_SIZE)
    poke(args + 8, 0)
    poke(args + _POOL_CONTEXT, peek(frame + CONTEXT))
    poke(args + _POOL_TASK, helper)
    poke(args + _POOL_DATA, state)
    for _ in range(count):
        fetch_add(state + _USERS, 1)
        if _refused(api, call1(peek(api + _SCHEDULE_FUNCTION), (args,))):
            _leave(state)
            break


@njit()
def _align(address):
    return (address + 63) // 64 * 64


@njit()
def _work(state, scratch):
    """Runs tasks until none is left.

    Denormals are flushed to zero meanwhile: gradients that decay through long sequences
    would otherwise slow the arithmetic down many times.
    """
    mode = get_float_mode()
    set_float_mode(mode | _FLUSH)
    while True:
        index = fetch_add(state + _NEXT, 1)
        if index >= peek(state + _TOTAL):
            break
        phase = 0
        while index >= peek(state + _FIRSTS + 8 * (phase + 1)):
            phase += 1
        first = peek(state + _FIRSTS + 8 * phase)
        while fetch_add(state + _DONE, 0) < first:
            _give_way()
        frame, words, workspace = peek(state + _FRAME), peek(state + _WORDS), peek(state + _WORKSPACE)
        numbers = words + 8 * peek(words + _NUMBERS)
        function = peek(state + _FUNCTIONS + 8 * phase)
        call5(function, (frame, numbers, _align(workspace), _align(scratch), index - first))
        fetch_add(state + _DONE, 1)
    set_float_mode(mode)


@intrinsic
def _on_the_stack(typingctx):
    """The address of `_STATE_SIZE + _LITTLE` bytes of the caller's stack."""

    def codegen(context, builder, signature, args):
        memory = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), (_STATE_SIZE + _LITTLE) // 8 + 1))
        return builder.ptrtoint(memory, ir.IntType(64))

    return word(), codegen


def help_out(state):
    """What XLA's pool runs. It may come late, when nothing but the state is still there."""
    scratch = malloc(peek(state + _SCRATCH_BYTES))
    if scratch != 0:
        _work(state, scratch)
        free(scratch)
    _leave(state)


def handle(frame, start, task, finish, helper):
    """What a handler does; the rest are addresses of C functions, first one for each phase."""
    if answer_metadata(frame):
        return 0
    if peek(frame) < FRAME_SIZE or peek(peek(frame + API)) < _API_SIZE:
        return error(frame, INTERNAL, text("the structs of this XLA are too small"))
    if not all_float32(frame):
        return error(frame, INVALID_ARGUMENT, text("the kernels read and write float32, and were given another type"))
    words = attribute(frame)
    runs = runs_of(frame, peek(words + _SIZE_OF_RUN))
    if not right_sizes(frame, runs, words + _SIZES):
        return error(frame, INVALID_ARGUMENT, text("an array has another size than the kernel was told"))
    use_huge_pages_for_results(frame)
    most = runs * peek(words + _TASKS)
    workspace_bytes = 4 * runs * peek(words + _WORKSPACE_FLOATS) + 64
    scratch_bytes = 4 * peek(words + _SCRATCH_FLOATS) + 64
    little = most == 1 and workspace_bytes + scratch_bytes <= _LITTLE
    state = _on_the_stack() if little else malloc(_STATE_SIZE)
    workspace = state + _STATE_SIZE if little else malloc(workspace_bytes)
    scratch = workspace + workspace_bytes if little else malloc(scratch_bytes)
    if state == 0 or workspace == 0 or scratch == 0:
        free(state)
        free(workspace)
        free(scratch)
        return error(frame, RESOURCE_EXHAUSTED, text("no memory for a recurrence"))
    use_huge_pages(workspace, workspace_bytes)
    total = 0
    for phase, function in enumerate((start, task, finish)):
        poke(state + _FUNCTIONS + 8 * phase, function)
        poke(state + _FIRSTS + 8 * phase, total)
        total += runs * peek(words + 8 * phase)
    poke(state + _TOTAL, total)
    poke(state + _WORKSPACE, workspace)
    poke(state + _SCRATCH_BYTES, scratch_bytes)
    poke(state + _NEXT, 0)
    poke(state + _DONE, 0)
    poke(state + _USERS, 1)
    poke(state + _FRAME, frame)
    poke(state + _WORDS, words)
    if most > 1:
        _call_helpers(frame, state, helper, min(num_threads(frame), most) - 1)
    _work(state, scratch)
    while fetch_add(state + _DONE, 0) < total:
        _give_way()
    if not little:
        free(scratch)
        free(workspace)
        _leave(state)
    return 0
