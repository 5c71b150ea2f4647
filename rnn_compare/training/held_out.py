"""What a trained network says of sequences that it has never seen: as many as it was trained on, drawn anew."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.network.model import Model, losses
from rnn_compare.network.readout import readout, squared_error
from rnn_compare.tasks.price import Batch, best_profit, play
from rnn_compare.training.start import HELD_OUT, init_batch

STRETCH = 400  # steps whose predictions are kept; the last ones, so that the network has seen all that came before


class HeldOut(NamedTuple):
    """A run on its held-out data.

    Attributes:
        losses: `loss` and each head's, as in training, over all held-out sequences.
        stretch: the last S = min(400, T) steps of the first sequence: `predictions` and `targets` [S, 7] in the order
            of `tasks.price.ACTIONS`, and `change`, the price's over the step before, [S].
        policy: what it earns to take the actions that it values most, see `tasks.price.play`, per 1,000 steps of a
            sequence: `profit` and `trades`; and `best_profit`, the most that could have been earned.
    """

    losses: dict[str, float]
    stretch: dict[str, np.ndarray]
    policy: dict[str, float]


def evaluate(model: Model, config: ConfigDict, seed: int, params: Any) -> HeldOut:
    """Evaluates one run; the same seed and `config.data` give the same sequences, whatever the cell.

    Args:
        model: shared by all runs of a cohort, so that it compiles once; initializers play no part here.
        config: the run's config.
        seed: the run's seed.
        params: its parameters, without an axis R: alone, because no bit of a run may depend on those beside it.
    """
    batch = init_batch(config, seed, HELD_OUT)
    errors, predictions, policy = jax.device_get(_evaluate(params, batch, model, config.data.trade_cost))
    stretch = {
        "predictions": predictions,
        "targets": np.asarray(batch.targets[-STRETCH:, 0]),
        "change": np.asarray(batch.inputs[-STRETCH:, 0, 0]),
    }
    steps = len(batch.inputs) - 1
    of_policy = {name: 1000 * float(np.mean(value)) / steps for name, value in policy.items()}
    return HeldOut({name: float(value) for name, value in losses(errors).items()}, stretch, of_policy)


@partial(jax.jit, static_argnames="model")
def _evaluate(params: Any, batch: Batch, model: Model, trade_cost: float) -> tuple[jax.Array, jax.Array, Any]:
    def all_three(model: Model, x: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        hidden, heads = model.hidden(x), model.head_parameters()
        change = x[1:, :, 0]  # that of row t + 1 is the change from step t to the next
        profit, trades = play(readout(hidden[:-1], *heads), change, trade_cost)
        policy = {"profit": profit, "trades": trades, "best_profit": best_profit(change, trade_cost)}
        return squared_error(hidden, *heads, targets, model.backend), readout(hidden[-STRETCH:, 0], *heads), policy

    result: Any = model.apply({"params": params}, *batch, method=all_three)
    return result
