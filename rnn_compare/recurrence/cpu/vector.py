"""A type for Numba that is one vector register: WIDTH floats, with + - * / and a few functions.

Plain loops would leave to LLVM whether and how to vectorise; with a vector type compiled
Python says it. LLVM splits a vector that is too wide for the processor.
"""

import operator
import os

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from rnn_compare.recurrence.xla_ffi import inline

# The instructions that kernels may use: the processor's, or fewer, so that each kind can be tested on any machine.
NARROWER = {"": None, "avx2": "haswell", "sse": "nehalem"}
_ASKED = os.environ.get("RNN_COMPARE_INSTRUCTIONS", "")
if _ASKED not in NARROWER:
    raise ValueError(f"RNN_COMPARE_INSTRUCTIONS is {_ASKED!r}, and can be {' or '.join(filter(None, NARROWER))}")
_features = llvmlite.binding.get_host_cpu_features()
CPU = NARROWER[_ASKED] or llvmlite.binding.get_host_cpu_name()
FEATURES = "" if _ASKED else _features.flatten()
# Lanes of a vector, rows of a tile, rows of a tile of gradients.
if _features.get("avx512f") and not _ASKED:
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 16, 4, 6
elif _features.get("avx") and _ASKED != "sse":
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 8, 2, 2  # 16 registers: 2 rows x 4 vectors
else:
    WIDTH, TILE_ROWS, GRADIENT_ROWS = (4, 4, 6) if _features.get("neon") else (4, 2, 2)
LANES = 16  # partial sums of a single number, whatever the width of a vector

_F32, _I32 = ir.FloatType(), ir.IntType(32)
VEC, _INTS = ir.VectorType(_F32, WIDTH), ir.VectorType(_I32, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)
_DOUBLES = ir.VectorType(ir.DoubleType(), WIDTH)
_LONGS = ir.VectorType(ir.IntType(64), WIDTH)
floats = types.CPointer(types.float32)


class Lanes(types.Type):
    def can_convert_from(self, typingctx, other):
        """A number can stand for a vector of that number."""
        return Conversion.safe if isinstance(other, types.Number) else None


class Vec(Lanes):
    def __init__(self):
        super().__init__(name=f"float32x{WIDTH}")


class Doubles(Lanes):
    def __init__(self):
        super().__init__(name=f"float64x{WIDTH}")


vec, doubles = Vec(), Doubles()


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, VEC)


@register_model(Doubles)
class DoublesModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _DOUBLES)


def splat(builder, scalar):
    one = builder.insert_element(ir.Constant(VEC, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(one, ir.Constant(VEC, ir.Undefined), ir.Constant(_INTS, None))


@lower_cast(types.Number, Vec)
def _number_to_vec(context, builder, fromty, toty, value):
    return splat(builder, context.cast(builder, value, fromty, types.float32))


for _operation, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():

    @infer_global(_operation)
    class _(ConcreteTemplate):
        cases = [signature(vec, vec, vec), signature(doubles, doubles, doubles)]

    @lower_builtin(_operation, Doubles, Doubles)
    @lower_builtin(_operation, Vec, Vec)
    def _(context, builder, sig, args, instruction=_instruction):
        return getattr(builder, instruction)(*args)


@infer_global(operator.neg)
class _(ConcreteTemplate):
    cases = [signature(vec, vec)]


@lower_builtin(operator.neg, Vec)
def _(context, builder, sig, args):
    return builder.fneg(args[0])


@infer_global(operator.add)
class _(ConcreteTemplate):
    """Pointer arithmetic as in C: p + i."""

    cases = [signature(floats, floats, types.intp)]


@lower_builtin(operator.add, floats, types.Integer)
def _(context, builder, sig, args):
    return builder.gep(args[0], [args[1]])


def at(builder, pointer, type_=VEC):
    return builder.bitcast(pointer, type_.as_pointer())


def _mask(builder, count):
    """The first `count` lanes."""
    lanes = ir.Constant(_INTS, list(range(WIDTH)))
    count = builder.trunc(count, _I32)
    one = builder.insert_element(ir.Constant(_INTS, ir.Undefined), count, _I32(0))
    counts = builder.shuffle_vector(one, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, None))
    return builder.icmp_signed("<", lanes, counts)


@intrinsic
def load(typingctx, p):
    """The vector at p."""

    def codegen(context, builder, sig, args):
        return builder.load(at(builder, args[0]), align=4)

    return vec(floats), codegen


@intrinsic
def broadcast(typingctx, p):
    """The number at p in every lane."""

    def codegen(context, builder, sig, args):
        return splat(builder, builder.load(args[0]))

    return vec(floats), codegen


@intrinsic
def every_lane(typingctx, number):
    """A number in every lane."""

    def codegen(context, builder, sig, args):
        return context.cast(builder, args[0], sig.args[0], vec)

    return vec(number), codegen


@intrinsic
def store(typingctx, p, value):
    """Writes a vector to p."""

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[1], sig.args[1], vec)
        builder.store(value, at(builder, args[0]), align=4)
        return context.get_dummy_value()

    return types.void(floats, value), codegen


