"""Assorted steps, of the field and of nobody: what the kernels are held to besides our own cells.

Each is a function `model(F, H)`, by its name in `MODELS`; its parameters are some of `SHAPES`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from contract import Model, Shape
from flax import linen as nn

from rnn_compare.cells import CELLS

K = 3  # the rank of what is of low rank
SHAPES = {
    "X": lambda F, H: (F, H),
    "V": lambda F, H: (H, H),
    "V2": lambda F, H: (H, H),
    "M": lambda F, H: (H + F, H),
    "M2": lambda F, H: (H + F, 2 * H),
    "W2": lambda F, H: (H, 2 * H),
    "U2": lambda F, H: (H, 2 * H),
    "P4": lambda F, H: (H, 4),
    "N": lambda F, H: (2 * H + F + 2, H),
    "v": lambda F, H: (H,),
    "v2": lambda F, H: (2 * H,),
    "u2": lambda F, H: (2 * H,),
    "p4": lambda F, H: (4,),
    "vF": lambda F, H: (F,),
    "s": lambda F, H: (),
    "A": lambda F, H: (H, K),
    "B": lambda F, H: (K, H),
    "heads": lambda F, H: (heads_of(H), H // heads_of(H), H // heads_of(H)),
    "idle": lambda F, H: (H,),
}
sigmoid = jax.nn.sigmoid
STEPS = {}


def heads_of(H):
    return next((n for n in (2, 3, 5) if H % n == 0), 1)


def shifted(x):
    return jnp.pad(x, ((0, 0), (1, 0)))[:, :-1]


def normalised(x):
    x = x - x.mean(axis=-1, keepdims=True)
    return x * jax.lax.rsqrt((x * x).mean(axis=-1, keepdims=True) + 0.1)


def output(function):
    """A step with one carry h, of which the function of (parameters, h, x) is the next and the output."""

    def step(p, h, x):
        h = function(p, h, x)
        return h, h

    return step


def model(step, params, carry):
    """A function of (F, H): the model of a step, with parameters of these names and carries of these widths."""

    @functools.cache
    def made(F, H):
        widths = tuple({"H": H, "F": F, "K": K, "1": 1}[width] for width in carry)
        return Model(step, {name: Shape(SHAPES[name](F, H)) for name in params.split()}, widths)

    return made


def step(params, carry):
    def listed(function):
        STEPS[function.__name__] = model(function, params, carry)
        return function

    return listed


@step("V V2 X", "H")
def sum_that_is_multiplied(p, carry, x):
    """A sum of two products of one row and of something else; it is multiplied, and read as well."""
    s = carry[0] @ p["V"] + carry[0] @ p["V2"] + jnp.sin(x @ p["X"])
    h = 0.5 * jnp.sin(s) + 0.3 * jnp.tanh(s @ p["V2"])
    return (h,), h


@step("M W2 v2 X s", "HHH")
def moved_and_joined(p, carry, x):
    """Units in other places before a product, gates normalised together, joined rows, what is only summed."""
    h, c, k = carry
    number = 0.3 * (k.mean(axis=-1, keepdims=True) + (x @ p["X"]).mean(axis=-1, keepdims=True))
    gates = jnp.sin(jnp.repeat(h + number, 2, axis=-1)) * p["v2"] + jnp.tanh(c) @ p["W2"]
    a, b = jnp.split((gates - gates.mean(axis=-1, keepdims=True)) * p["v2"], 2, axis=-1)
    c = sigmoid(a) * c + 0.3 * jnp.tanh(b)
    joined = jnp.concatenate([h, x], axis=-1)
    scale = jax.lax.rsqrt(0.1 + (joined * joined).mean(axis=-1, keepdims=True))
    moved = jnp.repeat(h, 2, axis=-1)[:, ::-1] @ p["W2"].T
    moved += jnp.sin(shifted(c + number))
    h = jnp.tanh(0.3 * ((joined * scale) @ p["M"] + moved) + c[:, ::-1] * p["s"])
    return (h, c, jnp.cos(h)), h


@step("V X v", "1H")
def a_number_for_all(p, carry, x):
    """A state of one number: units and inputs are multiplied with the old one. Beyond the units lies 0 / 0."""
    s, h = carry
    h = jnp.tanh(h @ p["V"] + (s * jnp.sin(x)) @ p["X"])
    return (0.5 * s + jnp.tanh(h).mean(axis=-1, keepdims=True), h), h * s / jnp.exp(p["v"])


@step("v X", "1H")
def a_number_is_all(p, carry, x):
    """One number that is the next of states of several widths, and the output."""
    s, h = carry
    s = jnp.tanh(s + 0.5 * (h * p["v"]).mean(axis=-1, keepdims=True) + (x @ p["X"]).mean(axis=-1, keepdims=True))
    return (s, jnp.broadcast_to(s, h.shape)), jnp.broadcast_to(s, h.shape)


@step("V X s v M", "1H")
def sums_with_a_number(p, carry, x):
    """Over the units, of a row and of one number for all, which is turned as a row, too. Behind the units is 0 / 0."""
    n, h = carry
    h = jnp.tanh(h @ p["V"] + x @ p["X"])
    total = (h + p["s"]).mean(axis=-1, keepdims=True) + (n - h * p["v"]).mean(axis=-1, keepdims=True)
    row = jnp.broadcast_to(jnp.tanh(n), h.shape)
    row = row[:, ::-1] + 0.1 * shifted(row @ jnp.ones((h.shape[1], 1)) * row)
    joined = jnp.concatenate([row, x], axis=-1)
    joined = 0.3 * jnp.where(np.array(True), total, joined) + joined**0 * jnp.sin(joined)
    return (0.3 * jnp.tanh(total), 0.5 * jnp.tanh(joined @ p["M"])), h * n / jnp.exp(p["v"])


@step("X", "H1")
def sum_of_a_number(p, carry, x):
    """A mean over a row of one number and its sine: LLVM 22.1 aborted on how such a state was stored."""
    h, n = carry
    mean = n.mean(axis=-1, keepdims=True)
    n = sigmoid(mean) * n + (1 - sigmoid(mean)) * jnp.sin(mean)
    return (jnp.tanh(x @ p["X"]) * h + n, n), h


@step("V v s N", "H")
def joined_with_parameters(p, carry, x):
    (h,) = carry
    of_parameters = (jnp.broadcast_to(p[name], (x.shape[0], width)) for name, width in (("v", h.shape[1]), ("s", 1)))
    joined = jnp.concatenate([*of_parameters, jnp.full((x.shape[0], 1), 0.7), h @ p["V"], x], axis=-1)
    h = jnp.tanh(normalised(joined) @ p["N"] + joined @ p["N"])
    return (h,), h


@jax.custom_vjp
def spread(s, like):
    return jnp.broadcast_to(jnp.sin(s), like.shape)


def _spread_back(kept, d):
    s, like = kept
    up = jnp.repeat(like, 2, axis=-1)  # of a width that only the backward pass has
    d = d * jnp.linspace(0.5, 1.5, d.shape[-1]) / jnp.sqrt(1 + (d * d).sum(axis=-1, keepdims=True))
    return d.sum(axis=-1, keepdims=True) * jnp.cos(s), 0.1 * d * jnp.tanh(up).mean(axis=-1, keepdims=True)


spread.defvjp(lambda s, like: (spread(s, like), (s, like)), _spread_back)


@jax.custom_vjp
def read_only(a, b):
    return a * 1.0


read_only.defvjp(lambda a, b: (a * 1.0, b), lambda b, d: (0.5 * d + 0.1 * b, jnp.zeros_like(b)))


@step("V M v", "HH")
def masks(p, carry, x):
    """Truth values as numbers, numbers as truth values, constant ones; a cotangent that is a state."""
    h, c = carry
    z = h @ p["V"]
    row = jnp.concatenate([(z > 0) * z, jnp.where(x[:, :1] > 0.3, 0.5, x)], axis=-1)
    keep = jnp.where(np.arange(h.shape[1]) % 3 > 0, h, 0.2) * (c > 0).astype(c.dtype)
    h = 0.5 * jnp.tanh(row @ p["M"] + keep + read_only(z, c)) + jnp.where(c.astype(bool), 0.1, 0.7) * p["v"]
    return (h, 0.5 * jnp.sin(c) + 0.1 * h), h


@step("V X", "1H")
def own_derivatives(p, carry, x):
    """A function that spreads one number, with a derivative of its own that knows numbers and a width of its own."""
    s, h = carry
    h = jnp.tanh(h @ p["V"] + x @ p["X"] + spread(s, h) * h)
    return (0.5 * s + jnp.sin(h).mean(axis=-1, keepdims=True), h), h


@step("A B X", "H")
def low_rank(p, carry, x):
    h = jnp.tanh((carry[0] @ p["A"]) @ p["B"] + x @ p["X"])
    return (h,), h


@step("heads X", "H")
def heads(p, carry, x):
    (h,) = carry
    parts = h.reshape(h.shape[0], *p["heads"].shape[:2])
    h = jnp.tanh(jnp.einsum("bnk,nkj->bnj", parts, p["heads"]).reshape(h.shape) + x @ p["X"])
    return (h,), h


@step("s V X idle", "H")
def scalars(p, carry, x):
    (h,) = carry
    h = sigmoid(p["s"]) * h + jax.nn.softplus(p["s"]) * jnp.tanh(h @ p["V"] + x @ p["X"])
    return (h,), h


@step("V X", "H")
def relatives(p, carry, x):
    (h,) = carry
    z = h @ p["V"] + x @ p["X"]
    parts = [
        jnp.clip(jax.nn.elu(z), -1, 1),
        0.1 * jax.nn.gelu(z),
        0.1 * jax.nn.gelu(z, approximate=False),
        0.2 * jnp.where(z > 0.3, jnp.sin(z), jnp.cos(z)),
        0.05 * jax.lax.stop_gradient(z),
        0.1 * jnp.abs(z),
        0.1 * jax.nn.hard_sigmoid(z),
        0.1 * jax.lax.erf(z),
        0.05 * jnp.sqrt(1 + z * z),
        0.1 * jnp.log1p(z * z),
        0.1 * jnp.log(1.5 + z * z),
        0.1 * jnp.expm1(-z * z),
        0.1 * jnp.sign(z) * h,
        0.1 * (1 + z * z) ** -1.5,
        0.01 * (1 + z * z) ** 1.3,
        0.1 * jnp.minimum(z, h),
        0.1 * jax.nn.softplus(z),
        0.1 * jnp.tanh(z) ** 3,
        0.1 * (1 + jnp.exp(z) ** 2) ** -1,
    ]
    h = jnp.tanh(sum(parts))
    return (h,), jax.nn.silu(h)


@step("V X A", "H")
def narrow_output(p, carry, x):
    h = jnp.tanh(carry[0] @ p["V"] + x @ p["X"])
    return (h,), h @ p["A"]


@step("V X A v", "HH")
def several_outputs(p, carry, x):
    """A state among them, twice, the input, what is none of both, a number, and a state that is none of them."""
    h, c = carry
    c = 0.6 * c + jnp.tanh(h @ p["V"] + x @ p["X"])
    h = sigmoid(c) * p["v"] - h
    return (h, c), {
        "a": h @ p["A"],
        "b": (h, x, h),
        "c": jnp.sin(c).mean(axis=-1, keepdims=True),
        "d": jnp.ones_like(h),
    }


@step("V V2 A B X v", "HKH")
def kept_states(p, carry, x):
    """The backward pass reads what it would need products for, states and outputs, and computes the gate again."""
    h, k, s = carry
    gate = sigmoid(h @ p["V"] + x @ p["X"] + p["v"])
    s = 0.3 * s + 0.3 * (h @ p["V2"] + k @ p["B"])
    k = jnp.tanh(h @ p["A"])
    out = jnp.tanh(k @ p["B"] + s * gate)
    h = jax.nn.relu(h @ p["V2"] + x @ p["X"] - 0.1)
    return (h, k, s), (s * s + gate, out, h @ p["V"])


@jax.custom_vjp
def mixed(a, b):
    return a * 1.0


mixed.defvjp(lambda a, b: (a * 1.0, b), lambda b, d: (d + b + np.arange(b.shape[-1]) / 9, jnp.zeros_like(b)))


@step("V V2 X", "HH")
def own_derivatives_of_kept_states(p, carry, x):
    """The sum that is a state is kept, and what it is made of is not computed again; a constant joins a cotangent."""
    h, c = carry
    c = jax.lax.stop_gradient(jnp.tanh(h @ p["V2"] + 0.1 * c)) + jax.lax.stop_gradient(jnp.sin(x @ p["X"]))
    h = jnp.tanh(mixed(jnp.sin(h @ p["V2"]), c) @ p["V"])
    return (h, c), h


@step("V X v", "H")
def rounded_again(p, carry, x):
    """Which of two was the larger is asked of what is computed again, beside a square that the erf's derivative has."""
    z = carry[0] @ p["V"] + x @ p["X"]
    larger = jnp.maximum(z * z + p["v"], 0.3 * p["v"])
    h = jnp.tanh(0.3 * jax.lax.erf(z) + larger @ p["V"])
    return (h,), h


