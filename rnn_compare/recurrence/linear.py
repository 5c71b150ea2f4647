"""A linear function whose transpose is computed in another way than JAX would.

With it, a function's derivative can be taken forward (by the linear function), backward (by the transpose that is
given), and again: JAX differentiates what both stand for.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def linear(function: Callable, transpose: Callable, given: Any, operands: Any) -> Any:
    """function(given, operands), which is linear in the operands.

    Args:
        function: in JAX throughout.
        transpose: computes `transposed(function, operands)(given, cotangents)`, in any way.
        given: a tree of arrays in which neither is linear.
        operands: a tree of arrays.
    """
    leaves, structure = jax.tree.flatten((given, operands))
    result = jax.eval_shape(function, given, operands)
    flat = _flat(function, structure), _flat(transpose, jax.tree.structure((given, result)))
    exact = flat[0], _flat(transposed(function, operands), jax.tree.structure((given, result)))
    count = len(jax.tree.leaves(given))
    results = _linear.bind(*leaves, functions=flat, exact=exact, count=count)
    return jax.tree.unflatten(jax.tree.structure(result), results)


def transposed(function: Callable, operands: Any) -> Callable:
    """The transpose of function(given, operands) as JAX finds it, a function of (given, cotangents)."""
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), operands)
    return lambda given, cotangents: jax.linear_transpose(functools.partial(function, given), shapes)(cotangents)[0]


def _flat(function: Callable, structure: Any) -> Callable:
    return lambda *leaves: jax.tree.leaves(function(*jax.tree.unflatten(structure, leaves)))


# Parameters: the function and its transpose, of flat arrays; the same in JAX alone; how many arrays are `given`.
_linear = Primitive("linear_with_transpose")
_linear.multiple_results = True


def _compute(*arrays: Any, functions: Any, exact: Any, count: int) -> Any:
    return functions[0](*arrays)


def _jvp(primals: Any, tangents: Any, functions: Any, exact: Any, count: int) -> Any:
    results = _linear.bind(*primals, functions=functions, exact=exact, count=count)
    if all(isinstance(tangent, ad.Zero) for tangent in tangents[:count]):
        moved = [ad.instantiate_zeros(tangent) for tangent in tangents[count:]]
        return results, _linear.bind(*primals[:count], *moved, functions=functions, exact=exact, count=count)
    return results, jax.jvp(exact[0], list(primals), [ad.instantiate_zeros(tangent) for tangent in tangents])[1]


def _transpose(cotangents: Any, *arrays: Any, functions: Any, exact: Any, count: int) -> Any:
    cotangents = [ad.instantiate_zeros(cotangent) for cotangent in cotangents]
    results = _linear.bind(*arrays[:count], *cotangents, functions=functions[::-1], exact=exact[::-1], count=count)
    return [None] * count + list(results)


def _batch(arrays: Any, axes: Any, functions: Any, exact: Any, count: int) -> Any:
    size = next(array.shape[axis] for array, axis in zip(arrays, axes, strict=True) if axis is not None)
    moved = [
        jnp.broadcast_to(array, (size, *array.shape)) if axis is None else jnp.moveaxis(array, axis, 0)
        for array, axis in zip(arrays, axes, strict=True)
    ]
    mapped = tuple(map(jax.vmap, functions)), tuple(map(jax.vmap, exact))
    results = _linear.bind(*moved, functions=mapped[0], exact=mapped[1], count=count)
    return results, [0] * len(results)


def _avals(*avals: Any, **params: Any) -> Any:
    shapes = jax.eval_shape(params["functions"][0], *(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    return [jax.core.ShapedArray(shape.shape, shape.dtype) for shape in shapes]


_linear.def_impl(_compute)
_linear.def_abstract_eval(_avals)
ad.primitive_jvps[_linear] = _jvp
ad.primitive_transposes[_linear] = _transpose
batching.primitive_batchers[_linear] = _batch
mlir.register_lowering(_linear, mlir.lower_fun(_compute, multiple_results=True))
