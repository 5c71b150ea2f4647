"""Random steps: Hypothesis writes them, as the source of a Python function.

What a statement computes is bounded, and smooth but for kinks that are hit by chance alone: in float32 and in float64
it is the same. Widths are named: H units, K of something of low rank, F features, 1.
"""

import functools
import textwrap

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
from contract import Model, Shape
from steps import normalised


@jax.custom_jvp
def cubed(x):
    return jnp.tanh(x) ** 3


@cubed.defjvp
def _(primals, tangents):
    return cubed(*primals), 0.3 * jnp.cos(primals[0]) * tangents[0]


@jax.custom_vjp
def straight(x, y):
    return jnp.sign(x) * jnp.sin(y)


straight.defvjp(lambda x, y: (straight(x, y), (x, y)), lambda kept, d: (d * kept[1], 0.7 * d * jnp.tanh(kept[0])))


def in_heads(x, heads):
    parts = x.reshape(x.shape[0], *heads.shape[:2])
    return jnp.einsum("bnk,nkj->bnj", parts, heads).reshape(x.shape)


POINTWISE = """
jnp.tanh({0})
jax.nn.sigmoid({0})
jnp.sin({0})
jnp.cos({0})
jax.lax.erf({0})
0.5 * jax.nn.softplus({0})
jax.nn.relu({0} + 0.1)
jax.nn.leaky_relu({0})
jax.nn.elu({0})
jax.nn.celu({0})
0.7 * jax.nn.selu({0})
jax.nn.gelu({0})
jax.nn.gelu({0}, approximate=False)
jax.nn.silu({0})
jax.nn.mish({0})
jax.nn.soft_sign({0})
0.3 * jax.nn.log_sigmoid({0})
jax.nn.hard_sigmoid({0})
jax.nn.hard_tanh({0})
jax.nn.relu6({0})
jnp.exp(-({0} * {0}))
jnp.log1p({0} * {0})
jnp.log(1.5 + jnp.sin({0}))
jnp.expm1(-jnp.abs({0}))
jnp.sqrt(1 + {0} * {0})
jax.lax.rsqrt(1 + {0} * {0})
0.3 * jnp.sign({0})
jnp.abs({0})
jnp.clip({0}, -0.6, 0.8)
jax.lax.stop_gradient({0})
jnp.tanh({0}) ** 3
jnp.square(jnp.sin({0}))
(1 + {0} * {0}) ** -2
(1 + {0} * {0}) ** -0.7
jnp.exp(jnp.tanh({0}))
jnp.where({0} > 0.2, {0}, 0.5)
1.7 * {0} - 0.3
-{0}
cubed({0})
jax.jit(jnp.tanh)({0})
jax.checkpoint(jnp.sin)({0})
""".strip().splitlines()
OF_TWO = """
0.5 * ({0} + {1})
{0} - {1}
{0} * jnp.tanh({1})
{0} / (1 + {1} * {1})
jnp.maximum({0}, {1})
jnp.minimum({0}, {1})
jnp.where({0} > {1}, {0}, 0.5 * {1})
jnp.where(({0} > 0.1) & ({1} <= 0.3), {0}, {1})
jnp.where(~({0} < {1}) | ({1} >= 0.6), {0}, 0.2)
jax.nn.sigmoid({0}) * {1} + (1 - jax.nn.sigmoid({0})) * {0}
(1 - jax.nn.sigmoid({1})) * {0} + jax.nn.sigmoid({1}) * jnp.tanh({1})
(1 + {0} * {0}) ** jnp.tanh({1})
jnp.clip({0}, -1.0, 0.5 + {1} * {1})
jnp.logaddexp({0}, 0.5 * {1})
straight(*jnp.broadcast_arrays({0}, {1}))
""".strip().splitlines()
OVER_UNITS = """
{0}.mean(axis=-1, keepdims=True)
jnp.tanh({0}).sum(axis=-1, keepdims=True)
jnp.var({0}, axis=-1, keepdims=True)
jnp.sqrt(0.1 + ({0} * {0}).mean(axis=-1, keepdims=True))
""".strip().splitlines()
SAME_WIDTH = """
normalised({0})
{0} - {0}.mean(axis=-1, keepdims=True)
{0}[:, ::-1]
jnp.tanh(jnp.cumsum({0}, axis=-1))
""".strip().splitlines()
WHOLE = ["{0}", "{0}", "normalised({0})", "jnp.tanh({0})", "0.5 * {0} * {0}", "jnp.tanh({0}) * {p}"]
WITH_VECTOR = """
{0} * {p}
{0} + {p}
jax.nn.sigmoid({p}) * {0}
jnp.maximum({0}, {p})
{0} - jnp.exp(0.5 * {p})
""".strip().splitlines()
NEXT = """
jnp.tanh({0})
0.7 * {c} + 0.3 * jnp.tanh({0})
jax.nn.sigmoid({0}) * {c} + (1 - jax.nn.sigmoid({0})) * jnp.sin({0})
0.9 * jnp.tanh({0}) * jnp.cos({c})
""".strip().splitlines()
NAMES = {"jax": jax, "jnp": jnp} | {f.__name__: f for f in (straight, normalised, in_heads)} | {"cubed": cubed}


