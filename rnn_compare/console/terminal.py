"""Lines for a person on the terminal."""

import math
import os
import sys

from rich.console import Console


class Quiet(Console):
    """A console that falls silent when nobody reads it any more (`… | head`), where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Goes on without it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer goes there


console = Quiet(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Prints lines, above the table if there is one."""
    for line in lines:
        console.print(line)


def duration(seconds: float) -> str:
    """A time in the unit that suits it; a question mark for NaN."""
    if math.isnan(seconds):
        return "?"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.2g} s"
