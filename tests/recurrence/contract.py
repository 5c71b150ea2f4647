"""The contract of `rnn_compare.recurrence.contract` for the models of the tests."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.recurrence import BACKENDS, KERNELS, contract
from rnn_compare.recurrence.contract import NAMES

__all__ = [
    "BACKENDS",
    "FAST",
    "NAMES",
    "Model",
    "Shape",
    "compiled",
    "for_a_draw",
    "hold",
    "in_double",
    "problem",
]

ELSEWHERE = KERNELS.keys() - {jax.default_backend()}  # each is named after where it runs
FAST = [name for name in BACKENDS if name not in {"scan", *ELSEWHERE}]


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's, as a leaf of a tree."""

    sizes: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A step, a tree of its parameters' shapes and a tree of its carries' widths; carries are drawn around `middle`."""

    step: Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]
    params: Any
    carry: Any
    middle: float = 0.0


def pulled(model, backend, runs):
    """A function of (params, x, carry, cotangents) that gives all values and all gradients."""
    both = contract.pulled(BACKENDS[backend], model.step)
    return jax.vmap(both) if runs else both


@functools.cache
def compiled(model, backend, runs):
    return jax.jit(pulled(model, backend, runs))


@functools.cache
def exact(model, runs):
    """Of a program that is compiled quickly rather than well."""
    return jax.jit(pulled(model, "scan", runs), compiler_options={"xla_backend_optimization_level": 0})


def problem(model, T, B, F, runs, seed=0):
    """Random parameters, inputs, carry and cotangents on every output and last carry, float32."""
    rng = np.random.default_rng(seed)
    lead = (runs,) if runs else ()

    def draw(scale, *shape):
        return jnp.asarray(rng.normal(scale=scale, size=lead + shape), jnp.float32)

    def parameter(shape):
        sizes = shape.sizes
        return draw(0.8 / np.sqrt(sizes[-2]) if len(sizes) > 1 else 0.4, *sizes)

    params, x = jax.tree.map(parameter, model.params), draw(1, T, B, F)
    carry = jax.tree.map(lambda width: model.middle + draw(0.5, B, width), model.carry)
    alone = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[len(lead) :], a.dtype), (params, x, carry))
    out = jax.eval_shape(functools.partial(BACKENDS["scan"], model.step), *alone)
    return params, x, carry, jax.tree.map(lambda leaf: draw(1, *leaf.shape), out)


def in_double(model, arguments, runs):
    return contract.in_double(exact(model, runs), arguments)


def hold(model, backend, T, B, F, runs=0, seed=0):
    """Asserts the contract for one size."""
    arguments = problem(model, T, B, F, runs, seed)
    ours, scan = (compiled(model, name, runs)(*arguments) for name in (backend, "scan"))
    assert not contract.broken(ours, scan, in_double(model, arguments, runs))


def for_a_draw(hold):
    """Asserts it, a function of a seed, for one of a few draws of the numbers.

    A kink may be hit by chance, where float32 and float64 take different sides, or a step be so ill-conditioned on one
    draw that its error is anything; a wrong kernel is wrong on each.
    """
    failures = []
    for seed in range(3):
        try:
            return hold(seed)
        except AssertionError as failure:
            failures.append(str(failure))
    raise AssertionError("\n".join(failures))
