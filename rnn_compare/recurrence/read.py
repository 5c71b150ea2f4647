"""A cell's step read, in both directions: the graph and the arrays that it is about."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_compare.recurrence.graph import Node, Step, Unsupported, ancestors
from rnn_compare.recurrence.reverse import cotangents
from rnn_compare.recurrence.trace import Tracer, Value, batch_size

StepFunction = Callable[[Any, Any, jax.Array], tuple[Any, jax.Array]]

JOINED = "rows are joined and neither multiplied nor taken apart again"


def read(step: StepFunction, params: Any, carry: Any, x: Any) -> tuple[Step, dict[int, jax.Array]]:
    """Reads a step.

    Args:
        step: a function of (params, carry, x [B, F]) that returns (carry, y [B, W]).
        params: its parameters, a tree of arrays.
        carry: a tree of arrays [B, W], of which only shapes and types are read.
        x: an array [B, F], likewise.

    Returns:
        The graph, and the arrays that its products and vectors name by their number.

    Raises:
        Unsupported: no kernel can be made of the step; says why.
    """
    leaves, tree = jax.tree.flatten(carry)
    for leaf in (*leaves, x, *jax.tree.leaves(params)):
        if leaf.dtype != jnp.float32:
            raise Unsupported(f"the kernels compute in float32, and it is given {leaf.dtype}")
    if wrong := [leaf.shape for leaf in (*leaves, x) if leaf.ndim != 2]:
        raise Unsupported(f"a carry or an input is not [batch, units] but {wrong[0]}")
    sizes = [size for leaf in jax.tree.leaves(params) for size in leaf.shape]
    batch = batch_size(max([leaf.shape[1] for leaf in (*leaves, x)] + sizes, default=1))
    rows = [jax.ShapeDtypeStruct((batch, leaf.shape[1]), leaf.dtype) for leaf in (*leaves, x)]
    closed, shapes = jax.make_jaxpr(step, return_shape=True)(params, jax.tree.unflatten(tree, rows[:-1]), rows[-1])
    if jax.tree.structure(shapes[0]) != tree or [leaf.shape for leaf in jax.tree.leaves(shapes[0])] != [r.shape for r in rows[:-1]]:
        raise Unsupported("the step's carry changes its structure or its shapes")
    tracer = Tracer(batch)
    graph = tracer.graph
    states = tuple(graph.leaf("state", leaf.shape[1], i) for i, leaf in enumerate(leaves))
    input_ = graph.leaf("input", x.shape[1])
    given = [Value(node, (batch, node.width), 0) for node in (*states, input_)]
    results = tracer.run(closed.jaxpr, closed.consts, [*map(jnp.asarray, jax.tree.leaves(params)), *given])
    avals = [var.aval for var in closed.jaxpr.outvars]
    if len(avals) != len(states) + 1 or len(avals[-1].shape) != 2:
        raise Unsupported("the step's output is not one array [batch, units]")
    *last, output = (tracer.node(r, Value(graph.constant(0), a.shape, 0)) for r, a in zip(results, avals, strict=True))
    if any(node.op == "concat" for node in ancestors((*last, output))):
        raise Unsupported(JOINED)
    dlast = tuple(graph.leaf("cotangent", node.width, i) for i, node in enumerate(states))
    doutput = graph.leaf("cotangent", avals[-1].shape[1], len(dlast))
    found = cotangents(tracer, [*zip(last, dlast, strict=True), (output, doutput)])
    zero = graph.constant(0)
    gradients = {node: found.get(node, zero) for node in ancestors((*last, output)) if node.op in ("product", "vector")}
    dstates, dinput = tuple(found.get(state, zero) for state in states), found.get(input_, zero)
    results = {"last": last, "output": [output], "dstates": dstates, "dinput": [dinput], "gradients": gradients.values()}
    roots = [node for nodes in results.values() for node in nodes]
    behind = ancestors(roots)
    if any(node.op == "concat" for node in behind):
        raise Unsupported(JOINED)
    lines = [*map(repr, behind)] + [f"{name}: {' '.join(f'%{n.index}' for n in nodes)}" for name, nodes in results.items()]
    text = "\n".join([*map(repr, (*states, input_, doutput)), *lines])
    step_ = Step(text, states, input_, tuple(last), output, dlast, doutput, dstates, dinput, gradients)
    numbers = {number for node in behind for number in arrays_of(node)}
    return step_, {number: tracer.arrays[number] for number in sorted(numbers)}


def arrays_of(node: Node) -> tuple[int, ...]:
    """The arrays of the parameters that a node names."""
    return {"product": lambda: (node.value[0],), "vector": lambda: (node.value,)}.get(node.op, tuple)()
