"""JAX's pointwise primitives as functions of vectors, under the primitives' names.

Where a name is Python's, an underscore follows. Arguments may be numbers, but not all of them. True and false
are 1.0 and 0.0. Each lane is computed by the same IEEE operations, however many there are; results have an error of at
most 3 units in the last place. Denormals count as zero, as the kernels' threads have it.
"""

import math

import numpy as np

from rnn_compare.recurrence.cpu import arithmetic
from rnn_compare.recurrence.cpu.arithmetic import (
    absolute,
    add_exponent,
    at_least,
    at_most,
    bit,
    copy_sign,
    exponent,
    fma,
    narrow,
    power_of_two_bits,
    select,
    widen,
)
from rnn_compare.recurrence.cpu.vector import both
from rnn_compare.recurrence.xla_ffi import inline

_INF, _NAN = math.inf, math.nan
_TINY, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_LN2 = math.log(2)


# --- Comparisons and choices.

lt, le, gt, ge = arithmetic.less, arithmetic.less_equal, arithmetic.greater, arithmetic.greater_equal
eq, ne = arithmetic.equal, arithmetic.not_equal
max_, min_ = arithmetic.maximum, arithmetic.minimum
abs_, sqrt = absolute, arithmetic.square_root


@inline
def and_(a, b):
    return select(a, b, 0.0)


@inline
def or_(a, b):
    return select(a, 1.0, b)


@inline
def not_(a):
    return eq(a, 0.0)


@inline
def select_n(which, on_false, on_true):
    return select(which, on_true, on_false)


@inline
def sign(x):
    return select(gt(x, 0.0), 1.0, select(lt(x, 0.0), -1.0, x))


@inline
def rsqrt(x):
    return 1.0 / sqrt(x)


# --- Exponentials.

_LOG2_E = float(np.float32(np.log2(np.e)))
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their products with integers are exact
_MAGIC = 1.5 * 2**23 + 127  # adding it rounds to integer n; the low bits are then n + 127


@inline
def _exp_polynomial(r):
    """exp(r) - 1 for |r| <= log(2) / 2."""
    q = fma(r, 0.0013882509665563703, 0.008366580121219158)
    q = fma(q, r, 0.04166720062494278)
    q = fma(q, r, 0.1666654348373413)
    q = fma(q, r, 0.4999999701976776)
    return fma(r * r, q, r)


@inline
def _exp_shifted(x):
    """exp(x) = 2**n * (1 + p), as (n + _MAGIC, p), for -88 <= x <= 89."""
    shifted = fma(x, _LOG2_E, _MAGIC)
    n = shifted - _MAGIC
    return shifted, _exp_polynomial(fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x)))


@inline
def _exp_parts(x):
    """exp(x) = scale * (1 + p), as (scale, p), for -88 <= x <= 89; at the ends scale is 0 and inf."""
    shifted, p = _exp_shifted(x)
    return power_of_two_bits(shifted), p


@inline
def _factors(shifted):
    """2**n as a product, for -127 <= n <= 128: as one float 2**128 is inf, where 2**128 * 0.9 is not."""
    return power_of_two_bits(at_most(shifted, _MAGIC + 127)), at_least(shifted - (_MAGIC + 126), 1.0)


@inline
def exp(x):
    shifted, p = _exp_shifted(at_most(at_least(x, -88.0), 89.0))
    scale, rest = _factors(shifted)
    return scale * (1.0 + p) * rest


@inline
def expm1(x):
    shifted, p = _exp_shifted(at_most(at_least(x, -88.0), 89.0))
    scale, rest = _factors(shifted)
    return fma(scale, p, scale - 1.0) * rest  # exact to the last bits near 0 too


@inline
def logistic(x):
    scale, p = _exp_parts(at_most(at_least(-x, -88.0), 89.0))
    return 1.0 / (1.0 + scale * (1.0 + p))


@inline
def tanh(x):
    x = at_most(at_least(x, -9.02), 9.02)  # rounds to 1 beyond
    scale, p = _exp_parts(x + x)
    minus_1 = fma(scale, p, scale - 1.0)
    return minus_1 / (minus_1 + 2.0)


@inline
def erf(x):
    """By own fits: x * (1 + p(x**2)) up to 1, then 1 - exp(-t * (1 + q(t))), t = |x|."""
    s = x * x
    p = fma(s, 7.85390417e-05, -0.0008010207841)
    p = fma(p, s, 0.005188329504)
    p = fma(p, s, -0.02685381305)
    p = fma(p, s, 0.1128358518)
    p = fma(p, s, -0.3761262583)
    p = fma(p, s, 0.1283791657)
    t = at_most(absolute(x), 4.0)  # rounds to 1 beyond
    q = fma(t, -0.0002111355678, 0.003191123166)
    q = fma(q, t, -0.02281228669)
    q = fma(q, t, 0.1051384677)
    q = fma(q, t, 0.6358138678)
    q = fma(q, t, 0.1284854684)
    scale, e = _exp_parts(-fma(t, q, t))
    return select(lt(t, 1.0), fma(x, p, x), copy_sign(1.0 - scale * (1.0 + e), x))


