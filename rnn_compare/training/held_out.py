"""What a trained network says of sequences that it has never seen: as many as it was trained on, drawn anew."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.network.model import Model, losses
from rnn_compare.network.readout import readout, squared_error
from rnn_compare.tasks.price import Batch
from rnn_compare.training.start import HELD_OUT, init_batch

STRETCH = 400  # steps whose predictions are kept; the last ones, so that the network has seen all that came before


class HeldOut(NamedTuple):
    """A run on its held-out data.

    Attributes:
        losses: `loss` and each head's, as in training, over all held-out sequences.
        stretch: the last S = min(400, T) steps of the first sequence: `predictions` and `targets` [S, 7] in the order
            of `tasks.price.ACTIONS`, and `change`, the price's over the step before, [S].
    """

    losses: dict[str, float]
    stretch: dict[str, np.ndarray]


def evaluate(model: Model, config: ConfigDict, seed: int, params: Any) -> HeldOut:
    """Evaluates one run; the same seed and `config.data` give the same sequences, whatever the cell.

    Args:
        model: shared by all runs of a cohort, so that it compiles once; initializers play no part here.
        config: the run's config.
        seed: the run's seed.
        params: its parameters, without an axis R: alone, because no bit of a run may depend on those beside it.
    """
    batch = init_batch(config, seed, HELD_OUT)
    errors, predictions = jax.device_get(_evaluate(params, batch, model))
    stretch = {
        "predictions": predictions,
        "targets": np.asarray(batch.targets[-STRETCH:, 0]),
        "change": np.asarray(batch.inputs[-STRETCH:, 0, 0]),
    }
    return HeldOut({name: float(value) for name, value in losses(errors).items()}, stretch)


@partial(jax.jit, static_argnames="model")
def _evaluate(params: Any, batch: Batch, model: Model) -> tuple[jax.Array, jax.Array]:
    def both(model: Model, x: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden, heads = model.hidden(x), model.head_parameters()
        return squared_error(hidden, *heads, targets, model.backend), readout(hidden[-STRETCH:, 0], *heads)

    result: Any = model.apply({"params": params}, *batch, method=both)
    return result
