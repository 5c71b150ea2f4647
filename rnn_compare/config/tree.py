"""A ConfigDict as a tree of dotted keys, and the axes of a sweep."""

from collections.abc import Iterator
from itertools import product
from typing import Any

from ml_collections import ConfigDict, config_dict

from rnn_compare.config.checks import words
from rnn_compare.config.keys import KEYS, SECTIONS
from rnn_compare.console.errors import UserError


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


def compared_keys(config: dict[str, Any]) -> tuple[str, ...]:
    """The keys that tell contestants apart, of a config by dotted key: those of the axis with `compare.axis` on it."""
    key = config["compare.axis"]
    return next((keys for axis in config["sweep"] if key in (keys := axis_keys(axis))), (key,))


def contestant(keys: tuple[str, ...], config: dict[str, Any]) -> str:
    """What a run competes as, by its config: its values of the compared keys, in words."""
    return words([config[key] for key in keys])


def contestants(config: dict[str, Any]) -> list[str]:
    """All contestants of a study, by dotted key, in the order of its axes."""
    keys = compared_keys(config)
    return list(dict.fromkeys(contestant(keys, config | setting) for setting in settings(config["sweep"])))


def settings(sweep: dict[str, tuple]) -> Iterator[dict[str, Any]]:
    """Every combination of the axes' values, as {dotted key: value}; one empty setting for an empty sweep."""
    for values in product(*sweep.values()):
        setting: dict[str, Any] = {}
        for axis, value in zip(sweep, values, strict=True):
            keys = axis_keys(axis)
            setting |= zip(keys, value if len(keys) > 1 else (value,), strict=True)
        yield setting