@step("V X", "H")
def small_to_negative_powers(p, carry, x):
    small = 0.02 + 0.001 * jnp.tanh(carry[0] @ p["V"] + x @ p["X"])
    h = jnp.tanh(1e-21 * small**-12 + x @ p["X"])
    return (h,), h


@step("M v", "H")
def joined(p, carry, x):
    h = jnp.tanh(jnp.concatenate([carry[0], x], axis=-1) @ p["M"] + p["v"])
    return (h,), h


@step("M2 W2 P4 v v2 u2 p4", "HH")
def parts(p, carry, x):
    """Parts of arrays: rows and columns, columns of two rows, numbers, parts of parts, three in a bias."""
    h, c = carry
    a, b = jnp.split(jnp.concatenate([h, x], axis=-1) @ p["M2"] + p["v2"], 2, axis=-1)
    d, e = jnp.split(c @ p["W2"] + p["u2"], 2, axis=-1)
    f, g = jnp.split(jnp.tanh(h) @ p["W2"], 2, axis=-1)
    pairs = jnp.split(h @ p["P4"] + p["p4"], 2, axis=-1)
    i, j, k, m = (number for pair in pairs for number in jnp.split(pair, 2, axis=-1))
    c = 0.7 * sigmoid(a + d + p["v"]) * c + 0.4 * jnp.tanh(b + f + i + jnp.sin(j))
    h = jnp.tanh(c + e + g * jnp.sin(k) + 0.1 * m)
    return (h, c), h


