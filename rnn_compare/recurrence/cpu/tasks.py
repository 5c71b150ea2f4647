"""What a handler does: numbered tasks, which XLA's own thread pool helps to run.

The calling thread claims tasks too, until none is left, and then waits only for those that are running elsewhere: it
does not matter whether and when the pool's threads come. How work is cut into tasks depends on shapes alone, so the
number of threads changes no bit of a result.
"""

import ctypes
import sys

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_compare.recurrence.cpu.xla_ffi import (
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
    call1,
    call2,
    call4,
    error,
    fetch_add,
    free,
    malloc,
    peek,
    poke,
    text,
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

#
# The state of one call, shared by all threads that help: 64-bit words at these offsets.
# plan() fills in the first three.
_TOTAL, _WORKSPACE, _SCRATCH_BYTES, _NEXT, _DONE, _USERS, _FRAME, _TASK, _SCHEDULE = range(0, 72, 8)
_STATE_SIZE = _SCHEDULE + ctypes.sizeof(ScheduleArgs)

_SCHEDULE_FUNCTION = Api.ThreadPool_Schedule.offset
_NUM_THREADS_FUNCTION = Api.ThreadPool_NumThreads.offset
_ERROR_DESTROY = Api.Error_Destroy.offset
_POOL_TASK, _POOL_DATA = ScheduleArgs.task.offset, ScheduleArgs.data.offset
_POOL_CONTEXT = ScheduleArgs.context.offset
_SCHEDULE_SIZE = ctypes.sizeof(ScheduleArgs)
_NUM_THREADS = NumThreadsArgs.num_threads.offset
_NUM_THREADS_SIZE = ctypes.sizeof(NumThreadsArgs)
_API_SIZE = ctypes.sizeof(Api)


@numba.njit
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


@numba.njit
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


@numba.njit
def _leave(state):
    """The last user of the state frees it."""
    if fetch_add(state + _USERS, -1) == 1:
        free(state)


@numba.njit
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


@numba.njit
def set_plan(out, tasks, workspace_floats, scratch_floats):
    """What a plan has to say; fewer than no tasks refuse the arrays."""
    poke(out + _TOTAL, tasks)
    poke(out + _WORKSPACE, workspace_floats)
    poke(out + _SCRATCH_BYTES, 4 * scratch_floats)


@numba.njit
def _align(address):
    return (address + 63) // 64 * 64


@numba.njit
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
        frame, workspace = peek(state + _FRAME), peek(state + _WORKSPACE)
        call4(peek(state + _TASK), (frame, _align(workspace), _align(scratch), index))
        fetch_add(state + _DONE, 1)
    set_float_mode(mode)


def help_out(state):
    """What XLA's pool runs. It may come late, when nothing but the state is still there."""
    scratch = malloc(peek(state + _SCRATCH_BYTES))
    if scratch != 0:
        _work(state, scratch)
        free(scratch)
    _leave(state)


def handle(frame, plan, task, finish, helper):
    """What a handler does; the rest are addresses of C functions."""
    if answer_metadata(frame):
        return 0
    if peek(frame) < FRAME_SIZE or peek(peek(frame + API)) < _API_SIZE:
        return error(frame, INTERNAL, text("the structs of this XLA are too small"))
    if not all_float32(frame):
        return error(frame, INVALID_ARGUMENT, text("the kernels read and write float32, and were given another type"))
    state = malloc(_STATE_SIZE)
    if state == 0:
        return error(frame, RESOURCE_EXHAUSTED, text("no memory for a recurrence"))
    call2(plan, (frame, state))
    if peek(state + _TOTAL) < 0:
        free(state)
        return error(frame, INVALID_ARGUMENT, text("an array has another shape than the kernel was made for"))
    scratch_bytes = peek(state + _SCRATCH_BYTES) + 64
    workspace = malloc(4 * peek(state + _WORKSPACE) + 64)
    scratch = malloc(scratch_bytes)
    if workspace == 0 or scratch == 0:
        free(state)
        free(workspace)
        free(scratch)
        return error(frame, RESOURCE_EXHAUSTED, text("no memory for a recurrence"))
    tasks = peek(state + _TOTAL)
    poke(state + _WORKSPACE, workspace)
    poke(state + _SCRATCH_BYTES, scratch_bytes)
    poke(state + _NEXT, 0)
    poke(state + _DONE, 0)
    poke(state + _USERS, 1)
    poke(state + _FRAME, frame)
    poke(state + _TASK, task)
    _call_helpers(frame, state, helper, min(num_threads(frame), tasks) - 1)
    _work(state, scratch)
    while fetch_add(state + _DONE, 0) < tasks:
        _give_way()
    call2(finish, (frame, _align(workspace)))
    free(scratch)
    free(workspace)
    _leave(state)
    return 0
