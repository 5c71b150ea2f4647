"""A bridge from XLA's foreign function interface (FFI) to Numba, without a C compiler.

XLA calls a *handler*: a C function that gets the address of a call frame, a C struct that `xla/ffi/api/c_api.h`
describes (jaxlib ships it, see `jax.ffi.include_dir()`). Here a handler is a Numba `cfunc`. The structs are described
with ctypes, only to let ctypes compute the offsets of their fields; compiled code then reads at address + offset.
"""

import ctypes
import functools
import sys
from ctypes import c_int, c_int64, c_size_t, c_uint32, c_void_p

import jax
import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# Only other compiled code calls what is compiled: Numba need not make it callable from Python.
njit = functools.partial(numba.njit, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
inline = njit(forceinline=True)

# --- The C structs.


def _struct(name, *fields):
    """A ctypes struct; like all of them in the API it begins with its size and extensions."""
    header = [("struct_size", c_size_t), ("extension_start", c_void_p)]
    return type(name, (ctypes.Structure,), {"_fields_": header + list(fields)})


class Extension(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("type", c_int), ("next", c_void_p)]


ApiVersion = _struct("ApiVersion", ("major", c_int), ("minor", c_int))


class Metadata(ctypes.Structure):
    _fields_ = [("struct_size", c_size_t), ("api_version", ApiVersion), ("traits", c_uint32)]


class MetadataExtension(ctypes.Structure):
    _fields_ = [("base", Extension), ("metadata", c_void_p)]


Buffer = _struct("Buffer", ("dtype", c_int), ("data", c_void_p), ("rank", c_int64), ("dims", c_void_p))
# XLA_FFI_Args, XLA_FFI_Rets: arguments and results are arrays of pointers to buffers
Buffers = _struct("Buffers", ("size", c_int64), ("types", c_void_p), ("items", c_void_p))
Attrs = _struct("Attrs", ("size", c_int64), ("types", c_void_p), ("names", c_void_p), ("items", c_void_p))


class Array(ctypes.Structure):
    _fields_ = [("dtype", c_int), ("size", c_size_t), ("data", c_void_p)]


CallFrame = _struct(
    "CallFrame",
    ("api", c_void_p),
    ("context", c_void_p),
    ("stage", c_int),
    ("args", Buffers),
    ("results", Buffers),
    ("attrs", Attrs),
)
ScheduleArgs = _struct("ScheduleArgs", ("context", c_void_p), ("task", c_void_p), ("data", c_void_p))
StreamArgs = _struct("StreamArgs", ("context", c_void_p), ("stream", c_void_p))
NumThreadsArgs = _struct("NumThreadsArgs", ("context", c_void_p), ("num_threads", c_void_p))
ErrorDestroyArgs = _struct("ErrorDestroyArgs", ("error", c_void_p))
ErrorCreateArgs = _struct("ErrorCreateArgs", ("message", c_void_p), ("code", c_int))
API_FUNCTIONS = (
    "Error_Create",
    "Error_GetMessage",
    "Error_Destroy",
    "Handler_Register",
    "Stream_Get",
    "Type_Register",
    "ExecutionContext_Get",
    "State_Set",
    "State_Get",
    "DeviceMemory_Allocate",
    "DeviceMemory_Free",
    "ThreadPool_Schedule",
    "ThreadPool_NumThreads",
)
Api = _struct(
    "Api",
    ("version", ApiVersion),
    ("internal", c_void_p),
    *((function, c_void_p) for function in API_FUNCTIONS),
)

# What the structs above describe: XLA itself refuses a handler of another major version
# and fields are only ever appended within one; each struct carries its size besides.
API_MAJOR, API_MINOR = 0, 1
METADATA_EXTENSION = 1
FLOAT32 = 11
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, INTERNAL = 3, 8, 13

# --- Memory at an address.

word = types.int64
floats = types.CPointer(types.float32)


def _address(builder, value, type_):
    return builder.inttoptr(value, type_.as_pointer())


@intrinsic
def peek(typingctx, address):
    """The 64-bit word at an address."""

    def codegen(context, builder, signature, args):
        return builder.load(_address(builder, args[0], ir.IntType(64)))

    return word(word), codegen


@intrinsic
def peek32(typingctx, address):
    """The 32-bit integer at an address."""

    def codegen(context, builder, signature, args):
        value = builder.load(_address(builder, args[0], ir.IntType(32)))
        return builder.sext(value, ir.IntType(64))

    return word(word), codegen


@intrinsic
def poke(typingctx, address, value):
    """Writes a 64-bit word."""

    def codegen(context, builder, signature, args):
        builder.store(args[1], _address(builder, args[0], ir.IntType(64)))
        return context.get_dummy_value()

    return types.void(word, word), codegen


@intrinsic
def poke32(typingctx, address, value):
    """Writes a 32-bit integer."""

    def codegen(context, builder, signature, args):
        value = builder.trunc(args[1], ir.IntType(32))
        builder.store(value, _address(builder, args[0], ir.IntType(32)))
        return context.get_dummy_value()

    return types.void(word, word), codegen


@intrinsic
def fetch_add(typingctx, address, value):
    """Adds to a 64-bit word atomically (a full barrier) and returns what was there before."""

    def codegen(context, builder, signature, args):
        pointer = _address(builder, args[0], ir.IntType(64))
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return word(word, word), codegen


@intrinsic
def as_floats(typingctx, address):
    """The address as a pointer to float32."""

    def codegen(context, builder, signature, args):
        return _address(builder, args[0], ir.FloatType())

    return floats(word), codegen


@intrinsic
def address_of(typingctx, pointer):
    """The address that a pointer holds."""
    return word(pointer), lambda context, builder, signature, args: builder.ptrtoint(args[0], ir.IntType(64))


def _caller(count):
    @intrinsic
    def call(typingctx, function, arguments):
        """Calls the C function at an address with a tuple of words; returns a word."""

        def codegen(context, builder, signature, args):
            i64 = ir.IntType(64)
            c_type = ir.FunctionType(i64, [i64] * count)
            values = [builder.extract_value(args[1], i) for i in range(count)]
            return builder.call(_address(builder, args[0], c_type), values)

        return word(word, types.UniTuple(word, count)), codegen

    return call


call1, call5, call11 = map(_caller, (1, 5, 11))


@intrinsic(prefer_literal=True)
def text(typingctx, string):
    """The address of a constant C string."""

    def codegen(context, builder, signature, args):
        pointer = context.insert_const_string(builder.module, string.literal_value)
        return builder.ptrtoint(pointer, ir.IntType(64))

    return word(string), codegen


_BOUND = """
define i64 @bound(i64 %frame) {{
  %result = call i64 inttoptr (i64 {} to ptr)(i64 %frame, {})
  ret i64 %result
}}
"""
_engines: list = []  # never freed: XLA may call at any time


def bind(function, *words):
    """A handler for `jax.ffi.register_ffi_target`: the C function at an address, bound to more words.

    They are addresses of this process, so there is nothing to be kept on the disk. LLVM's text compiles in a
    millisecond; the same by Numba took 0.3 s for each kernel of every process.
    """
    module = llvm.parse_assembly(_BOUND.format(function, ", ".join(f"i64 {word}" for word in words)))
    engine = llvm.create_mcjit_compiler(module, llvm.Target.from_default_triple().create_target_machine(jit=True))
    engine.finalize_object()
    _engines.append(engine)
    return jax.ffi.pycapsule(ctypes.c_void_p(engine.get_function_address("bound")))


malloc = types.ExternalFunction("malloc", word(word))
free = types.ExternalFunction("free", types.void(word))

# --- Reading a call frame.

_ARGS = CallFrame.args.offset + Buffers.items.offset
_RESULTS = CallFrame.results.offset + Buffers.items.offset
_ATTRS = CallFrame.attrs.offset + Attrs.items.offset
_COUNT, _ITEMS, _DTYPE = Buffers.size.offset, Buffers.items.offset, Buffer.dtype.offset
_ARRAY_DATA = Array.data.offset
_DATA, _DIMS, _RANK = Buffer.data.offset, Buffer.dims.offset, Buffer.rank.offset


@njit()
def arg(frame, i):
    """The data of argument i."""
    return as_floats(peek(peek(peek(frame + _ARGS) + 8 * i) + _DATA))


@njit()
def result(frame, i):
    """The data of result i."""
    return as_floats(peek(peek(peek(frame + _RESULTS) + 8 * i) + _DATA))


@njit()
def arguments_of(frame):
    """How many arguments there are."""
    return peek(frame + _ARGS - _ITEMS + _COUNT)


@njit()
def results_of(frame):
    """How many results there are."""
    return peek(frame + _RESULTS - _ITEMS + _COUNT)


@njit()
def _size(buffer):
    """The number of elements of a buffer."""
    size = 1
    for axis in range(peek(buffer + _RANK)):
        size *= peek(peek(buffer + _DIMS) + 8 * axis)
    return size


@njit()
def attribute(frame):
    """The data of a handler's only attribute, an array of 64-bit words."""
    return peek(peek(peek(frame + _ATTRS)) + _ARRAY_DATA)


@njit()
def runs_of(frame, size):
    """How many runs argument 0 holds, if one has so many elements."""
    return _size(peek(peek(frame + _ARGS))) // size


@njit()
def right_sizes(frame, runs, sizes):
    """Whether arguments and results have so many elements: the words at `sizes`, first how many there are of them.

    Each is the size of one run.
    """
    for buffers in (frame + _ARGS - _ITEMS, frame + _RESULTS - _ITEMS):
        if peek(buffers + _COUNT) != peek(sizes):
            return False
        for i in range(peek(sizes)):
            if _size(peek(peek(buffers + _ITEMS) + 8 * i)) != runs * peek(sizes + 8 * (i + 1)):
                return False
        sizes += 8 * (peek(sizes) + 1)
    return True


@njit()
def all_float32(frame):
    """Whether every argument and every result is float32, the only type that handlers read and write."""
    for buffers in (frame + _ARGS - _ITEMS, frame + _RESULTS - _ITEMS):
        for i in range(peek(buffers + _COUNT)):
            if peek32(peek(peek(buffers + _ITEMS) + 8 * i) + _DTYPE) != FLOAT32:
                return False
    return True


_HUGE_PAGES_FROM, _PAGE, _MADV_HUGEPAGE = 1 << 22, 4096, 14

if sys.platform == "linux":
    _madvise = types.ExternalFunction("madvise", types.int32(word, word, types.int32))

    @njit()
    def use_huge_pages(address, size):
        """Lets Linux back memory of so many bytes, if it is much, with 2 MB pages.

        Where it is fresh from the system, touching it page by page can cost as much as computing what is in it. Where
        the system doesn't want that, nothing happens.
        """
        start = (address + _PAGE - 1) // _PAGE * _PAGE
        if size > _HUGE_PAGES_FROM:
            _madvise(start, (address + size - start) // _PAGE * _PAGE, _MADV_HUGEPAGE)
else:

    @njit()
    def use_huge_pages(address, size):
        """Does nothing outside Linux."""


@njit()
def use_huge_pages_for_results(frame):
    """XLA's memory for them is fresh from the system."""
    for i in range(results_of(frame)):
        buffer = peek(peek(frame + _RESULTS) + 8 * i)
        use_huge_pages(peek(buffer + _DATA), 4 * _size(buffer))


# --- Answering XLA.

FRAME_SIZE = ctypes.sizeof(CallFrame)
_EXTENSIONS = CallFrame.extension_start.offset
API, CONTEXT = CallFrame.api.offset, CallFrame.context.offset
_EXTENSION_TYPE = Extension.type.offset
_METADATA = MetadataExtension.metadata.offset
_MAJOR = Metadata.api_version.offset + ApiVersion.major.offset
_MINOR = Metadata.api_version.offset + ApiVersion.minor.offset
_TRAITS = Metadata.traits.offset


@njit()
def answer_metadata(frame):
    """Whether XLA only asked which API version the handler is for; answers it if so."""
    extension = peek(frame + _EXTENSIONS)
    if extension == 0 or peek32(extension + _EXTENSION_TYPE) != METADATA_EXTENSION:
        return False
    metadata = peek(extension + _METADATA)
    poke32(metadata + _MAJOR, API_MAJOR)
    poke32(metadata + _MINOR, API_MINOR)
    poke32(metadata + _TRAITS, 0)
    return True


_ERROR_CREATE = Api.Error_Create.offset
_ERROR_CREATE_SIZE = ctypes.sizeof(ErrorCreateArgs)
_MESSAGE, _CODE = ErrorCreateArgs.message.offset, ErrorCreateArgs.code.offset


@njit()
def error(frame, code, message):
    """An error for XLA, which it raises in Python; `message` is a `text`."""
    args = malloc(_ERROR_CREATE_SIZE)
    poke(args, _ERROR_CREATE_SIZE)
    poke(args + 8, 0)
    poke(args + _MESSAGE, message)
    poke32(args + _CODE, code)
    made = call1(peek(peek(frame + API) + _ERROR_CREATE), (args,))
    free(args)
    return made
