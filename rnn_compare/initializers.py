"""Initializers by name, with Keras' semantics: each sees the whole matrix, all gates together.

To add one, write a function `(key, shape, dtype) -> array` and give it a line in `INITIALIZERS`.
"""

from flax.typing import Initializer
from jax.nn import initializers as jax_init

# Fan-in and fan-out are those of the whole (rows, n·H) matrix. Keras' normal variants are truncated at two
# standard deviations and rescaled, and so are JAX's.
INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": jax_init.glorot_uniform(),
    "glorot_normal": jax_init.glorot_normal(),
    "he_uniform": jax_init.he_uniform(),
    "he_normal": jax_init.he_normal(),
    "lecun_uniform": jax_init.lecun_uniform(),
    "lecun_normal": jax_init.lecun_normal(),
    # (H, n·H) with H rows: the rows are orthonormal, a single gate's (H, H) block is not orthogonal.
    "orthogonal": jax_init.orthogonal(),
    "zeros": jax_init.zeros,
}