# --- Logarithms.


@inline
def _log_parts(f, n):
    """log(2**n * (1 + f)) for sqrt(1/2) <= 1 + f < sqrt(2). Coefficients: Cephes, logf."""
    p = fma(f, 7.0376836292e-2, -1.1514610310e-1)
    p = fma(p, f, 1.1676998740e-1)
    p = fma(p, f, -1.2420140846e-1)
    p = fma(p, f, 1.4249322787e-1)
    p = fma(p, f, -1.6668057665e-1)
    p = fma(p, f, 2.0000714765e-1)
    p = fma(p, f, -2.4999993993e-1)
    p = fma(p, f, 3.3333331174e-1)
    s = f * f
    low = fma(s * f, p, n * _LN2_LOW)
    return fma(n, _LN2_HIGH, f + fma(s, -0.5, low))


@inline
def _log_somewhere(x, log_x):
    """log_x where x is positive, and what log is where it is not, or not finite."""
    log_x = select(lt(x, _INF), log_x, x)
    return select(lt(x, _TINY), select(gt(x, -_TINY), -_INF, _NAN), log_x)


@inline
def log(x):
    n = exponent(x)
    return _log_somewhere(x, _log_parts(add_exponent(x, -n) - 1.0, n))


@inline
def log1p(x):
    above = x + 1.0
    n = exponent(above)
    f = add_exponent(x, -n) + fma(add_exponent(4.0, -n), 0.25, -1.0)  # (1 + x) / 2**n - 1, rounded once
    return _log_somewhere(above, _log_parts(f, n))


@inline
def _rounded(x):
    """The integer next to x >= 0."""
    return select(lt(x, 2.0**23), (x + 2.0**23) - 2.0**23, x)


@inline
def pow_(x, y):
    """As C's pow. The logarithm is a vector of doubles: y multiplies its error."""
    x, y = both(x, y)
    size, power = absolute(x), absolute(y)
    n = exponent(size)
    f = widen(add_exponent(size, -n) - 1.0)
    s = f / (f + 2.0)
    z = s * s
    series = ((((z * (1 / 11) + 1 / 9) * z + 1 / 7) * z + 1 / 5) * z + 1 / 3) * z + 1.0  # artanh(s) / s
    log_size = widen(n) * _LN2 + (s + s) * series
    log_size = widen(_log_somewhere(size, 0.0)) + log_size
    t = log_size * widen(at_most(at_least(y, -_LARGEST), _LARGEST))  # (-1)**inf is 1

    shifted = fma(at_most(at_least(narrow(t), -88.0), 89.0), _LOG2_E, _MAGIC)
    r = narrow(t - widen(shifted - _MAGIC) * _LN2)
    scale, rest = _factors(shifted)
    result = scale * (1.0 + _exp_polynomial(at_most(at_least(r, -1.0), 1.0))) * rest

    whole = eq(_rounded(power), power)
    odd = and_(whole, ne(_rounded(power * 0.5), power * 0.5))
    result = select(odd, copy_sign(result, x), result)
    result = select(and_(and_(lt(x, 0.0), gt(x, -_INF)), not_(whole)), _NAN, result)
    return select(or_(eq(y, 0.0), eq(x, 1.0)), 1.0, result)


# --- Waves.

_QUARTER = 1.570796251296997, 7.549789415861596e-08, 5.390302858158119e-15  # pi / 2; 23 bits of it, 23 bits, the rest
_QUARTERS = 2 / math.pi  # in a radian
_MAGIC_64 = 1.5 * 2**52  # as _MAGIC


@inline
def _wave(x, quarters):
    """sin(x + quarters * pi / 2), NaN for |x| > 2**30: up to there the reduction's products are exact."""
    wide = widen(x)
    shifted = wide * _QUARTERS + _MAGIC_64
    n = shifted - _MAGIC_64
    r = narrow(((wide - n * _QUARTER[0]) - n * _QUARTER[1]) - n * _QUARTER[2])
    z = r * r
    sine = fma(fma(fma(z, -1.9515295891e-4, 8.3321608736e-3), z, -1.6666654611e-1), z * r, r)  # Cephes, sinf
    cosine = fma(fma(z, 2.443315711809948e-5, -1.388731625493765e-3), z, 4.166664568298827e-2)  # Cephes, cosf
    cosine = fma(z * z, cosine, fma(z, -0.5, 1.0))
    turned = shifted + quarters
    wave = select(bit(turned, 0), cosine, sine)
    wave = select(bit(turned, 1), -wave, wave)
    return select(le(absolute(x), 2.0**30), wave, _NAN)


@inline
def sin(x):
    return _wave(x, 0.0)


@inline
def cos(x):
    return _wave(x, 1.0)
