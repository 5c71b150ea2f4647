"""Every complaint about a config; one that passes is ready to run."""

import math
from collections import Counter
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rnn_compare.config.checks import shown, words
from rnn_compare.config.claims import EVERY_OTHER
from rnn_compare.config.keys import CELL, KEYS, PAPER, TASK, checked, of_cells, unknown
from rnn_compare.config.tree import axis_keys, base, compared_keys, contestants, leaves, set_value, settings
from rnn_compare.console.errors import UserError

MOST_RUNS = 100_000  # of a study; to write them down takes 10 seconds


def validate(config: ConfigDict, registered: bool = True) -> ConfigDict:
    """The config with every value in its canonical type, locked.

    Args:
        config: as a file makes it.
        registered: whether names must be registered in this process; to read what was trained they need not be.

    Raises:
        UserError: the first complaint, in one sentence.
    """
    given = dict(leaves(config))
    axes = as_axes(given.pop("sweep", {}))
    for name in given:
        if name not in KEYS:
            raise unknown(name)
    if missing := [name for name in KEYS if name not in given]:
        raise UserError(f"config.{missing[0]} is missing: start from rnn_compare.config.base()")
    resolved = base()
    for name, value in given.items():
        set_value(resolved, name, checked(name, value, registered=registered))
    resolved.sweep = {axis: _checked_axis(axis, values, registered) for axis, values in axes.items()}
    named = [key for axis in resolved.sweep for key in axis_keys(axis)]
    if twice := _twice(named):
        raise UserError(f"config.sweep has {twice[0]} on two axes: it must be on one")
    counts = [resolved.seeds, *map(len, resolved.sweep.values())]
    if math.prod(counts) > MOST_RUNS:
        raise UserError(
            f"config.seeds times the axes of config.sweep makes {' × '.join(map(str, counts))} = {math.prod(counts)} "
            f"runs: it must be at most {MOST_RUNS}"
        )
    if "model.units" in named and (resolved.model.parameters or "model.parameters" in named):
        raise UserError("config.sweep has the axis model.units, which config.model.parameters chooses: leave one out")
    if registered:
        _check_compared(resolved)
    values = dict(leaves(resolved))
    if registered:
        _check_tasks(values)
        _check_of_cells(values, named)
    return resolved.lock()


def _checked_axis(axis: Any, values: Any, registered: bool) -> tuple:
    if not isinstance(axis, str):
        raise UserError(f"config.sweep has the axis {shown(axis)}: it must be a key such as 'model.units'")
    if isinstance(values, range):
        values = tuple(values[: MOST_RUNS + 1])  # of one that is too long, enough to see that it is
    elif isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, tuple | list):
        raise UserError(f"config.sweep.{axis} is {shown(values)}: it must be a tuple of values")
    if not values:
        raise UserError(f"config.sweep.{axis} is empty: give it at least one value, or leave the axis out")
    keys = axis_keys(axis)
    if "seeds" in keys:
        raise UserError("config.sweep has the axis seeds: set config.seeds, which gives every setting its seeds")
    if of_study := [key for key in keys if key.split(".")[0] in ("compare", "claims")]:
        raise UserError(f"config.sweep has the axis {of_study[0]}: it is one for all runs, so set config.{of_study[0]}")
    rows = []
    for value in values:
        row = value if len(keys) > 1 else (value,)
        if not isinstance(row, tuple | list) or len(row) != len(keys):
            raise UserError(f"config.sweep.{axis} has {shown(value)}: it must give one value for each of its keys")
        rows.append(tuple(checked(k, v, "config.sweep.", registered) for k, v in zip(keys, row, strict=True)))
    if twice := _twice(rows):
        raise UserError(f"config.sweep.{axis} names {twice[0] if len(keys) > 1 else twice[0][0]!r} twice")
    return tuple(rows) if len(keys) > 1 else tuple(row[0] for row in rows)


def _check_compared(config: ConfigDict) -> None:
    key = config.compare.axis
    if key not in KEYS:
        raise UserError(f"config.compare.axis is {shown(key)}: it must be a key that config.sweep varies")
    keys, names = compared_keys(dict(leaves(config))), contestants(dict(leaves(config)))
    for claim in config.claims["list"]:
        for field in ("a", "b"):
            if not (
                words(claim[field]) in names or claim["b"] == claim[field] == EVERY_OTHER or _may_be(keys, claim[field])
            ):
                raise UserError(
                    f"config.claims.list names the contestant {words(claim[field])!r}, which is none of those of "
                    f"config.compare.axis, {key}: {', '.join(names)}"
                )
        if words(claim["a"]) == words(claim["b"]):
            raise UserError(f"config.claims.list compares {words(claim['a'])!r} with itself")


