"""Lines for a person on the terminal."""

import os
import sys

from rich.console import Console


class Quiet(Console):
    """A console that falls silent when nobody reads it any more (`… | head`), where rich would end the program."""

    def on_broken_pipe(self) -> None:
        """Goes on without it."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in its buffer goes there


console = Quiet(highlight=False, markup=False, soft_wrap=True)


def say(*lines: str) -> None:
    """Prints lines, above the table if there is one."""
    for line in lines:
        console.print(line)
