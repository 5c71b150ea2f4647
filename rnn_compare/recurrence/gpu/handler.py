"""What XLA calls for a kernel: a C function that launches it on XLA's stream."""

import ctypes
import functools
import math
import threading

import jax
import numba
import numpy as np

from rnn_compare.recurrence.xla_ffi import (
    API,
    CONTEXT,
    FRAME_SIZE,
    INTERNAL,
    INVALID_ARGUMENT,
    RESOURCE_EXHAUSTED,
    Api,
    StreamArgs,
    address_of,
    all_float32,
    answer_metadata,
    arg,
    arguments_of,
    attribute,
    bind,
    call1,
    call11,
    error,
    free,
    malloc,
    njit,
    peek,
    poke,
    result,
    results_of,
    right_sizes,
    runs_of,
    text,
    word,
)

# What a handler is told, an attribute of 64-bit words: the launch, the kernel's own numbers, and the arrays' sizes.
_BLOCKS, _THREADS, _SHARED, _NUMBERS = 0, 8, 16, 24
_COUNT = 3  # steps, batch, keep
_SIZES = _NUMBERS + 8 * _COUNT
_API_SIZE, _STREAM_SIZE = ctypes.sizeof(Api), ctypes.sizeof(StreamArgs)
_STREAM_GET, _STREAM = Api.Stream_Get.offset, StreamArgs.stream.offset


def words(kernel, steps, batch, keep, operands, results):
    """The attribute of a launch; operands and results as of one run."""
    sizes = [len(operands), *(math.prod(a.shape) for a in operands)]
    sizes += [len(results), *(math.prod(a.shape) for a in results)]
    blocks = -(-batch // kernel.sequences)
    return np.array([blocks, kernel.threads, kernel.shared, steps, batch, int(keep), *sizes], np.int64)


@njit()
def stream_of(frame, args):
    """An error of XLA's, or 0 and the stream in `args`."""
    poke(args, _STREAM_SIZE)
    poke(args + 8, 0)
    poke(args + 16, peek(frame + CONTEXT))
    poke(args + _STREAM, 0)
    return call1(peek(peek(frame + API) + _STREAM_GET), (args,))


def handle(frame, kernel, launch, streams):
    """What a handler does.

    The rest are a kernel, the address of `cuLaunchKernel`, and whether there are streams.
    """
    if answer_metadata(frame):
        return 0
    if peek(frame) < FRAME_SIZE or peek(peek(frame + API)) < _API_SIZE:
        return error(frame, INTERNAL, text("the structs of this XLA are too small"))
    if not all_float32(frame):
        return error(frame, INVALID_ARGUMENT, text("the kernels read and write float32, and were given another type"))
    told = attribute(frame)
    runs = runs_of(frame, peek(told + _SIZES + 8))
    if not right_sizes(frame, runs, told + _SIZES):
        return error(frame, INVALID_ARGUMENT, text("an array has another size than the kernel was told"))
    operands, results = arguments_of(frame), results_of(frame)
    count = operands + results
    memory = malloc(8 * (_COUNT + 2 * count) + _STREAM_SIZE)
    if memory == 0:
        return error(frame, RESOURCE_EXHAUSTED, text("no memory for a launch"))
    addresses, pointers, args = memory, memory + 8 * (_COUNT + count), memory + 8 * (_COUNT + 2 * count)
    for i in range(_COUNT):
        poke(addresses + 8 * i, told + _NUMBERS + 8 * i)
    for i in range(count):
        array = arg(frame, i) if i < operands else result(frame, i - operands)
        poke(pointers + 8 * i, address_of(array))
        poke(addresses + 8 * (_COUNT + i), pointers + 8 * i)
    failed, stream = 0, 0
    if streams:
        failed = stream_of(frame, args)
        stream = peek(args + _STREAM)
    if failed == 0:
        shape = peek(told + _BLOCKS), runs, 1, peek(told + _THREADS), 1, 1, peek(told + _SHARED)
        if call11(launch, (kernel, *shape, stream, addresses, 0)) & 0xFFFFFFFF:
            failed = error(frame, INTERNAL, text("the driver did not launch a kernel"))
    free(memory)
    return failed


@functools.cache
def _handle():
    return numba.cfunc(word(word, word, word, word), error_model="numpy")(handle)


_lock = threading.Lock()
_registered: set[str] = set()


def register(target, kernel, launch, platform="CUDA"):
    """Registers a handler once; `kernel` and `launch` are addresses."""
    with _lock:
        if target in _registered:
            return
        streams = int(platform == "CUDA")
        jax.ffi.register_ffi_target(target, bind(_handle().address, kernel, launch, streams), platform=platform)
        _registered.add(target)
