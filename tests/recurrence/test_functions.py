"""The pointwise functions of vectors, against NumPy in double precision."""

import math
import operator

import numba
import numpy as np
import pytest

from rnn_compare.recurrence import xla_ffi
from rnn_compare.recurrence.cpu import functions, tasks, vector

F32 = np.finfo(np.float32)
FLUSHES = tasks._X86 or tasks._ARM
LARGEST, TINY = float(F32.max), float(F32.tiny)
SPECIALS = np.array(
    [
        *(0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1.5, TINY, -TINY, LARGEST, -LARGEST, np.inf, -np.inf, np.nan),
        *(88.3763, 88.722, 88.723, 89, -87.336, -87.34, -88, -104),  # about the ends of exp
        *(2**23 + 1, -(2**23) - 1, 2**24 - 1, 2**24, 1e30, -1e30),  # about the end of odd numbers
    ],
    np.float32,
)


def on_vectors(function, arguments):
    """A function of vectors as one of arrays, with denormals flushed as in the kernels."""
    one = numba.njit(lambda p, count: function(vector.load(p)))
    two = numba.njit(lambda p, count: function(vector.load(p), vector.load(p + count)))
    three = numba.njit(lambda p, count: function(vector.load(p), vector.load(p + count), vector.load(p + 2 * count)))
    flush = tasks._FLUSH
    call = (one, two, three)[arguments - 1]

    @numba.cfunc("void(int64, int64, int64)")
    def apply(source, target, count):
        mode = tasks.get_float_mode()
        tasks.set_float_mode(mode | flush)
        for i in range(0, count, vector.WIDTH):
            vector.store(xla_ffi.as_floats(target) + i, call(xla_ffi.as_floats(source) + i, count))
        tasks.set_float_mode(mode)

    def applied(*arrays):
        whole = -(-len(arrays[0]) // 16) * 16
        source = np.stack([np.resize(np.asarray(array, np.float32), whole) for array in arrays])
        target = np.empty(whole, np.float32)
        apply.ctypes(source.ctypes.data, target.ctypes.data, whole)
        return target[: len(arrays[0])]

    return applied


def normal_floats(every):
    """The special numbers, and each `every`-th normal float of both signs."""
    positive = np.arange(0x00800000, 0x7F800000, every, np.uint32).view(np.float32)
    return np.concatenate([SPECIALS, positive, -positive])


def exactly(function, *arrays):
    with np.errstate(all="ignore"):
        return function(*[np.asarray(array, np.float64) for array in arrays])


def assert_close(ours, exact, ulp):
    """A result that rounds to a normal float has that error at most; tiny ones may be zero, large ones are inf."""
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    size = np.abs(rounded)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(exact))
    np.testing.assert_array_equal(ours[np.isinf(rounded)], rounded[np.isinf(rounded)])
    assert np.abs(ours[size < TINY]).max(initial=0) <= TINY
    normal = (size >= TINY) & (size <= LARGEST)
    assert np.isfinite(ours[normal]).all()
    spacing = np.spacing(np.minimum(size[normal], np.float32(2**127))).astype(np.float64)
    assert (np.abs(ours[normal] - exact[normal]) / spacing).max(initial=0) <= ulp


def logistic(x):
    return np.where(x < 0, np.exp(np.minimum(x, 0)) / (1 + np.exp(np.minimum(x, 0))), 1 / (1 + np.exp(-np.abs(x))))


ONE_ARGUMENT = {  # name: reference, tolerance in ulp
    "abs_": (np.abs, 0),
    "sign": (np.sign, 0),
    "sqrt": (np.sqrt, 0.5),
    "rsqrt": (lambda x: np.copysign(1 / np.sqrt(x), x), 1.6),
    "exp": (np.exp, 1.2),
    "expm1": (np.expm1, 1.7),
    "log": (np.log, 1),
    "log1p": (np.log1p, 1.5),
    "tanh": (np.tanh, 2.7),
    "logistic": (logistic, 2.5),
    "sin": (np.sin, 1.7),
    "cos": (np.cos, 1.7),
    "erf": (np.vectorize(math.erf, otypes=[float]), 1.2),
}