class Written:
    """A step as source, its parameters' shapes and its carries' widths, in words."""

    def __init__(self, lines, params, carry):
        self.source = "def step(p, carry, x):\n" + textwrap.indent("\n".join(lines), "    ")
        self.params, self.carry = params, carry

    def __repr__(self):
        return f"\n{self.source}\nparameters {self.params}, carry {self.carry}"

    @functools.cached_property
    def step(self):
        scope = dict(NAMES)
        exec(self.source, scope)
        return scope["step"]

    def model(self, F, H, K):
        heads = next((n for n in (2, 3, 5) if H % n == 0), 1)
        sizes = {
            "F": F,
            "H": H,
            "K": K,
            "1": 1,
            "2H": 2 * H,
            "H+F": H + F,
            "2H+F": 2 * H + F,
            "heads": heads,
            "H/heads": H // heads,
        }
        params = {name: Shape(tuple(sizes[s] for s in shape)) for name, shape in self.params.items()}
        return Model(self.step, params, tuple(sizes[width] for width in self.carry))


@st.composite
def steps(draw, most=8):
    """A step of some statements, at most so many."""
    carry = ["H", *draw(st.lists(st.sampled_from("HHHK1"), max_size=3))]
    lines = [f"{', '.join(f'c{i}' for i in range(len(carry)))}, = carry"]
    params, known = {}, [("x", "F"), *((f"c{i}", width) for i, width in enumerate(carry))]

    def parameter(*shape):
        same = [name for name, other in params.items() if other == shape]
        if same and draw(st.integers(0, 4)) == 0:
            return f"p['{draw(st.sampled_from(same))}']"
        name = f"p{len(params)}"
        params[name] = shape
        return f"p['{name}']"

    def some(width=None):
        """A value, of a width if one is given; simplest is the last."""
        fitting = [name for name, w in known if width in (None, w)]
        return fitting[-1 - draw(st.integers(0, len(fitting) - 1))]

    def width_of(name):
        return next(w for other, w in known if other == name)

    def say(text, width):
        name = f"v{len(lines)}"
        lines.append(f"{name} = {text}")
        known.append((name, width))

    def whole(row, width):
        """What is done to a row before it is multiplied or taken apart."""
        text = draw(st.sampled_from(WHOLE))
        return text.format(row, p=parameter(width)) if "{p}" in text else text.format(row)

    def product(width):
        row = some()
        return f"{row} @ {parameter(width_of(row), width)}"

    def statement():
        kind = draw(st.sampled_from(["sum", "sum", "sum", "one", "one", "one", "two", "two", "vector", "scalar", "over",
                                     "same", "heads", "packed", "joined", "repeated"]))  # fmt: skip
        if kind == "sum":
            width = draw(st.sampled_from("HHHHK"))
            terms = [product(width) for _ in range(draw(st.integers(1, 3)))]
            if draw(st.booleans()):
                terms.append(parameter(width))
            return say(" + ".join(terms), width)
        if kind == "heads":
            return say(f"in_heads({some('H')}, {parameter('heads', 'H/heads', 'H/heads')})", "H")
        if kind == "repeated":
            return say(f"jnp.repeat({some('H')}, 2, axis=-1) @ {parameter('2H', 'H')}", "H")
        if kind == "joined":
            a = some("H")
            more = f", jnp.broadcast_to({parameter('H')}, {a}.shape)" if draw(st.booleans()) else ""
            width = "2H+F" if more else "H+F"
            row = whole(f"jnp.concatenate([{a}, x{more}], axis=-1)", width)
            return say(f"{row} @ {parameter(width, 'H')}", "H")
        if kind == "packed":
            terms = [product("2H") for _ in range(draw(st.integers(1, 2)))] + [parameter("2H")]
            first = len(lines)
            row = whole(f"({' + '.join(terms)})", "2H")
            lines.append(f"v{first}, w{first} = jnp.split({row}, 2, axis=-1)")
            known.extend([(f"v{first}", "H"), (f"w{first}", "H")])
            return None
        a = some()
        width = width_of(a)
        if kind == "one":
            return say(draw(st.sampled_from(POINTWISE)).format(a), width)
        if kind == "two":
            b = draw(st.sampled_from([name for name, w in known if w in (width, "1")]))
            return say(draw(st.sampled_from(OF_TWO)).format(a, b), width)
        if kind == "vector":
            return say(draw(st.sampled_from(WITH_VECTOR)).format(a, p=parameter(width)), width)
        if kind == "scalar":
            return say(draw(st.sampled_from(WITH_VECTOR)).format(a, p=parameter()), width)
        if kind == "over":
            return say(draw(st.sampled_from(OVER_UNITS)).format(a), "1")
        return say(draw(st.sampled_from(SAME_WIDTH)).format(a), width)

    for _ in range(draw(st.integers(1, most))):
        statement()
    new = []
    for i, width in enumerate(carry):
        computed = [name for name, w in known[1 + len(carry) :] if w in (width, "1")]
        if computed and draw(st.integers(0, 9)):
            text = draw(st.sampled_from(NEXT)).format(computed[-1 - draw(st.integers(0, len(computed) - 1))], c=f"c{i}")
            lines.append(f"n{i} = jnp.broadcast_to({text}, c{i}.shape)")
            new.append(f"n{i}")
        else:
            new.append(some(width))  # a carry or a value as it is
    output = draw(st.sampled_from([*new, *new, *(name for name, _ in known)]))
    lines.append(f"return ({', '.join(new)},), {output}")
    return Written(lines, params, "".join(carry))
