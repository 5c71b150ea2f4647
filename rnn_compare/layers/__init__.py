"""Recurrent layers for networks of your own: Flax's, and `jax.lax.scan`, over the fused kernels."""

from rnn_compare.layers.linen import RNN, Bidirectional
from rnn_compare.layers.scanning import scan, why_not

__all__ = ["RNN", "Bidirectional", "scan", "why_not"]
