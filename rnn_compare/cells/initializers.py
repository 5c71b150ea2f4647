"""Initializers by name, with Keras' semantics: each sees the whole matrix, all gates together.

A name with `_per_gate` behind it draws each gate's block on its own, as Flax and the original papers do. To add an
initializer, write a function `(key, shape, dtype) -> array` and give it a line in `MATRICES`; for a bias, a function
`(key, cell) -> (n, H)` and a line in `BIASES`.

Axis sizes: H hidden units, n gates.
"""

from collections.abc import Callable
from typing import ClassVar, Protocol

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


def orthogonal(scale: float = 1.0) -> Initializer:
    """`scale` times a matrix whose rows, or columns if there are fewer of them, are orthonormal (Saxe et al. 2014).

    Q of a normal matrix, in the one factorization whose R has no negative diagonal: uniform over all such matrices
    (Mezzadri 2007).
    """

    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        normal = jax.random.normal(key, (max(shape), min(shape)))
        with jax.enable_x64(True):
            Q = scale * orthonormal(normal.astype(jnp.float64))
            return (Q.T if shape[0] < shape[1] else Q).astype(dtype)

    return init


def orthonormal(columns: jax.Array) -> jax.Array:
    """The columns made orthonormal from left to right, by Gram and Schmidt's method in its modified form (Björck 1967).

    LAPACK rounds by the kernels that it has for a processor, and JAX's batches of it can wait for each other for ever.
    This is the same on every processor once it is rounded from double to single precision.
    """
    places = jnp.arange(columns.shape[1])

    def settle(j: jax.Array, columns: jax.Array) -> jax.Array:
        column = columns[:, j] / jnp.sqrt(jnp.square(columns[:, j]).sum())
        left = columns - column[:, None] * (column[:, None] * columns).sum(0)
        return jnp.where(places > j, left, columns).at[:, j].set(column)

    return jax.lax.fori_loop(0, columns.shape[1], settle, columns)


def uniform_units(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Uniform on ±1/√n, n columns."""
    return jax.random.uniform(key, shape, dtype, -1, 1) / shape[1] ** 0.5


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
    "orthogonal": orthogonal(),
    "orthogonal_half": orthogonal(0.5),
    "identity": identity(1.0),
    "identity_half": identity(0.5),
    # With `_per_gate` behind it PyTorch's recurrent layers, ±1/√H.
    "uniform_units": uniform_units,
    "unit_interval": jax_init.uniform(1.0),
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


class Gated(Protocol):
    """What a bias initializer may ask of a cell; see `RecurrentCell`."""

    units: int
    gates: ClassVar[tuple[str, ...]]
    keeps: ClassVar[tuple[str, ...]]
    admits: ClassVar[tuple[str, ...]]
    replaces: ClassVar[tuple[str, ...]]
    opens: ClassVar[tuple[str, ...]]


Bias = Callable[[jax.Array, Gated], jax.Array]


def _constant(value: float) -> Bias:
    def init(key: jax.Array, cell: Gated) -> jax.Array:
        return _kept(cell, jnp.array(value))

    return init


def _kept(cell: Gated, value: jax.Array, admits: jax.Array | None = None) -> jax.Array:
    """The biases with which as much is kept: `value` for the gates that keep, its negative for those that replace.

    Raises:
        ValueError: the cell names neither, so that an initializer of theirs would do nothing, silently.
    """
    if not (cell.keeps or cell.replaces):
        raise ValueError(f"{type(cell).__name__} does not say which of its gates keep the past (`keeps`, `replaces`)")
    named = dict.fromkeys(cell.replaces, -value) | dict.fromkeys(cell.keeps, value)
    return _rows(cell, named if admits is None else named | dict.fromkeys(cell.admits, admits))


def _rows(cell: Gated, named: dict[str, jax.Array]) -> jax.Array:
    """A row for each gate: what is named, a scalar or [H], and zeros."""
    rows = [jnp.broadcast_to(named.get(gate, jnp.array(0.0)), cell.units) for gate in cell.gates]
    return jnp.stack(rows)


def unit_forget(key: jax.Array, cell: Gated) -> jax.Array:
    """One for the gates that a cell says start open, zero for all else; of the LSTM that is the forget gate.

    Keras' default (Gers et al. 2000; Jozefowicz et al. 2015).
    """
    return _rows(cell, {gate: jnp.array(1.0) for gate in cell.opens})


def chrono(longest: int) -> Bias:
    """Chrono initialization for memories of up to `longest` steps (Tallec & Ollivier 2018).

    A gate that keeps gets log u with u uniform on (1, longest − 1), a gate that admits or replaces gets its negative.
    """

    def init(key: jax.Array, cell: Gated) -> jax.Array:
        kept = jnp.log(jax.random.uniform(key, (cell.units,), minval=1.0, maxval=longest - 1.0))
        return _kept(cell, kept, admits=-kept)

    return init


BIASES: dict[str, Bias] = {
    "unit_forget": unit_forget,
    "zeros": lambda key, cell: _rows(cell, {}),
    "forget_1": _constant(1.0),
    "forget_2": _constant(2.0),
    "chrono_100": chrono(100),
    "chrono_1000": chrono(1000),
    # The xLSTM's: evenly over the units.
    "forget_3_to_6": lambda key, cell: _kept(cell, jnp.linspace(3.0, 6.0, cell.units)),
    # PyTorch's: ±1/√H for every gate.
    "uniform_units": lambda key, cell: (
        jax.random.uniform(key, (len(cell.gates), cell.units), minval=-1, maxval=1) / cell.units**0.5
    ),
}
