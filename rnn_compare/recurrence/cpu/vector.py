"""A type for Numba that is one vector register: WIDTH floats, with + - * / and a few functions.

Plain loops would leave to LLVM whether and how to vectorise; with a vector type compiled
Python says it. LLVM splits a vector that is too wide for the processor.
"""

import operator

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typeconv import Conversion
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

_features = llvmlite.binding.get_host_cpu_features()
if _features.get("avx512f"):
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 16, 4, 6
elif _features.get("avx"):
    WIDTH, TILE_ROWS, GRADIENT_ROWS = 8, 2, 2  # 16 registers: 2 rows x 4 vectors
else:
    WIDTH, TILE_ROWS, GRADIENT_ROWS = (4, 4, 6) if _features.get("neon") else (4, 2, 2)

_F32, _I32 = ir.FloatType(), ir.IntType(32)
_VEC, _INTS = ir.VectorType(_F32, WIDTH), ir.VectorType(_I32, WIDTH)
_MASK = ir.VectorType(ir.IntType(1), WIDTH)
floats = types.CPointer(types.float32)


class Vec(types.Type):
    def __init__(self):
        super().__init__(name=f"float32x{WIDTH}")

    def can_convert_from(self, typingctx, other):
        """A number can stand for a vector of that number."""
        return Conversion.safe if isinstance(other, types.Number) else None


vec = Vec()


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    def __init__(self, manager, fe_type):
        super().__init__(manager, fe_type, _VEC)


def _splat(builder, scalar):
    one = builder.insert_element(ir.Constant(_VEC, ir.Undefined), scalar, _I32(0))
    return builder.shuffle_vector(one, ir.Constant(_VEC, ir.Undefined), ir.Constant(_INTS, None))


@lower_cast(types.Number, Vec)
def _number_to_vec(context, builder, fromty, toty, value):
    return _splat(builder, context.cast(builder, value, fromty, types.float32))


for _operation, _instruction in {
    operator.add: "fadd",
    operator.sub: "fsub",
    operator.mul: "fmul",
    operator.truediv: "fdiv",
}.items():

    @infer_global(_operation)
    class _(ConcreteTemplate):
        cases = [signature(vec, vec, vec)]

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


def _at(builder, pointer, type_=_VEC):
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
        return builder.load(_at(builder, args[0]), align=4)

    return vec(floats), codegen


@intrinsic
def store(typingctx, p, value):
    """Writes a vector to p."""

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[1], sig.args[1], vec)
        builder.store(value, _at(builder, args[0]), align=4)
        return context.get_dummy_value()

    return types.void(floats, value), codegen


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


@intrinsic
def _masked_load(typingctx, p, count):

    def codegen(context, builder, sig, args):
        pointer = _VEC.as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_VEC, [pointer, _I32, _MASK, _VEC]),
            f"llvm.masked.load.v{WIDTH}f32.p0",
        )
        mask = _mask(builder, args[1])
        return builder.call(function, [_at(builder, args[0]), _I32(4), mask, ir.Constant(_VEC, None)])

    return vec(floats, types.intp), codegen


@intrinsic
def _masked_store(typingctx, p, value, count):

    def codegen(context, builder, sig, args):
        pointer = _VEC.as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [_VEC, pointer, _I32, _MASK]),
            f"llvm.masked.store.v{WIDTH}f32.p0",
        )
        mask = _mask(builder, args[2])
        builder.call(function, [args[1], _at(builder, args[0]), _I32(4), mask])
        return context.get_dummy_value()

    return types.void(floats, vec, types.intp), codegen


@numba.njit(forceinline=True)
def load_some(p, count):
    """The first `count` lanes from p (all if it is WIDTH or more), zeros in the rest."""
    return load(p) if count >= WIDTH else _masked_load(p, count)


@numba.njit(forceinline=True)
def store_some(p, value, count):
    """Writes the first `count` lanes to p (all if it is WIDTH or more)."""
    if count >= WIDTH:
        store(p, value)
    else:
        _masked_store(p, value, count)


