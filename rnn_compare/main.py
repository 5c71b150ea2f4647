"""`python -m rnn_compare.main --config=FILE`: runs the study that a config file describes.

Exit codes: 0 every run finished, 1 some run diverged or failed, 2 something in the input is wrong or cannot be written,
130 interrupted by Ctrl-C, 143 by SIGTERM.
"""

import re
from pathlib import Path

from absl import app, flags

from rnn_compare import study
from rnn_compare.config import UserError, load
from rnn_compare.console.flags import complaining, parse_flags
from rnn_compare.study.launch import LAUNCHERS

CONFIG = flags.DEFINE_string("config", None, "Python file with get_config(); --config.KEY=VALUE overrides a key.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for the results. Default: runs/<name of the config file>.")
RETRY_FAILED = flags.DEFINE_bool("retry_failed", False, "Train runs again that failed earlier.")
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Say what would be done, and stop.")
LAUNCHER = flags.DEFINE_enum(
    "launcher", "local", list(LAUNCHERS), "Where cohorts are trained: here, or on a Ray cluster."
)

OVERRIDE = re.compile(r"--?config\.(.*)", re.DOTALL)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags and returns the config's overrides; `--config.KEY=VALUE` is ours, the rest is absl's.

    Raises:
        UserError: a flag is wrong or missing.
    """
    overrides = [match[1] for arg in argv[1:] if (match := OVERRIDE.fullmatch(arg))]
    left = parse_flags([arg for arg in argv if not OVERRIDE.fullmatch(arg)])
    if left:
        raise UserError(f"{left[0]} is not a flag: write --config.KEY=VALUE for a key of the config")
    if WORKDIR.value == "":
        raise UserError("--workdir is empty: name a folder, or leave the flag out")
    if not CONFIG.value:
        raise UserError("--config is missing: name a config file, such as --config=configs/post8.py")
    return overrides


def main(overrides: list[str]) -> int:
    """Runs the study and returns the exit code."""
    path = str(CONFIG.value)
    workdir = Path(WORKDIR.value or Path("runs") / Path(path).stem)
    finished = study.execute(
        load(path, overrides), workdir, DRY_RUN.value, launcher=LAUNCHER.value, retry_failed=RETRY_FAILED.value
    )
    return 0 if finished else 1


if __name__ == "__main__":
    app.run(complaining(main), flags_parser=complaining(parse))