def _check_of_cells(values: dict[str, Any], swept: list[str]) -> None:
    """Complains about what only some cells have, where none has it or a sweep would try it on one that has not."""
    tried = [values | setting for setting in settings(values["sweep"])]
    made_with = {cell: CELL.entry(cell)(units=1).__dataclass_fields__ for cell in {c["model.cell"] for c in tried}}
    for key in of_cells():
        given = [config for config in tried if config[key] != PAPER]
        lost = [config for config in given if key.rpartition(".")[2] not in made_with[config["model.cell"]]]
        if lost and (key in swept or len(lost) == len(given)):
            raise UserError(
                f"config.{'sweep.' * (key in swept)}{key} is {shown(lost[0][key])} for the cell "
                f"{lost[0]['model.cell']}, which has none: it must be {PAPER!r} there"
            )


def _may_be(keys: tuple[str, ...], value: Any) -> bool:
    """Whether a study with other axes could have such a contestant."""
    values = value if len(keys) > 1 else (value,)
    try:
        for key, part in zip(keys, values, strict=True):
            checked(key, part)
    except (UserError, TypeError, ValueError):
        return False
    return True


def _twice(items: list) -> list:
    """The items that are in the list more than once."""
    return [item for item, times in Counter(items).items() if times > 1]


PARTS = "train.bptt", "train.lengths", "train.epochs", "train.choose"  # that go with the task's steps and parts


def _check_tasks(values: dict[str, Any]) -> None:
    """Complains about a setting of which no task can be made, or that sets what its task does not read."""
    matter = [key for key in KEYS if key.startswith(("task.", "data.")) or key in PARTS]
    tried = (values | setting for setting in settings(values["sweep"]))
    for own in dict.fromkeys(tuple(setting[key] for key in matter) for setting in tried):  # others make no other task
        config = base()
        for key, value in zip(matter, own, strict=True):
            set_value(config, key, value)
        kind = TASK.entry(config.task.name)
        read = ("task.name", *kind.keys)
        for key, value in leaves(config):
            if key.startswith(("task.", "data.")) and key not in read and value != KEYS[key].default:
                raise UserError(
                    f"config.{key} is {shown(value)} for the task {config.task.name}, which does not read it: "
                    "leave it out"
                )
        try:
            _check_parts(config, kind.of(config))
        except ValueError as error:
            raise UserError(str(error)) from None


def _check_parts(config: ConfigDict, task: Any) -> None:
    """Complains where a task's sequences cannot be cut as the config says."""
    steps, bptt, lengths = task.steps, config.train.bptt, config.train.lengths
    if bptt and steps % bptt:
        raise UserError(f"config.train.bptt is {bptt}: it must divide the {steps} steps of a sequence, or be 0")
    for epoch, length in lengths:
        if length > steps:
            raise UserError(f"config.train.lengths asks for {length} steps: a sequence has {steps}")
        if bptt and length % bptt:
            raise UserError(
                f"config.train.lengths asks for {length} steps: config.train.bptt, {bptt}, must divide them"
            )
        if epoch >= config.train.epochs:
            raise UserError(
                f"config.train.lengths has a part from epoch {epoch} on: it must be before config.train.epochs, "
                f"{config.train.epochs}"
            )
    for key, value, none in (("bptt", bptt, 0), ("lengths", lengths, ())):
        if value and not task.every_step:
            raise UserError(
                f"config.train.{key} is {value} for the task {config.task.name}, of which only last steps are judged: "
                f"it must be {none}"
            )


def as_axes(sweep: Any) -> dict[str, Any]:
    """A sweep as a file or the command line gives it: axis -> values, unchecked.

    Raises:
        UserError: it is no mapping.
    """
    if isinstance(sweep, ConfigDict):
        sweep = {axis.removeprefix("sweep."): values for axis, values in leaves(sweep, "sweep.")}
    if not isinstance(sweep, dict):
        raise UserError(f"config.sweep is {shown(sweep)}: it must map keys to values, as {{'model.units': (8, 16)}}")
    return sweep
