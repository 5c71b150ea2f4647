"""`flax.nnx.RNN` over the fused kernels."""

from typing import Any

import jax
from flax import nnx

from rnn_compare.layers.sequences import apply, chosen
from rnn_compare.recurrence import UnsupportedError


class RNN(nnx.RNN):
    """`flax.nnx.RNN`, fused: its arguments and its results, for the cells of `flax.nnx`; see `linen.RNN`.

    A cell that holds more than parameters, as one with dropout, is Flax's own affair.
    """

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        rngs: Any = None,
        resets: jax.Array | None = None,
    ) -> Any:
        """Applies the cell over time; see `linen.RNN`."""
        order = chosen(self, time_major=time_major, reverse=reverse, keep_order=keep_order)
        wanted = self.return_carry if return_carry is None else return_carry
        found = self._fused(inputs, initial_carry, rngs, seq_lengths, resets, order)
        if found is not None:
            return found if wanted else found[1]
        if resets is not None:
            raise ValueError(f"resets need a cell of parameters alone, and {type(self.cell).__name__} is none")
        own: dict[str, Any] = {"initial_carry": initial_carry, "seq_lengths": seq_lengths, "rngs": rngs}
        return super().__call__(inputs, **own, return_carry=wanted, **order)

    def _fused(
        self,
        inputs: jax.Array,
        carry: Any,
        rngs: Any,
        lengths: jax.Array | None,
        resets: jax.Array | None,
        order: dict[str, Any],
    ) -> tuple[Any, jax.Array] | None:
        """(last carry, outputs); None of a cell that is more than a function of parameters."""
        definition, params, *others = nnx.split(self.cell, nnx.Param, ...)
        if jax.tree.leaves(others) or self.cell.num_feature_axes != 1:
            return None
        stream = self.rngs if rngs is None else rngs
        if isinstance(stream, nnx.Rngs):
            stream = stream.carry.fork()

        def step(params: Any, carry: Any, x: jax.Array) -> Any:
            return nnx.merge(definition, params)(carry, x)

        def initial(shape: tuple[int, ...]) -> Any:
            return self.cell.initialize_carry(shape, stream)

        try:
            return apply(step, params, inputs, initial, carry, lengths=lengths, resets=resets, **order)
        except UnsupportedError:  # it gives out a tree, or the like
            return None
