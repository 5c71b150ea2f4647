"""Initializers by name, with Keras' semantics: each sees the whole matrix, all gates together.

A name with `_per_gate` behind it draws each gate's block on its own, as Flax and the original papers do. To add an
initializer, write a function `(key, shape, dtype) -> array` and give it a line in `MATRICES`; for a bias, a function
`(key, gates, units) -> (n, H)` and a line in `BIASES`.

Axis sizes: H hidden units, n gates.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax.typing import Initializer
from jax.nn import initializers as jax_init


def identity(scale: float) -> Initializer:
    """`scale` on the diagonal of every square block of columns, zeros elsewhere (Le, Jaitly & Hinton 2015).

    A (rows, n·H) matrix is a row of blocks as wide as it is high; what is left over stays zero.
    """

    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        rows, columns = jnp.indices(shape)
        return jnp.where(columns % shape[0] == rows, scale, 0.0).astype(dtype)

    return init


# Fan-in and fan-out are those of the whole (rows, n·H) matrix. Keras' normal variants are truncated at two standard
# deviations and rescaled to the variance they are named for, and so are JAX's.
MATRICES: dict[str, Initializer] = {
    "glorot_uniform": jax_init.glorot_uniform(),
    "glorot_normal": jax_init.glorot_normal(),
    "he_uniform": jax_init.he_uniform(),
    "he_normal": jax_init.he_normal(),
    "lecun_uniform": jax_init.lecun_uniform(),
    "lecun_normal": jax_init.lecun_normal(),
    "truncated_normal": jax_init.truncated_normal(0.05, lower=-2.0, upper=2.0),  # Keras' TruncatedNormal()
    # (H, n·H) with H rows: the rows are orthonormal, a single gate's (H, H) block is not orthogonal.
    "orthogonal": jax_init.orthogonal(),
    "orthogonal_half": jax_init.orthogonal(0.5),
    "identity": identity(1.0),
    "identity_half": identity(0.5),
    "zeros": jax_init.zeros,
}

PER_GATE = "_per_gate"


def names() -> tuple[str, ...]:
    """All that `matrix` knows."""
    return (*MATRICES, *(name + PER_GATE for name in MATRICES))


def matrix(name: str, gates: int = 1) -> Initializer:
    """The initializer of one of `names()`, for a matrix of `gates` blocks side by side."""
    if not name.endswith(PER_GATE):
        return MATRICES[name]
    block = MATRICES[name.removesuffix(PER_GATE)]

    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        keys = jax.random.split(key, gates)
        return jnp.concatenate([block(k, (shape[0], shape[1] // gates), dtype) for k in keys], axis=1)

    return init


# What keeps the past, and what lets the present in: the LSTM's forget and input gates; the GRU's update gate z does
# both, being the share of the old state.
KEEPS, ADMITS = ("f", "z"), ("i",)


def _rows(units: int, values: list[float]) -> jax.Array:
    return jnp.broadcast_to(jnp.array(values)[:, None], (len(values), units))


def _constant(value: float) -> Callable[..., jax.Array]:
    def init(key: jax.Array, gates: tuple[str, ...], units: int) -> jax.Array:
        return _rows(units, [value if gate in KEEPS else 0.0 for gate in gates])

    return init


def unit_forget(key: jax.Array, gates: tuple[str, ...], units: int) -> jax.Array:
    """One for an LSTM's forget gate, zero for all else: Keras' default (Gers et al. 2000; Jozefowicz et al. 2015)."""
    return _rows(units, [1.0 if gate == "f" else 0.0 for gate in gates])


def chrono(longest: int) -> Callable[..., jax.Array]:
    """Chrono initialization for memories of up to `longest` steps (Tallec & Ollivier 2018).

    The gate that keeps gets log u with u uniform on (1, longest − 1), the gate that admits gets its negative.
    """

    def init(key: jax.Array, gates: tuple[str, ...], units: int) -> jax.Array:
        kept = jnp.log(jax.random.uniform(key, (units,), minval=1.0, maxval=longest - 1.0))
        rows = [kept if gate in KEEPS else -kept if gate in ADMITS else jnp.zeros(units) for gate in gates]
        return jnp.stack(rows)

    return init


BIASES: dict[str, Callable[[jax.Array, tuple[str, ...], int], jax.Array]] = {
    "unit_forget": unit_forget,
    "zeros": _constant(0.0),
    "forget_1": _constant(1.0),
    "forget_2": _constant(2.0),
    "chrono_100": chrono(100),
    "chrono_1000": chrono(1000),
}
