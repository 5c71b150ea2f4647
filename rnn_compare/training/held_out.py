"""What a trained network says of sequences that it has never seen: as many as it was trained on, drawn anew."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.network.model import Model
from rnn_compare.network.readout import readout
from rnn_compare.tasks import Task, make_task
from rnn_compare.tasks.task import CROSS_ENTROPY, Batch
from rnn_compare.training.start import CHOICE, HELD_OUT, init_batch

FEW = 20  # judged steps of a sequence, below which several sequences are kept
STRETCH = 400  # steps whose predictions are kept; the last ones, so that the network has seen all that came before


class HeldOut(NamedTuple):
    """A run on its held-out data.

    Attributes:
        losses: `loss` and whatever else is logged of it, as in training, over all held-out sequences.
        stretch: at most 400 judged steps, the last ones of the first sequence (of those of which most is known), or of
            several sequences one after the other if each has only a few: `predictions` and `targets` [S, O], in their
            own units, and `change`, the first input, [S]. An answer that is a class is its number.
        worth: what the outputs are worth in the task's own terms, means over the sequences.
        guess: the loss of who knows nothing of the inputs.
        naive: the losses of forecasts that need no learning.
        naive_errors: what `worth` says of these.
    """

    losses: dict[str, float]
    stretch: dict[str, np.ndarray]
    worth: dict[str, float]
    guess: float
    naive: dict[str, float]
    naive_errors: dict[str, dict[str, float]]


def evaluate(model: Model, config: ConfigDict, seed: int, params: Any) -> HeldOut:
    """Evaluates one run; the same seed, `config.task` and `config.data` give the same sequences, whatever the cell.

    Args:
        model: shared by all runs of a cohort, so that it compiles once; initializers play no part here.
        config: the run's config.
        seed: the run's seed.
        params: its parameters, without an axis R: alone, because no bit of a run may depend on those beside it.
    """
    batch, task = init_batch(config, seed, HELD_OUT), make_task(config).judged()
    known = np.isfinite(np.asarray(batch.targets)).sum(axis=0).reshape(len(batch.targets[0]), -1).sum(axis=-1)
    first = int(np.argmax(known))
    errors, predictions, worth = jax.device_get(_evaluate(params, batch, task, first, model))
    targets = shown(np.asarray(batch.targets), first)

    def told(answers: np.ndarray) -> np.ndarray:
        return answers[:, None] if task.loss == CROSS_ENTROPY else np.asarray(task.in_units(answers))

    stretch = {
        "predictions": told(np.argmax(predictions, axis=-1) if task.loss == CROSS_ENTROPY else predictions),
        "targets": told(targets),
        "change": shown(np.asarray(batch.inputs[-len(batch.targets) :, :, 0]), first),
    }
    of_worth = {name: float(np.mean(value)) for name, value in worth.items()}
    losses = {name: float(value) for name, value in model.losses(errors).items()}
    return HeldOut(losses, stretch, of_worth, task.guess(batch), task.naive(), task.naive_errors())


def choosing_loss(model: Model, config: ConfigDict, seed: int, params: Any) -> float:
    """What a run loses on the data by which its parameters are chosen; arguments as in `evaluate`."""
    errors = _errors(params, init_batch(config, seed, CHOICE), model)
    return float(model.losses(errors)["loss"])


@partial(jax.jit, static_argnames="model")
def _errors(params: Any, batch: Batch, model: Model) -> jax.Array:
    errors: Any = model.apply({"params": params}, *batch, method="errors")
    return errors


def shown(judged: Any, first: Any) -> Any:
    """The judged steps that are kept, of one sequence or of several, [S, B, ...] -> [at most `STRETCH`, ...]."""
    S, B = judged.shape[:2]
    if S >= FEW:
        return judged[-STRETCH:, first]
    several = judged[:, : min(B, STRETCH // S)]
    return several.swapaxes(0, 1).reshape(-1, *judged.shape[2:])


@partial(jax.jit, static_argnames="model")
def _evaluate(params: Any, batch: Batch, task: Task, first: int, model: Model) -> tuple[jax.Array, jax.Array, Any]:
    def all_three(model: Model, x: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array, Any]:
        hidden, heads = model.hidden(x), model.head_parameters()
        judged = hidden[-len(targets) :]
        worth = task.worth(readout(hidden, *heads), Batch(x, targets))
        return model.errors_of(hidden, targets), readout(jnp.asarray(shown(judged, first)), *heads), worth

    result: Any = model.apply({"params": params}, *batch, method=all_three)
    return result
