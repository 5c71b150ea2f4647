"""The LSTM with peepholes, and its variants in "LSTM: A Search Space Odyssey" (Greff et al. 2015, arXiv 1503.04069).

Each leaves one thing out, or adds one. Without peepholes (NP) it is the `LSTMCell`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn

from rnn_compare.cells.cell import Carry, Params, RecurrentCell, Start, matmul, per_unit, project, recur, split


class PeepholeLSTMCell(RecurrentCell):
    """LSTM with peepholes (Gers et al. 2002), Greff's V; the carry is (c, h).

    With z = x·W + h·U + b:

        c' = σ(z_f + p_f∘c)∘c + σ(z_i + p_i∘c)∘g(z_c)        h' = σ(z_o + p_o∘c')∘g'(c')

    A gate that a variant does without is one. g and g' are tanh, unless a variant does without them. The peepholes p
    start at zero.
    """

    gates: ClassVar[tuple[str, ...]] = ("i", "f", "c", "o")
    biases, states = 1, 2
    keeps: ClassVar[tuple[str, ...]] = ("f",)
    admits: ClassVar[tuple[str, ...]] = ("i",)
    opens: ClassVar[tuple[str, ...]] = ("f",)

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h = carry
        z, p = self.parts(project(params, x) + recur(params, h)), self.peepholes(params)
        i, f = self.gate("i", z, p, c), self.gate("f", z, p, c)
        c = f * c + i * self.squash_input(z["c"])
        h = self.gate("o", z, p, c) * self.squash_output(c)
        return (c, h), h

    @nn.nowrap
    def parts(self, z: jax.Array) -> dict[str, jax.Array]:
        """Each gate's block of z."""
        return dict(zip(self.gates, split(z, len(self.gates)), strict=True))

    @nn.nowrap
    def peepholes(self, params: Params) -> dict[str, jax.Array]:
        """Each gate's peephole, (H,)."""
        names = [gate for gate in self.gates if gate != "c"]
        return dict(zip(names, split(params["peephole"], len(names)), strict=True))

    @nn.nowrap
    def gate(self, name: str, z: dict[str, jax.Array], p: dict[str, jax.Array], c: jax.Array) -> jax.Array | float:
        """How far a gate is open that sees c; one if there is none of that name."""
        return nn.sigmoid(z[name] + p[name] * c) if name in z else 1.0

    @nn.nowrap
    def squash_input(self, z: jax.Array) -> jax.Array:
        """What is let in."""
        return jnp.tanh(z)

    @nn.nowrap
    def squash_output(self, c: jax.Array) -> jax.Array:
        """What is shown."""
        return jnp.tanh(c)

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides the usual ones `peephole`, H for each gate but the candidate."""
        return super().parameters(features) | {"peephole": per_unit((len(self.gates) - 1) * self.units)}


class NoInputGateLSTMCell(PeepholeLSTMCell):
    """Greff's NIG: i = 1."""

    gates = ("f", "c", "o")
    admits = ()


class NoForgetGateLSTMCell(PeepholeLSTMCell):
    """Greff's NFG: f = 1, so that nothing is ever forgotten."""

    gates = ("i", "c", "o")
    keeps, opens = (), ()


class NoOutputGateLSTMCell(PeepholeLSTMCell):
    """Greff's NOG: o = 1."""

    gates = ("i", "f", "c")


class NoInputActivationLSTMCell(PeepholeLSTMCell):
    """Greff's NIAF: g is the identity."""

    @nn.nowrap
    def squash_input(self, z: jax.Array) -> jax.Array:
        """What is let in."""
        return z


class NoOutputActivationLSTMCell(PeepholeLSTMCell):
    """Greff's NOAF: g' is the identity."""

    @nn.nowrap
    def squash_output(self, c: jax.Array) -> jax.Array:
        """What is shown."""
        return c


class CoupledLSTMCell(PeepholeLSTMCell):
    """Greff's CIFG, the input and forget gates coupled: i = 1 − f."""

    gates = ("f", "c", "o")
    admits = ()

    @nn.nowrap
    def gate(self, name: str, z: dict[str, jax.Array], p: dict[str, jax.Array], c: jax.Array) -> jax.Array | float:
        """As every gate, but for the input gate."""
        return 1 - super().gate("f", z, p, c) if name == "i" else super().gate(name, z, p, c)


class FullGateRecurrenceLSTMCell(PeepholeLSTMCell):
    """Greff's FGR, full gate recurrence: each gate sees what all three gates were, as the LSTM of 1997 did.

    z_i, z_f and z_o have [i, f, o]·R added to them, with a matrix R (3H, 3H); the carry is (c, h, i, f, o).
    """

    states = 5

    def step(self, params: Params, carry: Carry, x: jax.Array) -> tuple[Carry, jax.Array]:
        """One step; see the class."""
        c, h, *before = carry
        z, p = self.parts(project(params, x) + recur(params, h)), self.peepholes(params)
        seen = split(matmul(jnp.concatenate(before, axis=-1), params["gate_kernel"]), 3)
        z |= {name: z[name] + part for name, part in zip("ifo", seen, strict=True)}
        i, f = self.gate("i", z, p, c), self.gate("f", z, p, c)
        c = f * c + i * self.squash_input(z["c"])
        o = self.gate("o", z, p, c)
        h = o * self.squash_output(c)
        return (c, h, i, f, o), h

    @nn.nowrap
    def parameters(self, features: int) -> dict[str, Start]:
        """Besides those with peepholes `gate_kernel` (3H, 3H), R."""
        return super().parameters(features) | {"gate_kernel": self.dense(self.recurrent_init, 3 * self.units, 3)}
