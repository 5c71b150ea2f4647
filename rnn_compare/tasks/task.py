"""What a task is: sequences to learn from, and what counts on them.

Axis sizes: T time steps, B sequences, F inputs, S judged steps (the last ones), O outputs, C classes.
"""

from typing import Any, ClassVar, NamedTuple, Self

import jax
import numpy as np
from flax import struct
from ml_collections import ConfigDict

SQUARED_ERROR, CROSS_ENTROPY = "squared_error", "cross_entropy"
LEARNT, CHOOSING, JUDGED = "learnt", "choosing", "judged"  # the parts of data that is not drawn
KNOWN_SQUARED_ERROR = "known_squared_error"  # of targets that are numbers; what is not a number does not count


class Batch(NamedTuple):
    """What one run learns from, or is judged by.

    Attributes:
        inputs: [T, B, F], float32.
        targets: of the last S steps: [S, B, O] float32 for a squared error, [S, B] int32, a class each, for a
            cross-entropy.
    """

    inputs: jax.Array
    targets: jax.Array


class Task(struct.PyTreeNode):
    """A task: what its sizes are is part of a compiled program, its numbers are traced.

    A subclass has fields for both (sizes are `size()`), `of` that reads them off a config, `batch`, and what is said
    below where it differs.

    Attributes:
        keys: of the config that it reads, of those in `task` and `data`.
        heads: names of the linear heads, and how many outputs each has; a loss of several heads is their sum.
        loss: `SQUARED_ERROR`, `KNOWN_SQUARED_ERROR` or `CROSS_ENTROPY`.
        fresh: whether every update draws new sequences; otherwise a run has one batch.
        shared: whether the arrays of a fresh task are the same for all runs of a cohort, which then hold them once.
        unit: what an output is called.
        names: of the outputs, for people.
        first_input: what the first input is called.
        worth_is: what run.json calls what `worth` says: errors, or what the task is about.
        stretch: what judged steps are that follow one another, "of" how many is said behind.
    """

    keys: ClassVar[tuple[str, ...]] = ("data.length", "data.sequences")
    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", 1),)
    loss: ClassVar[str] = SQUARED_ERROR
    fresh: ClassVar[bool] = True
    shared: ClassVar[bool] = False
    unit: ClassVar[str] = "output"
    names: ClassVar[tuple[str, ...]] = ()
    first_input: ClassVar[str] = "first input"
    worth_is: ClassVar[str] = "errors"
    stretch: ClassVar[str] = "time step, of the sequence's last"

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """The task of a config.

        Raises:
            ValueError: it cannot be one; says which key must be what.
        """
        raise NotImplementedError

    @property
    def features(self) -> int:
        """F."""
        raise NotImplementedError

    @property
    def steps(self) -> int:
        """T."""
        raise NotImplementedError

    @property
    def every_step(self) -> bool:
        """Whether every step is judged: sequences of which only the last are cannot be cut."""
        return len(jax.eval_shape(self.batch, jax.random.key(0)).targets) == self.steps

    def batch(self, key: jax.Array) -> Batch:
        """Sequences drawn from a key; traced by JAX."""
        raise NotImplementedError

    def judged(self) -> "Task":
        """The task that draws what nothing is learnt from: itself, where keys of its own are enough."""
        return self

    def choosing(self) -> "Task":
        """The task that draws what parameters are chosen by: itself, where keys of its own are enough."""
        return self

    def least(self) -> int:
        """Bytes that making a batch takes at the least, where that is more than the batch."""
        return 0

    def worth(self, values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """What a network's outputs are worth in the task's own terms; nothing where the loss says it all.

        Args:
            values: outputs of every step, [T, B, O].
            batch: what was asked.

        Returns:
            Arrays by their names; of each the mean is taken.
        """
        return {}

    def in_units(self, values: Any) -> Any:
        """Outputs or targets [..., O] as people know them: themselves, where they were not scaled to be learnt."""
        return values

    def about(self) -> str:
        """What a person should know of the data; nothing where the config says it all."""
        return ""

    def naive(self) -> dict[str, float]:
        """The losses of forecasts that need no learning, by their names, on what is judged."""
        return {}

    def naive_errors(self) -> dict[str, dict[str, float]]:
        """What is said of a network in `worth`, of forecasts that need no learning."""
        return {}

    def guess(self, batch: Batch) -> float:
        """The loss of who knows nothing of the inputs, and gives the same answer at every step: the best of those."""
        targets = np.asarray(batch.targets)
        if self.loss == CROSS_ENTROPY:
            share = np.unique(targets, return_counts=True)[1] / targets.size
            return float(-(share * np.log(share)).sum())
        spread = np.nanvar(targets.reshape(-1, targets.shape[-1]), axis=0, dtype=np.float64)
        ends = np.cumsum([count for _, count in self.heads])
        return float(sum(part.mean() for part in np.split(spread, ends[:-1])))


def size(**more: Any) -> Any:
    """A field of a task that its compiled programs depend on."""
    return struct.field(pytree_node=False, **more)


class Sequences(Task):
    """A task whose sequences are drawn, of `data.length` steps and `data.sequences` at a time.

    Attributes:
        shortest: the fewest steps of which it can be made.
    """

    shortest: ClassVar[int] = 2

    length: int = size()
    sequences: int = size()

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """See `Task.of`."""
        if config.data.length < cls.shortest:
            raise ValueError(
                f"config.data.length is {config.data.length}: it must be at least {cls.shortest} for the task "
                f"{config.task.name}"
            )
        return cls(length=config.data.length, sequences=config.data.sequences, **cls.more(config))

    @classmethod
    def more(cls, config: ConfigDict) -> dict[str, Any]:
        """Further fields, by their names."""
        return {}

    @property
    def steps(self) -> int:
        """The length."""
        return self.length


class Kept(Task, kw_only=True):
    """A task whose data is at hand, the same for all runs of a cohort, and cut into parts.

    Attributes:
        part: of which part its batches are.
    """

    shared: ClassVar[bool] = True

    part: str = size(default=LEARNT)

    def choosing(self) -> Self:
        """The same with the last of what would be learnt from, as large a share of it as is judged of all."""
        return self.replace(part=CHOOSING)

    def judged(self) -> Self:
        """The same with what is not learnt from."""
        return self.replace(part=JUDGED)


def ends(count: int, config: ConfigDict) -> tuple[int, int]:
    """How many of so many are learnt from, the first ones, and where those begin that are judged.

    Between the two are those by which parameters are chosen, if they are.
    """
    judged = round(config.task.share * count)
    return round(config.task.share * judged) if config.train.choose else judged, judged


# A task in words; where what it reads is gone, its class says what it can.


def loss_in_words(task: Task | type[Task]) -> str:
    """The loss, with its unit."""
    if task.loss == CROSS_ENTROPY:
        return "loss (cross-entropy, nats)"
    summed = isinstance(task.heads, tuple) and len(task.heads) > 1
    return f"loss ({'summed mean squared errors' if summed else 'mean squared error'})"


def input_in_words(task: Task | type[Task]) -> str:
    """The first input's name."""
    return task.first_input if isinstance(task.first_input, str) else Task.first_input


def output_in_words(task: Task | type[Task], i: int) -> str:
    """The i-th output's name."""
    if isinstance(task.names, tuple) and i < len(task.names):
        return task.names[i]
    return "class" if task.loss == CROSS_ENTROPY else f"{task.unit} {i + 1}"
