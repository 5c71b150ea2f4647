"""rnn_compare: recurrent cells compared on long sequences, with many seeds and in compiled programs."""

__version__ = "0.1.0"
