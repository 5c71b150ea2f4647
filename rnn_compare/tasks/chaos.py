"""Series made by equations, of which the future is to be told: `task.horizon` steps ahead, at every step.

Every sequence starts from a state of its own, and its first steps are left out, until it is where it stays. The input
is the present value, less the series' mean and over its deviation, and so is the target.

Axis sizes: T time steps, B sequences, K steps ahead.
"""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from rnn_compare.tasks.task import Batch, Sequences, Task, size

SETTLING = 500  # steps that are left out


class Forecast(Sequences):
    """A series, and its values some steps ahead.

    Attributes:
        mean: of the series, each value's.
        deviation: its standard deviation.
    """

    shortest: ClassVar[int] = 1
    keys: ClassVar[tuple[str, ...]] = (*Task.keys, "task.horizon")
    mean: ClassVar[tuple[float, ...]]
    deviation: ClassVar[tuple[float, ...]]
    unit: ClassVar[str] = "value ahead"
    first_input: ClassVar[str] = "value now"

    horizon: int = size()

    @classmethod
    def more(cls, config: ConfigDict) -> dict[str, int]:
        """The horizon."""
        return {"horizon": config.task.horizon}

    @property
    def features(self) -> int:
        """The values of a step."""
        return len(self.mean)

    def series(self, key: jax.Array, steps: int) -> jax.Array:
        """So many steps from states of their own on, [steps, B, values]."""
        raise NotImplementedError

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        values = self.series(key, SETTLING + self.length + self.horizon)[SETTLING:]
        values = (values - jnp.array(self.mean)) / jnp.array(self.deviation)
        return Batch(values[: self.length], values[self.horizon :, :, : sum(count for _, count in self.heads)])


class MackeyGlass(Forecast):
    """Mackey and Glass (1977): dx/dt = a·x(t − τ) / (1 + x(t − τ)ⁿ) − b·x, with τ = 17, a = 0.2, b = 0.1, n = 10.

    A step is a unit of time, by the classical Runge-Kutta method, x(t − τ) staying as it is in between.
    """

    mean = (0.93,)
    deviation = (0.22,)
    delay: ClassVar[int] = 17

    def series(self, key: jax.Array, steps: int) -> jax.Array:
        """See `Forecast.series`."""
        past = jax.random.uniform(key, (self.delay + 1, self.sequences), minval=0.5, maxval=1.3)

        def step(past: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            x = mackey_glass(past[-1], past[0])
            return jnp.concatenate([past[1:], x[None]]), x

        return jax.lax.scan(step, past, length=steps)[1][..., None]


def mackey_glass(x: jax.Array, delayed: jax.Array) -> jax.Array:
    """The value a unit of time later."""
    return runge_kutta(lambda x: 0.2 * delayed / (1 + delayed**10) - 0.1 * x, x, 1.0)


def runge_kutta(slope: Callable[[jax.Array], jax.Array], state: jax.Array, h: float) -> jax.Array:
    """The state a time h later, by the classical method of the fourth order."""
    k1 = slope(state)
    k2 = slope(state + h / 2 * k1)
    k3 = slope(state + h / 2 * k2)
    k4 = slope(state + h * k3)
    return state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


class Lorenz(Forecast):
    """Lorenz (1963): x' = σ(y − x), y' = x(ρ − z) − y, z' = xy − βz, with σ = 10, ρ = 28, β = 8/3.

    A step is 0.03 of time, by the classical Runge-Kutta method. Three values, all to be told.
    """

    heads: ClassVar[tuple[tuple[str, int], ...]] = (("head", 3),)
    names = ("x", "y", "z")
    mean = (0.0, 0.0, 23.5)
    deviation = (7.9, 9.0, 8.6)

    def series(self, key: jax.Array, steps: int) -> jax.Array:
        """See `Forecast.series`."""
        start = jnp.array([0.0, 0.0, 23.5]) + 5 * jax.random.normal(key, (self.sequences, 3))

        def step(state: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
            after = lorenz(state)
            return after, after

        return jax.lax.scan(step, start, length=steps)[1]


def lorenz(state: jax.Array, h: float = 0.03) -> jax.Array:
    """The state a step later, [..., 3]."""

    def slope(state: jax.Array) -> jax.Array:
        x, y, z = (state[..., i] for i in range(3))
        return jnp.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], axis=-1)

    return runge_kutta(slope, state, h)


class Narma(Forecast):
    """NARMA of order 30 (Atiya and Parlos 2000), which answers to an input u, uniform on (0, 0.5).

    y(t + 1) = 0.2·y(t) + 0.04·y(t)·Σ y(t − i) + 1.5·u(t − 29)·u(t) + 0.001, the sum over the last 30. The input of a
    step is u alone, the target y, `task.horizon` steps later.
    """

    mean = (0.25,)
    deviation = (0.144,)
    answer_mean, answer_deviation = 0.159, 0.093
    first_input = "u"
    order: ClassVar[int] = 30

    def batch(self, key: jax.Array) -> Batch:
        """See `Task.batch`."""
        steps = SETTLING + self.length + self.horizon
        u = 0.5 * jax.random.uniform(key, (steps, self.sequences))

        def step(past: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            u, before = now
            y = 0.2 * past[-1] + 0.04 * past[-1] * past.sum(axis=0) + 1.5 * before * u + 0.001
            return jnp.concatenate([past[1:], y[None]]), past[-1]

        start = jnp.zeros((self.order, self.sequences))
        earlier = jnp.concatenate([jnp.zeros((self.order - 1, self.sequences)), u[: steps - self.order + 1]])
        _, y = jax.lax.scan(step, start, (u, earlier))
        y = (y[SETTLING + self.horizon :] - self.answer_mean) / self.answer_deviation
        x = (u[SETTLING : SETTLING + self.length] - self.mean[0]) / self.deviation[0]
        return Batch(x[..., None], y[..., None])
