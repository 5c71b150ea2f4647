"""How a study was made, and how it is made again."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rnn_compare.config import KEYS
from rnn_compare.config.checks import Registered, words
from rnn_compare.config.tree import axis_keys
from rnn_compare.report.document import Block, Code, Table, Text
from rnn_compare.report.results import Results
from rnn_compare.workdir.runs import DEFAULTS


def reproduction(results: Results) -> Sequence[Block]:
    """The command, the machine, the versions and the config."""
    found = dict(results.environment)
    command, packages = found.pop("command", None), found.pop("packages", {})
    said: list[Block] = []
    if command:
        said += [Text("The command that the study was last started with:"), Code(command)]
    name, lines = "again.py", ["from rnn_compare.config import base as get_config"]
    if registered := foreign(results):
        file = config_file(command)
        name = f"again_{Path(file).name}"
        lines += ["from rnn_compare.config import run", f"run({file!r})  # registers {', '.join(registered)}"]
    again = f"python -m rnn_compare.main --config={shlex.quote(name)}"
    said += [Text(f"To run it again, whatever its config file sets by now: save this as {name}, in the folder that the "
                  "command was given in,"),
             Code("\n".join(lines)),
             Text("which is a config file with every key at its default, and give the keys that differ as flags:"),
             Code(" \\\n    ".join([again, *overrides(results)]))]  # fmt: skip
    named = {key.replace("_", " "): value for key, value in found.items()} | packages
    machine = [[name, words(value)] for name, value in named.items()]
    if machine:
        said.append(Table(["machine", "of the last start"], machine))
    meanings = {key: declared.meaning for key, declared in KEYS.items()} | {"sweep": "axes of the study"}
    config = [[key, json.dumps(results.config.get(key)), meaning] for key, meaning in meanings.items()]
    return [*said, Table(["key", "value", "meaning"], config)]


def foreign(results: Results) -> list[str]:
    """The names in the config that the package does not have: its config file, or a module of that, registers them."""
    used = [(key, results.config.get(key)) for key in KEYS]
    for axis, values in results.config["sweep"].items():
        keys = axis_keys(axis)
        used += [pair for value in values for pair in zip(keys, value if len(keys) > 1 else [value], strict=True)]
    shipped = {key: k.check.shipped() for key, k in KEYS.items() if isinstance(k.check, Registered)}
    return list(dict.fromkeys(str(name) for key, name in used if key in shipped and name not in shipped[key]))


def config_file(command: str | None) -> str:
    """The config file in a command."""
    words = shlex.split(command or "")
    found = [word.partition("=")[2] or following for word, following in zip(words, [*words[1:], ""], strict=True)
             if word.partition("=")[0] in ("--config", "-config")]  # fmt: skip
    return found[-1] if found else "its config file"


def overrides(results: Results) -> list[str]:
    """The flags that make the base config this one, quoted for a shell."""
    changed = {key: value for key, value in results.config.items() if key in KEYS and value != DEFAULTS[key]}
    changed |= {f"sweep.{axis}": values for axis, values in results.config["sweep"].items()}
    return [shlex.quote(f"--config.{key}={literal(value)}") for key, value in changed.items()]


def literal(value: object) -> str:
    """A value as the command line takes it."""
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
