"""Tasks that ask how long a cell remembers: what counts is said long before it is asked for.

Axis sizes: T time steps, B sequences.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnn_compare.tasks.task import CROSS_ENTROPY, Batch, Sequences

SYMBOLS, RECALLED = 8, 10  # of the copy and the denoising task, as in Arjovsky et al. 2016


class Adding(Sequences):
    """The adding problem: the sum of the two numbers that are marked, one in each half.

    Of numbers uniform on (0, 1), as in Le, Jaitly and Hinton (2015) after Hochreiter and Schmidhuber (1997). To answer
    1 always has a squared error of 1/6. Inputs: the number, and 1 where it is marked, else 0.
    """

    unit: ClassVar[str] = "sum"
    first_input: ClassVar[str] = "number at the last step"
    stretch: ClassVar[str] = "sequence, of"
    features: ClassVar[int] = 2

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        T, B = self.length, self.sequences
        numbers, first, second = jax.random.split(key, 3)
        x = jax.random.uniform(numbers, (T, B))
        marked = jnp.stack([jax.random.randint(first, (B,), 0, T // 2), jax.random.randint(second, (B,), T // 2, T)])
        marks = jnp.sum(jnp.arange(T)[:, None] == marked[:, None], axis=0, dtype=jnp.float32)
        return Batch(jnp.stack([x, marks], axis=-1), jnp.sum(x * marks, axis=0)[None, :, None])

    def guess(self, batch: Batch) -> float:
        """That of the answer 1: twice the variance of a uniform number."""
        return 1 / 6


class Recall(Sequences):
    """Ten of eight symbols, and what is between them and the question; the answer is the ten, at the last ten steps.

    Inputs are one of ten: eight symbols, a blank, and a marker at the first of the steps at which an answer is due.
    Classes are the eight symbols and the blank, which is the answer at all other steps. Who knows where answers are
    due, and only guesses which they are, has a cross-entropy of 10 · ln 8 over the number of steps.
    """

    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", SYMBOLS + 1),)
    loss: ClassVar[str] = CROSS_ENTROPY
    first_input: ClassVar[str] = "first symbol"
    features: ClassVar[int] = SYMBOLS + 2

    @property
    def steps(self) -> int:
        """What is said, what is between, and the answer."""
        return self.length + 2 * RECALLED

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        said, places = jax.random.split(key)
        B, steps = self.sequences, self.steps
        symbols = jax.random.randint(said, (RECALLED, B), 0, SYMBOLS)
        spoken = jnp.full((steps, B), SYMBOLS).at[self.places(places), jnp.arange(B)].set(symbols)
        spoken = spoken.at[steps - RECALLED - 1].set(SYMBOLS + 1)
        targets = jnp.full((steps, B), SYMBOLS).at[steps - RECALLED :].set(symbols)
        return Batch(jax.nn.one_hot(spoken, self.features), targets.astype(jnp.int32))

    def places(self, key: jax.Array) -> jax.Array:
        """The steps at which the symbols are said, ascending, [10, B]."""
        raise NotImplementedError

    def guess(self, batch: Batch) -> float:
        """That of who knows when, and not what."""
        return RECALLED * float(np.log(SYMBOLS)) / self.steps


class CopyMemory(Recall):
    """The copy task: the symbols are the first ten inputs, and `data.length` steps lie before the answer.

    Hochreiter and Schmidhuber (1997), in the form of Arjovsky, Shah and Bengio (2016).
    """

    def places(self, key: jax.Array) -> jax.Array:
        """The first ten."""
        return jnp.broadcast_to(jnp.arange(RECALLED)[:, None], (RECALLED, self.sequences))


class Denoising(Recall):
    """The denoising task: the symbols stand anywhere before the question, among blanks.

    Jing et al. (2019), Gated orthogonal recurrent units.
    """

    def places(self, key: jax.Array) -> jax.Array:
        """Ten different steps of those before the marker."""
        before = self.steps - RECALLED - 1
        draws = jax.random.uniform(key, (before, self.sequences))
        return jnp.sort(jnp.argsort(draws, axis=0)[:RECALLED], axis=0)


class TemporalOrder(Sequences):
    """In which order two of the symbols X and Y came, one early and one in the middle, among four others: one of four.

    Hochreiter and Schmidhuber (1997), experiment 6a: at steps of T/10 to 2T/10 and of 5T/10 to 6T/10.
    """

    shortest: ClassVar[int] = 10
    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", 4),)
    loss: ClassVar[str] = CROSS_ENTROPY
    first_input: ClassVar[str] = "first symbol at the last step"
    stretch: ClassVar[str] = "sequence, of"
    features: ClassVar[int] = 6

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        T, B = self.length, self.sequences
        others, which, early, late = jax.random.split(key, 4)
        spoken = jax.random.randint(others, (T, B), 2, self.features)
        told = jax.random.randint(which, (2, B), 0, 2)
        at = jnp.stack(
            [
                jax.random.randint(early, (B,), T // 10, 2 * T // 10),
                jax.random.randint(late, (B,), 5 * T // 10, 6 * T // 10),
            ]
        )
        spoken = spoken.at[at, jnp.arange(B)].set(told)
        return Batch(jax.nn.one_hot(spoken, self.features), (2 * told[0] + told[1])[None].astype(jnp.int32))

    def guess(self, batch: Batch) -> float:
        """Of four that are as likely as each other."""
        return float(np.log(4))


class Parity(Sequences):
    """Whether the ones among the bits so far are odd in number, at every step; the input is a bit."""

    shortest: ClassVar[int] = 1
    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", 2),)
    loss: ClassVar[str] = CROSS_ENTROPY
    first_input: ClassVar[str] = "bit"
    features: ClassVar[int] = 1

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        bits = jax.random.bernoulli(key, 0.5, (self.length, self.sequences)).astype(jnp.int32)
        return Batch(bits[..., None].astype(jnp.float32), jnp.cumsum(bits, axis=0) % 2)

    def guess(self, batch: Batch) -> float:
        """Of two that are as likely as each other."""
        return float(np.log(2))