@step("W2 U2 X", "HH")
def whole_and_parts(p, carry, x):
    """Of one array a half, and of one the halves and the whole."""
    h, c = carry
    half, _ = jnp.split(c @ p["U2"], 2, axis=-1)
    a, b = jnp.split(h @ p["W2"], 2, axis=-1)
    c = jnp.tanh(0.1 * jax.nn.softplus(c @ p["W2"]) @ p["W2"].T + x @ p["X"] + a)
    h = 0.5 * jnp.tanh(half + b) + 0.5 * jnp.sin(c)
    return (h, c), h


@step("X vF", "H")
def pointwise_input(p, carry, x):
    h = carry[0] * jnp.tanh(x.sum(axis=-1, keepdims=True)) + (x * p["vF"]) @ p["X"]
    return (h,), h


@step("V V2 X v", "H")
def twice(p, carry, x):
    """Two products of one row in one sum."""
    (h,) = carry
    h = jnp.tanh(h @ p["V"] + h @ p["V2"] + x @ p["X"] + p["v"])
    return (h,), h


@step("X", "H")
def mean_of_units(p, carry, x):
    """Its backward pass adds up a state's cotangent before anything else is done to it."""
    (h,) = carry
    mean = sigmoid(h + x @ p["X"]).mean(axis=-1, keepdims=True)
    return (0.7 * h + mean,), mean


