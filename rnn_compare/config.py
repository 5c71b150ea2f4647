"""The base config, and every complaint about a config.

`KEYS` declares each key once: default, what it may be, meaning. A config file calls `base()` and changes only
what makes it that experiment; `load` reads the file, applies the command line's overrides and returns the
checked, locked result. Nothing here trains, compiles or writes: a config that passes is ready to run.
"""

import ast
import difflib
import math
import os
import runpy
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from numbers import Integral, Real
from typing import Any, NamedTuple

from ml_collections import ConfigDict, config_dict

from rnn_compare import cells, initializers, optimizers, recurrence

LARGEST = 2**31 - 1  # of the whole numbers: JAX counts in 32 bits
SMALLEST, MOST = 1.2e-38, 3.4e38  # of the other numbers, which become float32
MOST_RUNS = 100_000  # of a study; to write them down takes 10 seconds


class UserError(Exception):
    """What a person can put right: one sentence that names the key, its value and what would be right.

    It is one printable line whatever it quotes: other characters are escaped.
    """

    def __init__(self, sentence: str):
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in sentence))


def shown(value: Any) -> str:
    """A value as a complaint quotes it."""
    try:
        text = repr(value)
    except Exception:  # a whole number of more digits than Python writes; a class that cannot describe itself
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 200 else f"{text[:200]} …"


# --- What a value may be: each check returns the value in its canonical type, or raises ValueError saying what
# would be right.

Check = Callable[[Any], Any]


def whole(low: int) -> Check:
    """A whole number from `low` to `LARGEST`."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
            raise ValueError(f"a whole number of at least {low}")
        if int(value) > LARGEST:
            raise ValueError(f"a whole number of at most {LARGEST}")
        return int(value)

    return check


def number(low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf) -> Check:
    """A finite number in [low, high], and greater than `above`."""
    if above > -math.inf:
        what = f"a number greater than {above:g}"
    elif high < math.inf:
        what = f"a number from {low:g} to {high:g}"
    else:
        what = f"a number of at least {low:g}" if low > -math.inf else "a finite number"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(what)
        try:
            result = float(value)
        except OverflowError:  # a whole number such as 10**400
            raise ValueError(what) from None
        if not (math.isfinite(result) and low <= result <= high and result > above):
            raise ValueError(what)
        if not SMALLEST <= abs(result) <= MOST and result != 0:
            raise ValueError(f"{what}, within single precision")
        return result

    return check


def one_of(names: Iterable[str]) -> Check:
    """One of the given names."""
    known = tuple(names)

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"one of {', '.join(known)}{closest(value, known) if isinstance(value, str) else ''}")
        return str(value)  # NumPy has strings of its own

    return check


def pair_of(item: Check, what: str) -> Check:
    """Two values, each of which passes `item`."""

    def check(value: Any) -> tuple:
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise ValueError(what)
        try:
            return tuple(item(v) for v in value)
        except ValueError:
            raise ValueError(what) from None

    return check


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


KEYS: dict[str, Key] = {
    "seeds": Key(1, whole(1), "runs of each setting; run s draws its data and weights from seed s", True),
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
    "model.cell": Key("lstm", one_of(cells.CELLS), "recurrent cell"),
    "model.units": Key(16, whole(1), "hidden units (H)"),
    "model.kernel_init": Key(
        "glorot_uniform", one_of(initializers.INITIALIZERS), "initial kernel, over the whole (F, nH)", True
    ),
    "model.recurrent_init": Key(
        "orthogonal", one_of(initializers.INITIALIZERS), "initial recurrent kernel, whole (H, nH)", True
    ),
    "model.bias_init": Key("unit_forget", one_of(initializers.BIASES), "initial recurrent bias", True),
    "optimizer.name": Key("adam", one_of(optimizers.OPTIMIZERS), "update rule"),
    "optimizer.learning_rate": Key(0.001, number(above=0), "learning rate, at its highest", True),
    "optimizer.schedule": Key("constant", one_of(optimizers.SCHEDULES), "how the rate goes over the epochs"),
    "optimizer.clip": Key("global_norm", one_of(optimizers.CLIPS), "which norm of the gradient is clipped"),
    "optimizer.clip_norm": Key(1.0, number(above=0), "largest norm of the gradient, or of each tensor's", True),
    "train.epochs": Key(1000, whole(1), "full-batch updates"),
    "train.chunk": Key(10, whole(1), "most epochs per dispatch; the host sees losses once per chunk"),
    "train.memory": Key(
        0.0, number(0, 1e9), "GB that stacked runs may take at once; 0: half of the device's", True, True
    ),
    "train.backend": Key("auto", one_of(("auto", *recurrence.BACKENDS)), "how the recurrence is computed"),
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
    "claims.faster": Key(1.0384, number(above=0), "the post's claim: an LSTM epoch takes so many GRU epochs", True),
    "claims.faster_margin": Key(
        0.01, number(above=0), "how near the measured ratio must be for the claim to hold", True
    ),
    "claims.seeds": Key(
        10, whole(2), "least pairs of finished runs with which a claim about loss or volatility is judged", True
    ),
}


SECTIONS = {name.rpartition(".")[0] for name in KEYS}


def closest(name: str, known: Iterable[str]) -> str:
    """The words that suggest a known name which is nearly this one, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def unknown(key: str) -> UserError:
    """The complaint about a key that is not declared."""
    by_last = {k.rsplit(".", 1)[-1]: k for k in KEYS}
    near = closest(key, [*KEYS, "sweep"])
    if not near and (last := difflib.get_close_matches(key.rsplit(".", 1)[-1], by_last, n=1)):
        near = f" (did you mean {by_last[last[0]]}?)"
    return UserError(f"config.{key} is not a key of the config{near or '; the keys are ' + ', '.join(KEYS)}")