@intrinsic
def store_past_caches(typingctx, p, value):
    """Writes a vector to p, a multiple of its size, to memory alone."""

    def codegen(context, builder, sig, args):
        instruction = builder.store(args[1], at(builder, args[0]), align=4 * WIDTH)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(floats, vec), codegen


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

    return types.void(floats), codegen


def emit_masked_load(builder, pointer, count):
    """The first `count` lanes from a pointer, none if it is not positive, zeros in the rest."""
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(VEC, [VEC.as_pointer(), _I32, _MASK, VEC]),
        f"llvm.masked.load.v{WIDTH}f32.p0",
    )
    return builder.call(function, [at(builder, pointer), _I32(4), _mask(builder, count), ir.Constant(VEC, None)])


@intrinsic
def _masked_load(typingctx, p, count):
    return vec(floats, types.intp), lambda context, builder, sig, args: emit_masked_load(builder, *args)


@inline
def load_some(p, count):
    """The first `count` lanes from p (all if it is WIDTH or more), zeros in the rest."""
    return load(p) if count >= WIDTH else _masked_load(p, count)


@intrinsic
def _store_in_parts(typingctx, p, value, count):
    def codegen(context, builder, sig, args):
        pointer, rest, count = args
        size = WIDTH // 2
        while size:
            there = builder.icmp_unsigned("!=", builder.and_(count, count.type(size)), count.type(0))
            part = ir.VectorType(ir.FloatType(), size)
            with builder.if_then(there):
                lanes = ir.Constant(ir.VectorType(_I32, size), list(range(size)))
                low = builder.shuffle_vector(rest, rest, lanes)
                builder.store(low, builder.bitcast(pointer, part.as_pointer()), align=4)
            lanes = ir.Constant(ir.VectorType(_I32, WIDTH), [(i + size) % WIDTH for i in range(WIDTH)])
            rest = builder.select(there, builder.shuffle_vector(rest, rest, lanes), rest)
            pointer = builder.select(there, builder.gep(pointer, [_I32(size)]), pointer)
            size //= 2
        return context.get_dummy_value()

    return types.void(floats, vec, types.intp), codegen


@inline
def store_some(p, value, count):
    """Writes the first `count` lanes to p, none if it is 0, all if it is WIDTH or more.

    In parts: what a masked store wrote cannot be read back before it has reached the cache.
    """
    if count >= WIDTH:
        store(p, value)
    else:
        _store_in_parts(p, value, count)


def emit_fma(builder, a, b, c):
    """A * b + c, in one instruction where the processor has it."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VEC, [VEC] * 3), f"llvm.fmuladd.v{WIDTH}f32"
    )
    return builder.call(function, [a, b, c])


@intrinsic
def fma(typingctx, a, b, c):
    """A * b + c, rounded once where the processor can; numbers stand for vectors."""

    def codegen(context, builder, sig, args):
        args = [context.cast(builder, arg, type_, vec) for arg, type_ in zip(args, sig.args, strict=True)]
        return emit_fma(builder, *args)

    return vec(a, b, c), codegen


def _limit(condition):
    """An intrinsic that puts the bound where the value is beyond it; NaN stays NaN."""

    @intrinsic
    def limit(typingctx, a, bound):
        def codegen(context, builder, sig, args):
            bound = context.cast(builder, args[1], sig.args[1], vec)
            beyond = builder.fcmp_ordered(condition, args[0], bound)  # false for NaN
            return builder.select(beyond, bound, args[0])

        return vec(vec, bound), codegen

    return limit


at_least, at_most = _limit("<"), _limit(">")


@intrinsic
def power_of_two_bits(typingctx, value):
    """Shifts the bits left by 23: the low bits of the mantissa become the exponent."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], _INTS)
        bits = builder.shl(bits, ir.Constant(_INTS, [23] * WIDTH))
        return builder.bitcast(bits, VEC)

    return vec(vec), codegen