@functools.cache
def ours(name, F, H):
    """The model of a cell in `CELLS`."""
    cell = CELLS[name](units=H)
    params = jax.eval_shape(lambda: {k: f(jax.random.key(0)) for k, f in cell.parameters(F).items()})
    carry = cell.initialize_carry(None, (1, F))
    shapes, widths = jax.tree.map(lambda a: Shape(a.shape), params), jax.tree.map(lambda a: a.shape[1], carry)
    return Model(cell.step, shapes, widths, 3.0 if name == "slstm" else 0.0)  # whose n, a sum of exponentials, divides


@functools.cache
def flax(name, F, H):
    """The model of a cell of Flax."""
    cell = getattr(nn, name)(H)
    x, key = jnp.zeros((1, F)), jax.random.key(0)
    carry = cell.initialize_carry(key, x.shape)
    params = jax.eval_shape(cell.init, key, carry, x)
    step = lambda params, carry, x: cell.apply(params, carry, x)  # noqa: E731
    return Model(step, jax.tree.map(lambda a: Shape(a.shape), params), jax.tree.map(lambda a: a.shape[1], carry))


FLAX = ("OptimizedLSTMCell", "LSTMCell", "GRUCell", "MGUCell", "SimpleCell")
OURS = {name: functools.partial(ours, name) for name in CELLS}
MODELS = OURS | STEPS | {f"flax.{name}": functools.partial(flax, name) for name in FLAX}
