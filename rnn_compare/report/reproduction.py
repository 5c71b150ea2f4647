"""How a study was made, and how it is made again."""

import json
import shlex
from collections.abc import Sequence

from rnn_compare.config import KEYS
from rnn_compare.config.checks import words
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
    again = "python -m rnn_compare.main --config=again.py"
    said += [Text("To run it again, whatever its config file says by now: save this line as again.py,"),
             Code("from rnn_compare.config import base as get_config"),
             Text("which is a config file with every key at its default, and give the keys that differ as flags:"),
             Code(" \\\n    ".join([again, *overrides(results)]))]  # fmt: skip
    named = {key.replace("_", " "): value for key, value in found.items()} | packages
    machine = [[name, words(value)] for name, value in named.items()]
    if machine:
        said.append(Table(["machine", "of the last start"], machine))
    meanings = {key: declared.meaning for key, declared in KEYS.items()} | {"sweep": "axes of the study"}
    config = [[key, json.dumps(results.config.get(key)), meaning] for key, meaning in meanings.items()]
    return [*said, Table(["key", "value", "meaning"], config)]


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
