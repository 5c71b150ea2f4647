"""Handwritten digits told pixel by pixel: the field's "sequential" and "permuted" tasks, small enough for a processor.

Axis sizes: N images, T = 64 time steps, B sequences.
"""

import functools
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.tasks.task import CHOOSING, CROSS_ENTROPY, LEARNT, Batch, Kept, ends, size

CLASSES, BRIGHTEST = 10, 16


class Digits(Kept):
    """Which of ten digits an image of 8 × 8 pixels shows, its pixels told one by one, row after row.

    The 1,797 images are those of scikit-learn (the test set of Alpaydin and Kaynak 1998), whose writers come one after
    the other: the first `task.share` of them are learnt from, and all of the rest is judged, for the most part of other
    writers. With MNIST's images the task is Le, Jaitly and Hinton's (2015).

    Attributes:
        images: [N, T], from 0 to 1, in the order in which pixels are told.
        labels: [N].
        ends: how many are learnt from, the first ones, and where those begin that are judged.
    """

    keys: ClassVar[tuple[str, ...]] = ("data.sequences", "task.share")
    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", CLASSES),)
    loss: ClassVar[str] = CROSS_ENTROPY
    first_input: ClassVar[str] = "last pixel"
    stretch: ClassVar[str] = "image, of"
    features: ClassVar[int] = 1

    images: jax.Array | np.ndarray
    labels: jax.Array | np.ndarray
    sequences: int = size()
    ends: tuple[int, int] = size()

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """See `Task.of`."""
        images, labels = read()
        learnt, judged = ends(len(labels), config)
        if not 0 < learnt <= judged < len(labels):
            raise ValueError(
                f"config.task.share is {config.task.share}: it leaves nothing to learn from, or to judge, of "
                f"{len(labels)} images"
            )
        sizes = {"sequences": config.data.sequences, "ends": (learnt, judged)}
        return cls(images[:, cls.order()], labels, **sizes)

    @staticmethod
    def order() -> np.ndarray:
        """In which the pixels are told, [T]."""
        return np.arange(64)

    @property
    def steps(self) -> int:
        """One for each pixel."""
        return self.images.shape[1]

    def batch(self, key: jax.Array) -> Batch:
        """Images drawn at random of those that are learnt from; of the other parts all."""
        learnt, judged = self.ends
        if self.part == LEARNT:
            at = jax.random.randint(key, (self.sequences,), 0, learnt)
        else:
            at = jnp.arange(learnt, judged) if self.part == CHOOSING else jnp.arange(judged, len(self.labels))
        return Batch(self.images[at].T[..., None], self.labels[at][None])

    def guess(self, batch: Batch) -> float:
        """Of ten that are about as likely as each other."""
        return float(np.log(CLASSES))


class PermutedDigits(Digits):
    """The same, the pixels in an order that was drawn once, the same for all images, runs and studies.

    So neighbours are far apart in time (Le, Jaitly and Hinton 2015).
    """

    @staticmethod
    def order() -> np.ndarray:
        """See `Digits.order`."""
        return np.random.default_rng(0).permutation(64)


@functools.cache
def read() -> tuple[np.ndarray, np.ndarray]:
    """The images, [N, T] float32 from 0 to 1, and what they show, [N] int32.

    Raises:
        ValueError: scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            "config.task.name=digits and permuted_digits read scikit-learn's images: pip install -e '.[digits]'"
        ) from None
    found: Any = load_digits()
    return (found.data / BRIGHTEST).astype(np.float32), found.target.astype(np.int32)