def _fma(builder, a, b, c):
    """A * b + c, in one instruction where the processor has it."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VEC, [_VEC] * 3), f"llvm.fmuladd.v{WIDTH}f32"
    )
    return builder.call(function, [a, b, c])


@intrinsic
def fma(typingctx, a, b, c):
    """A * b + c, rounded once where the processor can; numbers stand for vectors."""

    def codegen(context, builder, sig, args):
        args = [context.cast(builder, arg, type_, vec) for arg, type_ in zip(args, sig.args, strict=True)]
        return _fma(builder, *args)

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
        return builder.bitcast(bits, _VEC)

    return vec(vec), codegen


def _tile(builder, rows, columns, a, a_row, a_k, a_column, w, w_k, count, start):
    """Emits a tile of sums, sums[g][n] = start(g, n) + sum over k < count of a(g, n, k) * w(k, n).

    a(g, n, k) is a[g * a_row + n * a_column + k * a_k], and w(k, n) the vector at w + k * w_k + n * WIDTH.
    """
    slots = [[cgutils.alloca_once(builder, _VEC) for _ in range(columns)] for _ in range(rows)]
    for g in range(rows):
        for n in range(columns):
            builder.store(start(g, n), slots[g][n])
    i64 = ir.IntType(64)
    with cgutils.for_range(builder, count, intp=i64) as loop:
        a_here = builder.gep(a, [builder.mul(loop.index, a_k)])
        w_here = builder.gep(w, [builder.mul(loop.index, w_k)])
        weights = [builder.load(_at(builder, builder.gep(w_here, [i64(n * WIDTH)])), align=4) for n in range(columns)]
        for g in range(rows):
            row = builder.gep(a_here, [builder.mul(i64(g), a_row)])
            factor = None
            for n in range(columns):
                if factor is None or a_column:
                    element = builder.gep(row, [i64(n * a_column)])
                    factor = _splat(builder, builder.load(element))
                sum_ = _fma(builder, factor, weights[n], builder.load(slots[g][n]))
                builder.store(sum_, slots[g][n])
    return [[builder.load(slot) for slot in row] for row in slots]


@intrinsic(prefer_literal=True)
def multiply_tile(typingctx, rows, columns, a, a_row, a_k, w, w_k, count, c, c_row, add):
    """A small matrix product that stays in registers: `rows` rows x `columns` vectors.

    c[g, n] = (c[g, n] if add else 0) + sum over k < count of a[g, k] * w[k, n],

    where c[g, n] and w[k, n] are vectors, at c + g * c_row + n * WIDTH and
    w + k * w_k + n * WIDTH, and a[g, k] is the number at a + g * a_row + k * a_k.
    """
    height, width, add_to = rows.literal_value, columns.literal_value, add.literal_value

    def codegen(context, builder, sig, args):
        _, _, a, a_row, a_k, w, w_k, count, c, c_row, _ = args
        i64 = ir.IntType(64)

        def at(g, n):
            offset = builder.add(builder.mul(i64(g), c_row), i64(n * WIDTH))
            return _at(builder, builder.gep(c, [offset]))

        # c is added last: over a long sequence, partial sums of blocks round far less than one running sum.
        sums = _tile(builder, height, width, a, a_row, a_k, 0, w, w_k, count, lambda g, n: ir.Constant(_VEC, None))
        for g in range(height):
            for n in range(width):
                total = builder.fadd(builder.load(at(g, n), align=4), sums[g][n]) if add_to else sums[g][n]
                builder.store(total, at(g, n), align=4)
        return context.get_dummy_value()

    i = types.intp
    return (
        types.void(rows, columns, floats, i, i, floats, i, i, floats, i, add),
        codegen,
    )


@intrinsic(prefer_literal=True)
def multiply_sum_tile(typingctx, columns, a, a_row, w, count, c, c_row):
    """TILE_ROWS rows x one vector, as the sum of `columns` independent partial sums.

    c[g] += sum over n < columns, k < count of a[g, n, k] * w[k, n],

    where a[g, n, k] is the number at a + g * a_row + n * WIDTH + k,
    c[g] the vector at c + g * c_row and w[k, n] the one at w + (k * columns + n) * WIDTH.
    """
    width = columns.literal_value

    def codegen(context, builder, sig, args):
        _, a, a_row, w, count, c, c_row = args
        i64 = ir.IntType(64)
        at = [_at(builder, builder.gep(c, [builder.mul(i64(g), c_row)])) for g in range(TILE_ROWS)]

        def start(g, n):
            return ir.Constant(_VEC, None) if n else builder.load(at[g], align=4)

        sums = _tile(builder, TILE_ROWS, width, a, a_row, i64(1), WIDTH, w, i64(width * WIDTH), count, start)
        for g in range(TILE_ROWS):
            total = sums[g][0]
            for n in range(1, width):
                total = builder.fadd(total, sums[g][n])
            builder.store(total, at[g], align=4)
        return context.get_dummy_value()

    i = types.intp
    return types.void(columns, floats, i, floats, i, floats, i), codegen
