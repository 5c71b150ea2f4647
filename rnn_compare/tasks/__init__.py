"""What is learnt: tasks, by the names that configs give them."""

from ml_collections import ConfigDict

from rnn_compare.tasks.chaos import Lorenz, MackeyGlass, Narma
from rnn_compare.tasks.digits import Digits, PermutedDigits
from rnn_compare.tasks.memory import Adding, CopyMemory, Denoising, Parity, TemporalOrder
from rnn_compare.tasks.price import Price
from rnn_compare.tasks.table import Table
from rnn_compare.tasks.task import Task

TASKS: dict[str, type[Task]] = {
    "price": Price,
    "adding": Adding,
    "copy": CopyMemory,
    "denoising": Denoising,
    "temporal_order": TemporalOrder,
    "parity": Parity,
    "mackey_glass": MackeyGlass,
    "lorenz": Lorenz,
    "narma": Narma,
    "digits": Digits,
    "permuted_digits": PermutedDigits,
    "table": Table,
}


def make_task(config: ConfigDict) -> Task:
    """The task of a run's config."""
    return TASKS[config.task.name].of(config)
