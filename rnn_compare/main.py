"""`python -m rnn_compare.main --config=FILE`: runs the study that a config file describes.

Exit codes: 0 every run finished, 1 some run diverged or failed, 2 something in the input is wrong or cannot be written,
130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

import json
import re
from functools import partial
from pathlib import Path

from absl import app, flags

from rnn_compare.config import KEYS, UserError, load
from rnn_compare.console.flags import complaining, parse_flags, path_of

CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); --config.KEY=VALUE overrides a key.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the results. Default: runs/<name of the config file>.")
RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "Train runs again that failed earlier.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done and how long it would take, and stop.")
PRINT_CONFIG = flags.DEFINE_bool("print_config", False, "Print the config with every key resolved, and stop.")
LAUNCHER = flags.DEFINE_string("launcher", "local", "Where cohorts are trained: local, or ray for a Ray cluster.")

OVERRIDE = re.compile(r"--?config\.(.*)", re.DOTALL)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and returns the config's overrides; `--config.KEY=VALUE` is ours, the rest is absl's.

    Raises:
        UserError: a flag is wrong or missing.
    """
    overrides = [match[1] for arg in argv[1:] if (match := OVERRIDE.fullmatch(arg))]
    holders = CONFIG, WORKDIR, RETRY_FAILED, DRY_RUN, PRINT_CONFIG, LAUNCHER
    left = parse_flags([arg for arg in argv if not OVERRIDE.fullmatch(arg)], "rnn_compare.main", holders, keys())
    if left:
        raise UserError(f"{left[0]} is not a flag: write --config.KEY=VALUE for a key of the config")
    if WORKDIR.value == "":
        raise UserError("--workdir is empty: name a folder, or leave the flag out")
    if not CONFIG.value:
        raise UserError("--config is missing: name a config file, such as --config=configs/post8.py")
    return overrides


def keys() -> str:
    """The keys of the config, for `--help`."""
    rows = [(f"--config.{key}={declared.default}", declared.meaning) for key, declared in KEYS.items()]
    rows.append(("--config.sweep.KEY=a,b,…", "an axis of the study: the values that it tries for a key"))
    width = max(len(flag) for flag, _ in rows)
    return "\n".join(["keys of the config, and their defaults:", *(f"  {a:{width}}  {b}" for a, b in rows)])


def main(overrides: list[str]) -> int:
    """Runs the study and returns the exit code."""
    path = str(path_of(CONFIG))
    config = load(path, overrides)
    if PRINT_CONFIG.value:
        from rnn_compare.console.terminal import say
        from rnn_compare.workdir.runs import as_json

        say(json.dumps(as_json(config), indent=2))
        return 0
    from rnn_compare import study  # not before: JAX takes seconds, which nobody should wait for who only asks
    from rnn_compare.study.source import Source

    workdir = path_of(WORKDIR) or Path("runs") / Path(path).stem
    source = partial(Source.of, Path(path), overrides)
    finished = study.execute(config, workdir, DRY_RUN.value, LAUNCHER.value, RETRY_FAILED.value, source)
    return 0 if finished else 1


if __name__ == "__main__":
    app.run(complaining(main), flags_parser=complaining(parse))
