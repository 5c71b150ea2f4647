"""What the programs have in common: flags of absl, and one sentence and exit code 2 for what a person can put right."""

import io
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from absl import flags, logging

from rnn_compare.console.errors import UserError
from rnn_compare.console.interrupt import Interrupted

HELP = {"--help", "-help", "-h", "--h", "-?", "--helpshort", "--helpfull"}


def parse_flags(argv: list[str], program: str, holders: Iterable[flags.FlagHolder], more: str = "") -> list[str]:
    """Parses absl's flags and returns the arguments that are none; with --help, prints it and ends the program.

    Args:
        argv: as of `sys.argv`.
        program: its module.
        holders: the program's own flags.
        more: what else the help says.

    Raises:
        UserError: a flag is wrong.
    """
    if HELP.intersection(argv[1:]):
        said = [f"  --{holder.name}={holder.default}  {flags.FLAGS[holder.name].help}" for holder in holders]
        print(f"python -m {program} [flags]", "", "flags:", *said, "", more, sep="\n")
        sys.exit(0)
    try:
        left = flags.FLAGS(argv)[1:]
    except (flags.Error, ValueError) as error:  # absl lets some of its flags' own through
        raise UserError(" ".join(str(error).split())) from None
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS["verbosity"].using_default_value = False
        logging.set_verbosity(logging.WARNING)  # app.run would choose INFO, at which JAX is talkative
    return left


def path_of(holder: flags.FlagHolder) -> Path | None:
    """The path that a flag names, `~` at its start expanded, which a shell does not do behind `=`; None without one.

    Raises:
        UserError: nobody knows where that home is.
    """
    if not holder.value:
        return None
    try:
        return Path(holder.value).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{holder.name}={holder.value}: {error}") from None


def complaining(function: Callable[[list[str]], Any]) -> Callable[[list[str]], Any]:
    """The function, ending the program with one sentence and exit code 2 where it raises `UserError`."""

    def wrapped(args: list[str]) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows a question mark
        try:
            return function(args)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except Interrupted as stop:
            print("interrupted: the same command goes on from here", file=sys.stderr)
            sys.exit(128 + stop.signal)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)

    return wrapped