@pytest.mark.parametrize("every", [1997, pytest.param(97, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_functions_of_one_argument(name, every):
    reference, ulp = ONE_ARGUMENT[name]
    function = on_vectors(getattr(functions, name), 1)
    x = normal_floats(every)
    if name in ("sin", "cos"):
        x = x[~(np.isfinite(x) & (np.abs(x) > 2**30))]
    assert_close(function(x), exactly(reference, x), ulp)
    x = np.random.default_rng(0).normal(0, 4, 100_000).astype(np.float32)
    assert_close(function(x), exactly(reference, x), ulp)


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("limit", [100, 1e6, 1e9])
def test_waves_of_large_arguments(name, limit):
    function, (reference, ulp) = on_vectors(getattr(functions, name), 1), ONE_ARGUMENT[name]
    quarters = np.random.default_rng(0).integers(-limit, limit, 50_000) * (np.pi / 2)  # near its zeros too
    x = np.concatenate([quarters, np.random.default_rng(1).uniform(-limit, limit, 50_000)])
    x = x[np.abs(x) <= 2**30].astype(np.float32)
    assert_close(function(x), exactly(reference, x), ulp)
    assert np.isnan(function([1.1e9, -1.1e9, LARGEST])).all()


@pytest.mark.parametrize("name", ["tanh", "logistic", "erf"])
def test_what_saturates_is_never_above_1(name):
    assert np.abs(on_vectors(getattr(functions, name), 1)(normal_floats(997)[len(SPECIALS) :])).max() == 1


def test_denormals_count_as_zero():
    assert (on_vectors(functions.log, 1)([TINY / 2, -TINY / 2, 1e-45]) == -np.inf).all()
    assert (on_vectors(functions.not_, 1)([TINY / 2, -TINY / 2, 1e-45]) == FLUSHES).all()


TWO_ARGUMENTS = {
    "max_": np.maximum,
    "min_": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}


def pairs(values):
    return [grid.ravel() for grid in np.meshgrid(values, values)]


@pytest.mark.parametrize("name", TWO_ARGUMENTS)
def test_functions_of_two_arguments(name):
    function = getattr(functions, name)
    a, b = pairs(SPECIALS)
    expected = exactly(TWO_ARGUMENTS[name], a, b).astype(np.float32)
    np.testing.assert_array_equal(on_vectors(function, 2)(a, b), expected)
    right = on_vectors(numba.njit(lambda x: function(x, 0.5)), 1)
    np.testing.assert_array_equal(right(SPECIALS), exactly(TWO_ARGUMENTS[name], SPECIALS, 0.5))
    left = on_vectors(numba.njit(lambda x: function(2, x)), 1)
    np.testing.assert_array_equal(left(SPECIALS), exactly(TWO_ARGUMENTS[name], 2, SPECIALS))


@pytest.mark.parametrize(("name", "zero"), [("max_", 0.0), ("min_", -0.0)])
def test_zeros_are_ordered(name, zero):
    ours = on_vectors(getattr(functions, name), 2)([0.0, -0.0], [-0.0, 0.0])
    np.testing.assert_array_equal(np.signbit(ours), np.signbit(zero))


def test_logic():
    a, b = pairs(np.array([0, 1], np.float32))
    for name, reference in {"and_": operator.and_, "or_": operator.or_}.items():
        function = getattr(functions, name)
        np.testing.assert_array_equal(on_vectors(function, 2)(a, b), reference(a == 1, b == 1))
        np.testing.assert_array_equal(
            on_vectors(numba.njit(lambda x, f=function: f(x, 1)), 1)(a), reference(a == 1, True)
        )
        np.testing.assert_array_equal(
            on_vectors(numba.njit(lambda x, f=function: f(0.0, x)), 1)(a), reference(False, a == 1)
        )
    np.testing.assert_array_equal(on_vectors(functions.not_, 1)(a), a == 0)


def test_choices():
    select_n = functions.select_n
    which, values = np.tile([0, 1, 1, 0, 0], 10), np.tile(SPECIALS, 2)[:50].astype(np.float32)
    other = values[::-1]
    ours = on_vectors(select_n, 3)(which, values, other)
    np.testing.assert_array_equal(ours, np.where(which, other, values))
    np.testing.assert_array_equal(
        on_vectors(numba.njit(lambda w, x: select_n(w, 2.0, x)), 2)(which, values), np.where(which, values, 2)
    )
    np.testing.assert_array_equal(
        on_vectors(numba.njit(lambda w, x: select_n(w, x, 3)), 2)(which, values), np.where(which, 3, values)
    )
    np.testing.assert_array_equal(on_vectors(numba.njit(lambda w: select_n(w, 2.0, 3.0)), 1)(which), 2 + which)
    np.testing.assert_array_equal(on_vectors(numba.njit(lambda x: select_n(1.0, 2.0, x)), 1)(values), values)


def test_powers():
    function, random = on_vectors(functions.pow_, 2), np.random.default_rng(0)
    for size in (np.exp(random.uniform(-87, 88, 100_000)), random.uniform(0.1, 2, 100_000)):
        x = size.astype(np.float32)
        y = (random.uniform(-90, 90, len(x)) / np.log(x.astype(np.float64))).astype(np.float32)
        assert_close(function(x, y), exactly(np.power, x, y), 1.2)
    whole = random.integers(-20, 20, len(x)).astype(np.float32)
    assert_close(function(-x, whole), exactly(np.power, -x, whole), 1.2)


def test_powers_of_special_numbers_have_the_right_sign_too():
    x, y = pairs(SPECIALS)
    ours, exact = on_vectors(functions.pow_, 2)(x, y), exactly(np.power, x, y)
    assert_close(ours, exact, 1.2)
    sure = ~np.isnan(exact)
    np.testing.assert_array_equal(np.signbit(ours)[sure], np.signbit(exact)[sure])


def test_powers_of_numbers_and_by_numbers():
    pow_, x = functions.pow_, np.linspace(0.1, 10, 1000, dtype=np.float32)
    for number in (2, 0.5, -1.5):
        by = on_vectors(numba.njit(lambda x, n=number: pow_(x, n)), 1)
        assert_close(by(x), exactly(np.power, x, number), 1.2)
    assert_close(on_vectors(numba.njit(lambda y: pow_(2, y)), 1)(x), exactly(np.power, 2, x), 1.2)