def base() -> ConfigDict:
    """A fresh base config: every key of `KEYS` at its default, and an empty `sweep`.

    `sweep` maps dotted keys to the values that the study tries: `{"model.cell": ("lstm", "gru")}`. Several keys
    that vary together are one axis, joined by commas: `{"model.units,data.window": ((8, 1), (16, 4))}`.
    """
    config = ConfigDict(type_safe=False)
    for name, key in KEYS.items():
        set_value(config, name, key.default)
    set_value(config, "sweep", {})
    return config


def set_value(config: ConfigDict, name: str, value: Any) -> None:
    """Sets the dotted key `name`, making the sections on the way."""
    *sections, last = name.split(".")
    for section in sections:
        if section not in config:
            config[section] = ConfigDict(type_safe=False)
        config = config[section]
    if name == "sweep":
        config.sweep = config_dict.placeholder(dict)  # a reference, because a ConfigDict's own keys have no dots
    config[last] = value


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every leaf; what is no section of `KEYS` is one leaf, `sweep` too.

    Raises:
        UserError: a value or the names cannot be read.
    """
    try:
        items = config.items()
    except Exception as error:  # a reference that has no value yet; names that cannot be sorted
        raise UserError(f"config.{prefix}* cannot be read: {type(error).__name__}: {error}") from None
    for name, value in items:
        if isinstance(value, ConfigDict) and f"{prefix}{name}" in SECTIONS:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def axis_keys(axis: str) -> tuple[str, ...]:
    """The keys of a sweep axis: one, or several that vary together."""
    return tuple(key.strip() for key in axis.split(","))


def settings(sweep: dict[str, tuple]) -> Iterator[dict[str, Any]]:
    """Every combination of the axes' values, as {dotted key: value}; one empty setting for an empty sweep."""
    for values in product(*sweep.values()):
        setting: dict[str, Any] = {}
        for axis, value in zip(sweep, values, strict=True):
            keys = axis_keys(axis)
            setting |= zip(keys, value if len(keys) > 1 else (value,), strict=True)
        yield setting


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The checked config of a file and the command line.

    Args:
        path: a Python file with `get_config() -> ConfigDict`.
        overrides: `key=value` strings with dotted keys, applied in order. Values are Python literals or bare
            words; `sweep.KEY=a,b` sets one axis.

    Returns:
        The validated, locked config.

    Raises:
        UserError: the file or an override is wrong.
    """
    if not os.path.exists(path):
        raise UserError(f"--config={path}: there is no such file")
    try:
        namespace = runpy.run_path(path)
    except (Exception, SystemExit) as error:
        raise _config_file_error(path, error) from None
    if not callable(namespace.get("get_config")):
        raise UserError(f"--config={path}: the file must define get_config()")
    try:
        config = namespace["get_config"]()
    except (Exception, SystemExit) as error:
        raise _config_file_error(path, error) from None
    if not isinstance(config, ConfigDict):
        raise UserError(f"--config={path}: get_config() must return the ConfigDict that base() makes")
    for override in overrides:
        _apply(config, override)
    return validate(config)


def _config_file_error(path: str, error: BaseException) -> UserError:
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines = [error.lineno]
    where = f"{path}:{lines[-1]}" if lines else path
    what = " ".join(str(error).split())
    return UserError(f"--config={path}: {where} raises {type(error).__name__}: {what}")


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of a word as source code is nobody's business
        try:
            return ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text, text))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return text


def _apply(config: ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--config.{key} has no value: write --config.{key}=VALUE")
    value = _literal(text)
    if key.startswith("sweep."):
        if isinstance(value, str):
            value = tuple(_literal(word.strip()) for word in value.split(","))
        elif not isinstance(value, tuple | list):
            value = (value,)
        value = {**_as_dict(dict(leaves(config)).get("sweep", {})), key.removeprefix("sweep."): value}
        key = "sweep"
    elif key != "sweep" and key not in KEYS:
        raise unknown(key)
    try:
        set_value(config, key, value)
    except Exception as error:  # the file's config is frozen, or has something else where the section belongs
        raise UserError(f"config.{key} cannot be set to {shown(value)}: {type(error).__name__}: {error}") from None


def _as_dict(sweep: Any) -> dict[str, Any]:
    if isinstance(sweep, ConfigDict):
        sweep = {axis.removeprefix("sweep."): values for axis, values in leaves(sweep, "sweep.")}
    if not isinstance(sweep, dict):
        raise UserError(f"config.sweep is {shown(sweep)}: it must map keys to values, as {{'model.units': (8, 16)}}")
    return sweep


def checked(key: str, value: Any, where: str = "config.") -> Any:
    """The value of a key in its canonical type.

    Raises:
        UserError: the key is not declared, or the value is not what it may be.
    """
    if key not in KEYS:
        raise unknown(where.removeprefix("config.") + key)
    try:
        return KEYS[key].check(value)
    except ValueError as error:
        raise UserError(f"{where}{key} is {shown(value)}: it must be {error}") from None


def validate(config: ConfigDict) -> ConfigDict:
    """The config with every value in its canonical type, locked.

    Raises:
        UserError: the first complaint, in one sentence.
    """
    given = dict(leaves(config))
    axes = _as_dict(given.pop("sweep", {}))
    for name in given:
        if name not in KEYS:
            raise unknown(name)
    if missing := [name for name in KEYS if name not in given]:
        raise UserError(f"config.{missing[0]} is missing: start from rnn_compare.config.base()")
    resolved = base()
    for name, value in given.items():
        set_value(resolved, name, checked(name, value))
    resolved.sweep = {axis: _checked_axis(axis, values) for axis, values in axes.items()}
    named = [key for axis in resolved.sweep for key in axis_keys(axis)]
    if twice := _twice(named):
        raise UserError(f"config.sweep has {twice[0]} on two axes: it must be on one")
    counts = [resolved.seeds, *map(len, resolved.sweep.values())]
    if math.prod(counts) > MOST_RUNS:
        raise UserError(
            f"config.seeds times the axes of config.sweep makes {' × '.join(map(str, counts))} = {math.prod(counts)} "
            f"runs: it must be at most {MOST_RUNS}"
        )
    values = dict(leaves(resolved))
    for setting in settings(resolved.sweep):
        _check_together(values | setting)
    return resolved.lock()


def _checked_axis(axis: Any, values: Any) -> tuple:
    if not isinstance(axis, str):
        raise UserError(f"config.sweep has the axis {shown(axis)}: it must be a key such as 'model.units'")
    if not isinstance(values, tuple | list):
        raise UserError(f"config.sweep.{axis} is {shown(values)}: it must be a tuple of values")
    if not values:
        raise UserError(f"config.sweep.{axis} is empty: give it at least one value, or leave the axis out")
    keys = axis_keys(axis)
    if "seeds" in keys:
        raise UserError("config.sweep has the axis seeds: set config.seeds, which gives every setting its seeds")
    rows = []
    for value in values:
        row = value if len(keys) > 1 else (value,)
        if not isinstance(row, tuple | list) or len(row) != len(keys):
            raise UserError(f"config.sweep.{axis} has {shown(value)}: it must give one value for each of its keys")
        rows.append(tuple(checked(k, v, "config.sweep.") for k, v in zip(keys, row, strict=True)))
    if twice := _twice(rows):
        raise UserError(f"config.sweep.{axis} names {twice[0] if len(keys) > 1 else twice[0][0]!r} twice")
    return tuple(rows) if len(keys) > 1 else tuple(row[0] for row in rows)


def _twice(items: list) -> list:
    """The items that are in the list more than once."""
    return [item for item, times in Counter(items).items() if times > 1]


def _check_together(values: dict[str, Any]) -> None:
    if values["data.window"] >= values["data.length"]:
        raise UserError(
            f"config.data.window is {values['data.window']}: it must be smaller than config.data.length, "
            f"which is {values['data.length']}"
        )
