"""`flax.nnx.RNN` over the fused kernels."""

from typing import Any

import jax
from flax import nnx

from rnn_compare.layers.sequences import apply, chosen


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
        definition, params, *others = nnx.split(self.cell, nnx.Param, ...)
        if jax.tree.leaves(others) or self.cell.num_feature_axes != 1:
            if resets is not None:
                raise ValueError(f"resets need a cell of parameters alone, and {type(self.cell).__name__} is none")
            own: dict[str, Any] = {"initial_carry": initial_carry, "seq_lengths": seq_lengths, "rngs": rngs}
            return super().__call__(inputs, **own, return_carry=wanted, **order)

        def step(params: Any, carry: Any, x: jax.Array) -> Any:
            return nnx.merge(definition, params)(carry, x)

        def initial(shape: tuple[int, ...]) -> Any:
            return self.cell.initialize_carry(shape, self.rngs if rngs is None else rngs)

        found = apply(step, params, inputs, initial, initial_carry, lengths=seq_lengths, resets=resets, **order)
        return found if wanted else found[1]
