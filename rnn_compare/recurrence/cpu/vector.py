"""Types for Numba that are vector registers, with + - * / and a few functions: float32 and float64 of so many lanes.

Plain loops would leave to LLVM whether and how to vectorise; with a vector type compiled Python says it. How wide
vectors are is a matter of the pointer that they are read from and written to: see `lanes`. LLVM splits a vector that is
too wide for the processor.
"""

import functools
import operator
import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from rnn_compare.recurrence.xla_ffi import floats, inline

# The instructions that kernels may use: the processor's, or fewer, so that each kind can be tested on any machine.
NARROWER = {"": None, "avx2": "haswell", "sse": "nehalem"}
_ASKED = os.environ.get("RNN_COMPARE_INSTRUCTIONS", "")
if _ASKED not in NARROWER:
    raise ValueError(f"RNN_COMPARE_INSTRUCTIONS is {_ASKED!r}, and can be {' or '.join(filter(None, NARROWER))}")
_features = llvmlite.binding.get_host_cpu_features()
CPU = NARROWER[_ASKED] or llvmlite.binding.get_host_cpu_name()
FEATURES = "" if _ASKED else _features.flatten()
# Lanes of the widest vector, rows of a tile, rows of a tile of gradients.
if _features.get("avx512f") and not _ASKED:
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 16, 4, 6
elif _features.get("avx") and _ASKED != "sse":
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 8, 2, 2  # 16 registers: 2 rows x 4 vectors
else:
    WIDTH, TILE_ROWS, GRADIENT_ROWS = (4, 4, 6) if _features.get("neon") else (4, 2, 2)
LEAST_WIDTH = 4
LANES = 16  # partial sums of a single number, whatever the width of a vector

_F32, _F64, _I32, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(32), ir.IntType(64)


# --- The types.


class Vector(types.Type):
    """So many floats or doubles."""

    def __init__(self, width, element=types.float32):
        super().__init__(name=f"{element}x{width}")
        self.width, self.element = width, element
        self.llvm = ir.VectorType(_F32 if element == types.float32 else _F64, width)

    def can_convert_from(self, typingctx, other):
        """A number can stand for a vector of that number."""
        return Conversion.safe if isinstance(other, types.Number) else None


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, fe_type.llvm)


class Floats(types.CPointer):
    """A pointer to floats of which so many make a vector."""

    def __init__(self, width):
        super().__init__(types.float32)
        self.name, self.width = f"float32x{width}*", width

    @property
    def key(self):
        """What tells it from other types."""
        return self.name


register_model(Floats)(models.PointerModel)


def width_of(pointer):
    """The lanes of the vectors that a type of pointers is for; `xla_ffi.floats` is for the widest."""
    return pointer.width if isinstance(pointer, Floats) else WIDTH


def vector_at(pointer):
    """The type of the vectors that a type of pointers is for."""
    return Vector(width_of(pointer))


def width_for(units):
    """The lanes of the vectors for so many units: no more than hold them, as empty lanes cost as much as others."""
    width = LEAST_WIDTH
    while width < min(units, WIDTH):
        width *= 2
    return width


@functools.cache
def lanes(count):
    """Makes a function that turns a pointer into one for vectors of so many lanes."""
    type_ = floats if count == WIDTH else Floats(count)

    @intrinsic
    def pointer(typingctx, p):
        return type_(p), lambda context, builder, sig, args: args[0]

    return pointer


@intrinsic
def lanes_like(typingctx, p, other):
    """A pointer as one for vectors of the lanes of another's."""
    return other(p, other), lambda context, builder, sig, args: args[0]


@intrinsic
def width(typingctx, p):
    """The lanes of a pointer's vectors."""
    return types.intp(p), lambda context, builder, sig, args: _I64(width_of(p))


def common(*args):
    """The type of vectors among arguments, of which some may be numbers; None if all are."""
    return next((arg for arg in args if isinstance(arg, Vector)), None)


def integers(vector, bits=_I32):
    """LLVM's type of as many integers."""
    return ir.VectorType(bits, vector.width)


def all_(type_, number):
    """A constant in every lane."""
    return ir.Constant(type_, [number] * type_.count)


def spread(builder, scalar, type_):
    """A number in every lane of one of LLVM's vector types."""
    undefined = ir.Constant(type_, ir.Undefined)
    one = builder.insert_element(undefined, scalar, _I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_I32, type_.count), None))


def splat(builder, scalar, vector):
    """A number in every lane of a vector."""
    return spread(builder, scalar, vector.llvm)


@lower_cast(types.Number, Vector)
def _number_to_vector(context, builder, fromty, toty, value):
    return splat(builder, context.cast(builder, value, fromty, toty.element), toty)


# --- Operators.

for _operation, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():

    @infer_global(_operation)
    class _(AbstractTemplate):
        def generic(self, args, kws):
            type_ = common(*args)
            return type_ and signature(type_, type_, type_)

    @lower_builtin(_operation, Vector, Vector)
    def _(context, builder, sig, args, instruction=_instruction):
        return getattr(builder, instruction)(*args)


