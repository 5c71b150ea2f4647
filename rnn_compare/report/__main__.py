"""`python -m rnn_compare.report --workdir=DIR`: writes the report on a study, which may still be running.

Exit codes: 0 it is written, 2 something in the input is wrong or the report cannot be written.
"""

from pathlib import Path

from absl import app, flags

from rnn_compare import report
from rnn_compare.config import UserError
from rnn_compare.console.flags import complaining, parse_flags, path_of

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the study.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags.

    Raises:
        UserError: a flag is wrong or missing.
    """
    if left := parse_flags(argv, "rnn_compare.report", [WORKDIR]):
        raise UserError(f"{left[0]} is not a flag: write --workdir=DIR")
    if not WORKDIR.value:
        raise UserError("--workdir is missing: name the folder of a study, such as --workdir=runs/post8")
    return left


def main(_: list[str]) -> None:
    """Writes the report and says where it is."""
    workdir = path_of(WORKDIR) or Path()
    try:
        report.write(workdir)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: the report cannot be written ({error})") from None
    print(workdir / "report.html")


if __name__ == "__main__":
    app.run(complaining(main), flags_parser=complaining(parse))
