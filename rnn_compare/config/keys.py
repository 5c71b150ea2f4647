"""Every key of the config, declared once: its default, what it may be, its unit and meaning."""

import difflib
from typing import Any, NamedTuple

from rnn_compare.config import claims
from rnn_compare.config.checks import (
    Check,
    Registered,
    closest,
    columns,
    name,
    number,
    one_of,
    or_name,
    pair_of,
    shown,
    stages,
    whole,
)
from rnn_compare.console.errors import UserError


class Key(NamedTuple):
    """One key of the config.

    Attributes:
        default: its value in the base config.
        check: what it may be.
        meaning: what it does, with its unit.
        stacks: whether runs that differ in it can share one compiled program, because it only changes the
            numbers a run starts from or is fed with.
        free: whether a study may be gone on with at another value, because no run's result and no rule by which
            a claim is judged depends on it.
    """

    default: Any
    check: Check
    meaning: str
    stacks: bool = False
    free: bool = False


PAPER = "paper"  # as the paper of the cell has it, which its class says


def constant(check: Check, meaning: str) -> Key:
    """The key `model.NAME` of a cell's own constant, its attribute NAME: as its class says unless it is set."""
    return Key(PAPER, or_name(check, PAPER), meaning)


# What registers names, each looked up when a value is checked.
TASK = Registered("rnn_compare.tasks:TASKS")
CELL = Registered("rnn_compare.cells:CELLS")
MATRIX = Registered("rnn_compare.cells.initializers:names", PAPER)
BIAS = Registered("rnn_compare.cells.initializers:BIASES", PAPER)
OPTIMIZER = Registered("rnn_compare.training.optimizers:OPTIMIZERS")
SCHEDULE = Registered("rnn_compare.training.optimizers:SCHEDULES")
CLIP = Registered("rnn_compare.training.optimizers:CLIPS")
BACKEND = Registered("rnn_compare.recurrence:BACKENDS", "auto")

MOST_LAYERS = 100  # each is traced and compiled by itself