@infer_global(operator.neg)
class _(AbstractTemplate):
    def generic(self, args, kws):
        return signature(args[0], args[0]) if isinstance(args[0], Vector) else None


@lower_builtin(operator.neg, Vector)
def _(context, builder, sig, args):
    return builder.fneg(args[0])


@infer_global(operator.add)
class _(AbstractTemplate):
    """Pointer arithmetic as in C: p + i."""

    def generic(self, args, kws):
        here = isinstance(args[0], types.CPointer) and isinstance(args[1], types.Integer)
        return signature(args[0], args[0], types.intp) if here else None


@lower_builtin(operator.add, types.CPointer, types.Integer)
def _(context, builder, sig, args):
    return builder.gep(args[0], [args[1]])


# --- Memory.


def at(builder, pointer, type_):
    """A pointer as one to one of LLVM's types."""
    return builder.bitcast(pointer, type_.as_pointer())


def emit_load(builder, pointer, vector):
    """The vector at a pointer."""
    return builder.load(at(builder, pointer, vector.llvm), align=4)


def emit_store(builder, value, pointer, align=4):
    """Writes a vector to a pointer."""
    return builder.store(value, at(builder, pointer, value.type), align=align)


@intrinsic
def load(typingctx, p):
    """The vector at p."""
    vector = vector_at(p)
    return vector(p), lambda context, builder, sig, args: emit_load(builder, args[0], vector)


@intrinsic
def broadcast(typingctx, p):
    """The number at p in every lane."""
    vector = vector_at(p)
    return vector(p), lambda context, builder, sig, args: splat(builder, builder.load(args[0]), vector)


@intrinsic
def every_lane(typingctx, p, number):
    """A number in every lane of a vector as they are at p."""
    vector = vector_at(p)
    return vector(p, vector), lambda context, builder, sig, args: args[1]


@intrinsic
def both(typingctx, a, b):
    """Two vectors, one of which may be a number."""
    vector = common(a, b)
    pair = types.UniTuple(vector, 2)
    return pair(vector, vector), lambda context, builder, sig, args: cgutils.pack_array(builder, args)


@intrinsic
def store(typingctx, p, value):
    """Writes a vector to p."""

    def codegen(context, builder, sig, args):
        emit_store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(p, vector_at(p)), codegen


@intrinsic
def store_past_caches(typingctx, p, value):
    """Writes a vector to p, a multiple of its size, to memory alone."""

    def codegen(context, builder, sig, args):
        instruction = emit_store(builder, args[1], args[0], align=4 * width_of(p))
        instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(p, vector_at(p)), codegen


@intrinsic
def prefetch(typingctx, p):
    """Asks for the cache line at p, which may lie outside of any array."""

    def codegen(context, builder, sig, args):
        pointer = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32]),
            "llvm.prefetch.p0",
        )
        address = builder.bitcast(args[0], pointer)
        builder.call(function, [address, _I32(0), _I32(3), _I32(1)])
        return context.get_dummy_value()

    return types.void(p), codegen


def emit_masked_load(builder, pointer, count, vector):
    """The first `count` lanes from a pointer, none if it is not positive, zeros in the rest."""
    llvm, whole = vector.llvm, integers(vector)
    first = ir.Constant(whole, list(range(vector.width)))
    mask = builder.icmp_signed("<", first, spread(builder, builder.trunc(count, _I32), whole))
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(llvm, [llvm.as_pointer(), _I32, mask.type, llvm]),
        f"llvm.masked.load.v{vector.width}f32.p0",
    )
    return builder.call(function, [at(builder, pointer, llvm), _I32(4), mask, ir.Constant(llvm, None)])


@intrinsic
def _masked_load(typingctx, p, count):
    vector = vector_at(p)
    return vector(p, types.intp), lambda context, builder, sig, args: emit_masked_load(builder, *args, vector)


@inline
def load_some(p, count):
    """The first `count` lanes from p (all if it is as many or more), zeros in the rest."""
    return load(p) if count >= width(p) else _masked_load(p, count)


@intrinsic
def _store_in_parts(typingctx, p, value, count):
    def codegen(context, builder, sig, args):
        pointer, value, count = args
        rest = builder.bitcast(cgutils.alloca_once_value(builder, value), pointer.type)
        size = value.type.count // 2
        while size:
            many = builder.and_(count, count.type(size))
            with builder.if_then(builder.icmp_unsigned("!=", many, count.type(0))):
                emit_store(builder, emit_load(builder, rest, Vector(size)), pointer)
            rest, pointer = (builder.gep(address, [many]) for address in (rest, pointer))
            size //= 2
        return context.get_dummy_value()

    return types.void(p, vector_at(p), types.intp), codegen


@inline
def store_some(p, value, count):
    """Writes the first `count` lanes to p, none if it is 0, all if it is as many as there are or more.

    In parts, by way of the stack: what a masked store wrote cannot be read back before it has reached the cache, and
    LLVM 22.1 fails on a single lane that is shuffled out of what was selected (its pull request 185713).
    """
    if count >= width(p):
        store(p, value)
    else:
        _store_in_parts(p, value, count)
