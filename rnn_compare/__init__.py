"""rnn_compare: recurrent cells compared on long sequences, with many seeds and in compiled programs."""

import logging

# Where HOME cannot be written to, Matplotlib tells of the folder that it takes instead, which is nobody's trouble here.
logging.getLogger("matplotlib").addFilter(
    lambda record: "cache directory" not in record.msg and "mkdir" not in record.msg
)

__version__ = "0.1.0"