# --- What the pointwise functions are made of. True and false are 1.0 and 0.0.


def _comparison(emit, condition):
    @intrinsic
    def compare(typingctx, a, b):
        def codegen(context, builder, sig, args):
            holds = getattr(builder, emit)(condition, *args)
            return builder.select(holds, ir.Constant(VEC, [1.0] * WIDTH), ir.Constant(VEC, None))

        return vec(vec, vec), codegen

    return compare


less, less_equal = _comparison("fcmp_ordered", "<"), _comparison("fcmp_ordered", "<=")
greater, greater_equal = _comparison("fcmp_ordered", ">"), _comparison("fcmp_ordered", ">=")
equal, not_equal = _comparison("fcmp_ordered", "=="), _comparison("fcmp_unordered", "!=")


@intrinsic
def select(typingctx, which, if_true, if_false):
    """if_true where `which` is not zero."""

    def codegen(context, builder, sig, args):
        zeros = ir.Constant(VEC, None)
        return builder.select(builder.fcmp_unordered("!=", args[0], zeros), *args[1:])

    return vec(vec, vec, vec), codegen


def _call(builder, name, args):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VEC, [VEC] * len(args)), f"llvm.{name}.v{WIDTH}f32"
    )
    return builder.call(function, args)


@intrinsic
def square_root(typingctx, a):
    return vec(vec), lambda context, builder, sig, args: _call(builder, "sqrt", args)


@intrinsic
def absolute(typingctx, a):
    return vec(vec), lambda context, builder, sig, args: _call(builder, "fabs", args)


@intrinsic
def copy_sign(typingctx, size, sign):
    return vec(vec, vec), lambda context, builder, sig, args: _call(builder, "copysign", args)


@intrinsic
def maximum(typingctx, a, b):
    """The larger; NaN if one is NaN."""
    return vec(vec, vec), lambda context, builder, sig, args: _call(builder, "maximum", args)


@intrinsic
def minimum(typingctx, a, b):
    """The smaller; NaN if one is NaN."""
    return vec(vec, vec), lambda context, builder, sig, args: _call(builder, "minimum", args)


def _ints(number):
    return ir.Constant(_INTS, [number] * WIDTH)


@intrinsic
def exponent(typingctx, a):
    """The integer n with sqrt(1/2) <= a / 2**n < sqrt(2), for normal a > 0."""

    def codegen(context, builder, sig, args):
        bits = builder.sub(builder.bitcast(args[0], _INTS), _ints(0x3F3504F3))  # sqrt(1/2)
        return builder.sitofp(builder.ashr(bits, _ints(23)), VEC)

    return vec(vec), codegen


@intrinsic
def add_exponent(typingctx, a, n):
    """A * 2**n for integers n, where a and the result are normal."""

    def codegen(context, builder, sig, args):
        n = builder.shl(builder.fptosi(args[1], _INTS), _ints(23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], _INTS), n), VEC)

    return vec(vec, vec), codegen


# --- WIDTH doubles, for what 24 bits are too few for.


@lower_cast(types.Number, Doubles)
def _number_to_doubles(context, builder, fromty, toty, value):
    undefined = ir.Constant(_DOUBLES, ir.Undefined)
    one = builder.insert_element(undefined, context.cast(builder, value, fromty, types.float64), _I32(0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_INTS, None))


@intrinsic
def widen(typingctx, a):
    return doubles(vec), lambda context, builder, sig, args: builder.fpext(args[0], _DOUBLES)


@intrinsic
def narrow(typingctx, a):
    return vec(doubles), lambda context, builder, sig, args: builder.fptrunc(args[0], VEC)


@intrinsic
def bit(typingctx, a, i):
    """Bit i of the mantissa, from the lowest on: 1.0 or 0.0."""

    def codegen(context, builder, sig, args):
        bits = builder.trunc(builder.bitcast(args[0], _LONGS), _INTS)
        mask = builder.shl(_I32(1), builder.trunc(args[1], _I32))
        one = builder.insert_element(ir.Constant(_INTS, ir.Undefined), mask, _I32(0))
        masks = builder.shuffle_vector(one, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, None))
        is_set = builder.icmp_signed("!=", builder.and_(bits, masks), _ints(0))
        return builder.select(is_set, ir.Constant(VEC, [1.0] * WIDTH), ir.Constant(VEC, None))

    return vec(doubles, types.intp), codegen
