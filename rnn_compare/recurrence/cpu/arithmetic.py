"""What functions of vectors are made of; numbers may stand for vectors, but not for all of them."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rnn_compare.recurrence.cpu.vector import Vector, all_, common, integers, spread

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def call(builder, name, *args):
    """LLVM's intrinsic function of such a name."""
    type_ = args[0].type
    name = f"llvm.{name}.v{type_.count}f32"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(type_, [type_] * len(args)), name)
    return builder.call(function, args)


def _calling(name, count):
    """An intrinsic that is LLVM's."""

    def emit(context, builder, sig, args):
        return call(builder, name, *args)

    @intrinsic
    def one(typingctx, a):
        return a(a), emit

    @intrinsic
    def two(typingctx, a, b):
        vector = common(a, b)
        return vector(vector, vector), emit

    @intrinsic
    def three(typingctx, a, b, c):
        vector = common(a, b, c)
        return vector(vector, vector, vector), emit

    return (one, two, three)[count - 1]


fma = _calling("fmuladd", 3)  # a * b + c, in one instruction and rounded once where the processor has it
square_root, absolute = _calling("sqrt", 1), _calling("fabs", 1)
copy_sign = _calling("copysign", 2)  # of the size, the sign
maximum, minimum = _calling("maximum", 2), _calling("minimum", 2)  # NaN if one is NaN


def _limit(condition):
    """An intrinsic that puts the bound where the value is beyond it; NaN stays NaN."""

    @intrinsic
    def limit(typingctx, a, bound):
        vector = common(a, bound)

        def codegen(context, builder, sig, args):
            beyond = builder.fcmp_ordered(condition, *args)  # false for NaN
            return builder.select(beyond, args[1], args[0])

        return vector(vector, vector), codegen

    return limit


at_least, at_most = _limit("<"), _limit(">")


def _comparison(emit, condition):
    """An intrinsic that compares; true and false are 1.0 and 0.0."""

    @intrinsic
    def compare(typingctx, a, b):
        vector = common(a, b)

        def codegen(context, builder, sig, args):
            holds = getattr(builder, emit)(condition, *args)
            return builder.select(holds, all_(vector.llvm, 1.0), all_(vector.llvm, 0.0))

        return vector(vector, vector), codegen

    return compare


less, less_equal = _comparison("fcmp_ordered", "<"), _comparison("fcmp_ordered", "<=")
greater, greater_equal = _comparison("fcmp_ordered", ">"), _comparison("fcmp_ordered", ">=")
equal, not_equal = _comparison("fcmp_ordered", "=="), _comparison("fcmp_unordered", "!=")


@intrinsic
def select(typingctx, which, if_true, if_false):
    """if_true where `which` is not zero."""
    vector = common(which, if_true, if_false)

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_unordered("!=", args[0], all_(vector.llvm, 0.0)), *args[1:])

    return vector(vector, vector, vector), codegen


@intrinsic
def power_of_two_bits(typingctx, value):
    """Shifts the bits left by 23: the low bits of the mantissa become the exponent."""

    def codegen(context, builder, sig, args):
        ints = integers(value)
        bits = builder.shl(builder.bitcast(args[0], ints), all_(ints, 23))
        return builder.bitcast(bits, value.llvm)

    return value(value), codegen


@intrinsic
def exponent(typingctx, a):
    """The integer n with sqrt(1/2) <= a / 2**n < sqrt(2), for normal a > 0."""

    def codegen(context, builder, sig, args):
        ints = integers(a)
        bits = builder.sub(builder.bitcast(args[0], ints), all_(ints, 0x3F3504F3))  # sqrt(1/2)
        return builder.sitofp(builder.ashr(bits, all_(ints, 23)), a.llvm)

    return a(a), codegen


@intrinsic
def add_exponent(typingctx, a, n):
    """A * 2**n for integers n, where a and the result are normal."""
    vector = common(a, n)

    def codegen(context, builder, sig, args):
        ints = integers(vector)
        n = builder.shl(builder.fptosi(args[1], ints), all_(ints, 23))
        return builder.bitcast(builder.add(builder.bitcast(args[0], ints), n), vector.llvm)

    return vector(vector, vector), codegen


# --- Doubles, for what 24 bits are too few for.


@intrinsic
def widen(typingctx, a):
    """As doubles."""
    doubles = Vector(a.width, types.float64)
    return doubles(a), lambda context, builder, sig, args: builder.fpext(args[0], doubles.llvm)


@intrinsic
def narrow(typingctx, a):
    """Doubles as floats."""
    vector = Vector(a.width)
    return vector(a), lambda context, builder, sig, args: builder.fptrunc(args[0], vector.llvm)


@intrinsic
def bit(typingctx, a, i):
    """Bit i of the mantissa of doubles, from the lowest on: 1.0 or 0.0."""
    vector = Vector(a.width)

    def codegen(context, builder, sig, args):
        ints = integers(a)
        bits = builder.trunc(builder.bitcast(args[0], integers(a, _I64)), ints)
        mask = spread(builder, builder.shl(_I32(1), builder.trunc(args[1], _I32)), ints)
        is_set = builder.icmp_signed("!=", builder.and_(bits, mask), all_(ints, 0))
        return builder.select(is_set, all_(vector.llvm, 1.0), all_(vector.llvm, 0.0))

    return vector(a, types.intp), codegen
