"""`flax.linen.RNN` and `Bidirectional`, with the same parameters, over the fused kernels."""

from typing import Any

import jax
from flax import linen as nn
from flax.errors import FlaxError

from rnn_compare.layers.sequences import apply, chosen
from rnn_compare.recurrence import UnsupportedError


class RNN(nn.RNN):
    """`flax.linen.RNN`, fused: its arguments, its parameters and its results, for cells of ours and of Flax.

    What no kernel can be made of, as a cell with dropout or a convolution in it, is Flax's own affair, and so is
    `unroll`. Two things differ: outputs of padding are zero, and sequences may begin anew on their way (`resets`).
    """

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        init_key: Any = None,
        seq_lengths: jax.Array | None = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        resets: jax.Array | None = None,
    ) -> Any:
        """Applies the cell over time.

        Args:
            inputs: [*batch, T, F], or [T, *batch, F] if `time_major`.
            initial_carry: the carry before the first step; the cell's own if it is left out.
            init_key: a random key for the cell's own; most cells do not use it.
            seq_lengths: the length of each sequence, [*batch]; what lies behind it is padding.
            return_carry: whether the last carry is returned too, here and below in place of the layer's own choice.
            time_major: whether time is the first axis.
            reverse: whether time runs backward; padding stays at the end.
            keep_order: whether outputs of a reversed sequence are in the order of the inputs.
            resets: whether a sequence begins anew at a step, [*batch, T], or [T, *batch] if `time_major`: the carry
                is put back to the initial one before it. Reversed, it is put back behind it.

        Returns:
            The outputs, or (carry, outputs).
        """
        order = chosen(self, time_major=time_major, reverse=reverse, keep_order=keep_order)
        wanted = self.return_carry if return_carry is None else return_carry
        if (found := self._fused(inputs, initial_carry, init_key, seq_lengths, resets, order)) is not None:
            return found if wanted else found[1]
        if resets is not None and not self.is_initializing():
            raise ValueError(
                f"resets need a cell that is a function of parameters, and {type(self.cell).__name__} is none"
            )
        own: dict[str, Any] = {"initial_carry": initial_carry, "init_key": init_key, "seq_lengths": seq_lengths}
        return super().__call__(inputs, **own, return_carry=wanted, **order)

    def _fused(
        self,
        inputs: jax.Array,
        carry: Any,
        key: Any,
        lengths: jax.Array | None,
        resets: jax.Array | None,
        order: dict[str, Any],
    ) -> tuple[Any, jax.Array] | None:
        """(last carry, outputs); None of a cell that is more than a function of parameters, or not yet initialized."""
        lifted = self.variable_broadcast != "params" or self.variable_axes or self.variable_carry
        if lifted or set(self.split_rngs) - {"params"} or self.is_initializing() or self.cell.num_feature_axes != 1:
            return None
        cell, variables = self.cell.unbind()
        if variables.keys() - {"params"}:
            return None

        def step(params: Any, carry: Any, x: jax.Array) -> Any:
            return cell.apply({"params": params}, carry, x)

        def initial(shape: tuple[int, ...]) -> Any:
            return self.cell.initialize_carry(jax.random.key(0) if key is None else key, shape)

        params = variables.get("params", {})
        try:
            return apply(step, params, inputs, initial, carry, lengths=lengths, resets=resets, **order)
        except (FlaxError, UnsupportedError):  # it needs random numbers, or gives out a tree, or the like
            return None


UNUSED = "reverse", "keep_order"  # by a layer of both directions, in Flax too


class Bidirectional(nn.Bidirectional):
    """`flax.linen.Bidirectional`, whose two layers may be told where sequences begin anew."""

    def __call__(
        self,
        inputs: jax.Array,
        *,
        initial_carry: Any = None,
        init_key: Any = None,
        return_carry: bool | None = None,
        time_major: bool | None = None,
        **given: Any,
    ) -> Any:
        """As Flax's; both layers are `given` the lengths, and the resets, which Flax's own `RNN` does not know."""
        given = {name: value for name, value in given.items() if value is not None and name not in UNUSED}
        given |= {"return_carry": True, "time_major": self.time_major if time_major is None else time_major}
        keys = (None, None) if init_key is None else jax.random.split(init_key)
        carries = (None, None) if initial_carry is None else initial_carry
        forward = self.forward_rnn(inputs, initial_carry=carries[0], init_key=keys[0], reverse=False, **given)
        backward = self.backward_rnn(
            inputs, initial_carry=carries[1], init_key=keys[1], reverse=True, keep_order=True, **given
        )
        outputs = jax.tree.map(self.merge_fn, forward[1], backward[1])
        wanted = self.return_carry if return_carry is None else return_carry
        return ((forward[0], backward[0]), outputs) if wanted else outputs
