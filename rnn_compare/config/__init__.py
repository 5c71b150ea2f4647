"""The config: every key declared once, read from a file and the command line, checked, and locked.

A config file calls `base()` and changes only what makes it that experiment; `load` reads the file, applies the command
line's overrides and returns the checked, locked result. Nothing here trains, compiles or writes.
"""

from rnn_compare.config.claims import THE_POSTS
from rnn_compare.config.files import load, run
from rnn_compare.config.keys import KEYS, PAPER, constant, of_cells
from rnn_compare.config.tree import base, compared_keys, contestant, contestants, leaves, set_value, settings
from rnn_compare.config.validation import validate
from rnn_compare.console.errors import UserError

__all__ = [
    "KEYS",
    "PAPER",
    "THE_POSTS",
    "UserError",
    "base",
    "compared_keys",
    "constant",
    "contestant",
    "contestants",
    "leaves",
    "load",
    "of_cells",
    "run",
    "set_value",
    "settings",
    "validate",
]
