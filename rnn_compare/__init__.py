"""rnn_compare: recurrent cells compared on long sequences, with many seeds and in compiled programs.

For networks of your own: `RNN` and `Bidirectional`, as Flax's, and `scan`, as JAX's.
"""

import logging
from importlib import import_module
from typing import Any

# Where HOME cannot be written to, Matplotlib tells of the folder that it takes instead, which is nobody's trouble here.
logging.getLogger("matplotlib").addFilter(
    lambda record: "cache directory" not in record.msg and "mkdir" not in record.msg
)

__version__ = "0.1.0"
__all__ = ["RNN", "Bidirectional", "scan", "why_not"]


def __getattr__(name: str) -> Any:
    """The layers, which wait for JAX: who only reads a config need not."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("rnn_compare.layers"), name)
