"""A config file and the command line's overrides, read into a checked config."""

import ast
import os
import re
import runpy
import sys
import traceback
import warnings
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from rnn_compare.config.checks import shown
from rnn_compare.config.keys import KEYS, unknown
from rnn_compare.config.tree import leaves, set_value
from rnn_compare.config.validation import as_axes, validate
from rnn_compare.console.errors import UserError

# Three whole numbers at most, as in Python; a step of 0 is no range.
RANGE = re.compile(r"range\( *(-?\d{1,18}) *(?:, *(-?\d{1,18}) *(?:, *(-?0*[1-9]\d{0,17}) *)?)?\)")


def load(path: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The checked config of a file and the command line.

    Args:
        path: a Python file with `get_config() -> ConfigDict`.
        overrides: `key=value` strings with dotted keys, applied in order. Values are Python literals or bare
            words; `sweep.KEY=a,b` sets one axis, and so does `sweep.KEY=range(4,20,4)`.

    Returns:
        The validated, locked config.

    Raises:
        UserError: the file or an override is wrong.
    """
    namespace = run(path)
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


def run(path: str) -> dict[str, Any]:
    """The names that a config file defines; it runs as `python FILE` would, with the modules beside it on the path.

    Raises:
        UserError: there is no such file, or it raises something.
    """
    if not os.path.exists(path):
        raise UserError(f"--config={path}: there is no such file")
    if (folder := _folder(path)) not in sys.path:
        sys.path.insert(0, folder)
    try:
        return runpy.run_path(path)
    except (Exception, SystemExit) as error:
        raise _config_file_error(path, error) from None


def _folder(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))


def _config_file_error(path: str, error: BaseException) -> UserError:
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        places.append((error.filename or "", error.lineno))
    own = [f"{name}:{line}" for name, line in places if name == path or os.path.dirname(name) == _folder(path)]
    where = own[-1] if own else path
    if isinstance(error, ModuleNotFoundError) and error.name:
        what = f"needs the module {error.name}, which is neither installed nor in {_folder(path)}"
    else:
        what = f"raises {type(error).__name__}: {' '.join(str(error).split())}"
    return UserError(f"--config={path}: {where} {what}")


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Python thinks of a word as source code is nobody's business
        try:
            return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return text


def _apply(config: ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise UserError(f"--config.{key} has no value: write --config.{key}=VALUE")
    value = _literal(text)
    if key.startswith("sweep."):
        if counted := RANGE.fullmatch(text):
            value = range(*(int(part) for part in counted.groups() if part is not None))
        elif isinstance(value, str):
            value = tuple(_literal(word.strip()) for word in value.split(","))
        elif not isinstance(value, tuple | list):
            value = (value,)
        value = {**as_axes(dict(leaves(config)).get("sweep", {})), key.removeprefix("sweep."): value}
        key = "sweep"
    elif key != "sweep" and key not in KEYS:
        raise unknown(key)
    try:
        set_value(config, key, value)
    except Exception as error:  # the file's config is frozen, or has something else where the section belongs
        raise UserError(f"config.{key} cannot be set to {shown(value)}: {type(error).__name__}: {error}") from None