KEYS: dict[str, Key] = {
    "seeds": Key(1, whole(1), "runs of each setting; run s draws its data and weights from seed s", True),
    "task.name": Key("price", TASK, "what is learnt"),
    "task.path": Key("", name, "your own data, of the task `table`: .csv, .parquet, .npy or .npz"),
    "task.inputs": Key((), columns, "columns that go in; none: all numbers"),
    "task.targets": Key((), columns, "columns that are to be told; none: those that go in"),
    "task.time": Key("", name, "column of the time, by which rows are sorted and cut where steps are missing"),
    "task.series": Key("", name, "column that names the series that a row is of"),
    "task.share": Key(0.8, number(0, 1), "share of each series that is learnt from; the rest is judged"),
    "task.season": Key(0, whole(0), "steps of a season, for a naive forecast; 0: none"),
    "task.horizon": Key(1, whole(1), "steps ahead that a forecast is for"),
    "data.sequences": Key(40, whole(1), "sequences in the batch (B)"),
    "data.length": Key(20_000, whole(1), "time steps that are trained on (T)"),
    "data.window": Key(1, whole(1), "inputs: price changes over the last 1 … window steps (F)"),
    "data.periods": Key(
        (40.0, 200.0), pair_of(number(above=0), "two numbers greater than 0"), "wave periods, steps", True
    ),
    "data.angle_step": Key(0.01, number(0), "largest change of the amplitudes' angle per step, radians", True),
    "data.noise_variance": Key(0.01, number(0), "variance of the noise on the price", True),
    "data.bias": Key(100.0, number(), "constant part of the price", True),
    "data.discount": Key(0.985, number(0, 1), "Bellman discount per step", True),
    "data.trade_cost": Key(0.7, number(0), "price of one change of position", True),
    "data.lookahead": Key(300, whole(1), "steps beyond the last trained one at which the recursion starts"),
    "model.cell": Key("lstm", CELL, "recurrent cell"),
    "model.layers": Key(1, whole(1, MOST_LAYERS), "recurrent layers, each over all states of the one before"),
    "model.units": Key(16, whole(1), "hidden units (H)"),
    "model.parameters": Key(0, whole(0), "units are those with the nearest number of parameters; 0: `model.units`"),
    "model.kernel_init": Key(PAPER, MATRIX, "initial kernel, over the whole (F, nH)", True),
    "model.recurrent_init": Key(PAPER, MATRIX, "initial recurrent kernel, whole (H, nH)", True),
    "model.bias_init": Key(PAPER, BIAS, "initial bias; of two, the recurrent one", True),
    "model.alpha": constant(number(), "α of the cells that have one, see docs/cells.md"),
    "model.beta": constant(number(), "β of the cells that have one"),
    "model.gamma": constant(number(), "γ of the cells that have one"),
    "model.epsilon": constant(number(), "ε of the cells that have one"),
    "model.dt": constant(number(above=0), "Δt of the cells that have one"),
    "model.bound": constant(number(0), "largest weight of a unit's own past, where a cell has a bound; 0: none"),
    "model.depth": constant(whole(1, MOST_LAYERS), "layers of a step, of a cell that has them"),
    "model.heads": constant(whole(1), "heads that the units are cut into, where a cell has them"),
    "model.expand": constant(whole(1), "memory cells for each unit, of a cell that projects them"),
    "optimizer.name": Key("adam", OPTIMIZER, "update rule"),
    "optimizer.learning_rate": Key(0.001, number(above=0), "learning rate, at its highest", True),
    "optimizer.schedule": Key("constant", SCHEDULE, "how the rate goes over the epochs"),
    "optimizer.clip": Key("global_norm", CLIP, "which norm of the gradient is clipped"),
    "optimizer.clip_norm": Key(1.0, number(above=0), "largest norm of the gradient, or of each tensor's", True),
    "train.epochs": Key(1000, whole(1), "full-batch updates"),
    "train.bptt": Key(0, whole(0), "steps after which an update is made and gradients are cut; 0: the whole sequence"),
    "train.lengths": Key(
        (), stages, "(epoch, steps), …: from which epoch on how many first steps are trained on; none: all of them"
    ),
    "train.choose": Key(
        0, whole(0), "epochs between looks at data of their own, by which parameters are chosen; 0: the last ones"
    ),
    "train.chunk": Key(10, whole(1), "most epochs per dispatch; the host sees losses once per chunk"),
    "train.memory": Key(
        0.0, number(0, 1e9), "GB that stacked runs may take at once; 0: half of the device's", True, True
    ),
    "train.backend": Key("auto", BACKEND, "how the recurrence is computed"),
    "checkpoint.seconds": Key(60.0, number(above=0), "seconds between checkpoints, at least", True, True),
    "checkpoint.epochs": Key(0, whole(0), "save after so many epochs too; 0: only by time", True, True),
    "checkpoint.keep": Key(2, whole(1), "checkpoints that are kept of a cohort on its way", True, True),
    "log.histogram_every": Key(100, whole(1), "epochs between histograms of the parameters"),
    "speed.limit": Key(
        0.0,
        number(0),
        "seconds that measuring the cells' speed may take at the end, with each backend; 0: not measured",
        True,
        True,
    ),
    "speed.precision": Key(
        0.005,
        number(above=0),
        "half the width of the speed ratio's interval at which measuring ends, relative",
        True,
        True,
    ),
    "compare.axis": Key("model.cell", name, "the key whose values are compared; its axis may join others", True, True),
    "compare.measure": Key("final_loss", one_of(claims.OF_RUNS), "what contestants are ranked by", True, True),
    "compare.margin": Key(0.05, number(above=0), "ratios nearer to 1 than 1 + this are as good as equal", True, True),
    "claims.list": Key((), claims.check, "what is to be decided of which contestants, see docs/statistics.md", True),
    "claims.seeds": Key(
        10,
        whole(2),
        "least pairs of finished runs with which a claim about a measure of runs is judged; 6 at the least",
        True,
    ),
}

SECTIONS = {name.rpartition(".")[0] for name in KEYS}


def of_cells() -> list[str]:
    """The keys of what a cell is made with besides its units; some cells have no such thing."""
    return [key for key, declared in KEYS.items() if key.startswith("model.") and declared.default == PAPER]


def unknown(key: str) -> UserError:
    """The complaint about a key that is not declared."""
    by_last = {k.rsplit(".", 1)[-1]: k for k in KEYS}
    near = closest(key, [*KEYS, "sweep"])
    if not near and (last := difflib.get_close_matches(key.rsplit(".", 1)[-1], by_last, n=1)):
        near = f" (did you mean {by_last[last[0]]}?)"
    return UserError(f"config.{key} is not a key of the config{near or '; the keys are ' + ', '.join(KEYS)}")


def checked(key: str, value: Any, where: str = "config.", registered: bool = True) -> Any:
    """The value of a key in its canonical type; a name that need not be `registered` may be any.

    Raises:
        UserError: the key is not declared, or the value is not what it may be.
    """
    if key not in KEYS:
        raise unknown(where.removeprefix("config.") + key)
    try:
        check = KEYS[key].check
        return check(value) if registered or not isinstance(check, Registered) else name(value)
    except ValueError as error:
        raise UserError(f"{where}{key} is {shown(value)}: it must be {error}") from None
