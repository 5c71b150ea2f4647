"""Procedurally generated sequences: prices of a commodity, and what each trade in it was worth.

The price is two sine waves whose amplitudes drift, noise and a constant. The network sees the price's recent changes
and learns the value of every action by Bellman's equation over the future, which is known here. The process is that
of the post *Training Recurrent Neural Networks on Long Sequences* (11 Feb 2019); its unstated numbers are ours.

Axis sizes: T trained time steps, B sequences, F window.
"""

from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.tasks.task import Batch, Task, size

# The seven action values, position by position: what can be done from it. Position values are 0, −1 and +1.
POSITIONS = {"flat": 0.0, "short": -1.0, "long": 1.0}
ACTIONS = {"flat": ("flat", "short", "long"), "short": ("short", "flat"), "long": ("long", "flat")}


class Price(Task):
    """The config's section `data`."""

    keys: ClassVar[tuple[str, ...]] = tuple(
        f"data.{name}"
        for name in (
            *("periods", "angle_step", "noise_variance", "bias", "discount", "trade_cost"),
            *("sequences", "length", "window", "lookahead"),
        )
    )
    heads: ClassVar[tuple[tuple[str, int], ...]] = tuple((head, len(actions)) for head, actions in ACTIONS.items())
    fresh: ClassVar[bool] = False
    worth_is: ClassVar[str] = "policy"
    unit: ClassVar[str] = "action value"
    names: ClassVar[tuple[str, ...]] = tuple(
        f"head {head}: {'stay' if action == head else 'go'} {action}"
        for head, actions in ACTIONS.items()
        for action in actions
    )
    first_input: ClassVar[str] = "price change"

    periods: Any
    angle_step: Any
    noise_variance: Any
    bias: Any
    discount: Any
    trade_cost: Any
    sequences: int = size()
    length: int = size()
    window: int = size()
    lookahead: int = size()

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """See `Task.of`."""
        data = config.data
        if data.window >= data.length:
            raise ValueError(
                f"config.data.window is {data.window}: it must be smaller than config.data.length, "
                f"which is {data.length}"
            )
        return cls(**data)

    @property
    def features(self) -> int:
        """The window."""
        return self.window

    @property
    def steps(self) -> int:
        """The length."""
        return self.length

    def batch(self, key: jax.Array) -> Batch:
        """See `make_batch`."""
        return make_batch(key, self)

    def least(self) -> int:
        """Three arrays of all prices."""
        return 3 * 4 * (self.window + self.length + self.lookahead + 1) * self.sequences

    def worth(self, values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The profit and the trades of `play`, and `best_profit`; each [B], per 1,000 steps."""
        change = batch.inputs[1:, :, 0]  # that of row t + 1 is the change from step t to the next
        profit, trades = play(values[:-1], change, self.trade_cost)
        found = {"profit": profit, "trades": trades, "best_profit": best_profit(change, self.trade_cost)}
        return {name: 1000 * value / len(change) for name, value in found.items()}


def prices(key: jax.Array, config: Price, steps: int) -> jax.Array:
    """Prices [steps, B].

    price = |cos θ|·sin(2πt/P₁) + |sin θ|·sin(2πt/P₂) + noise + bias, with θ uniform on (−π, π) at first and moved by
    angle_step·U(−1, 1) at each step.

    Args:
        key: a JAX random key.
        config: the config's `data` section.
        steps: how many time steps.
    """
    start_key, walk_key, noise_key = jax.random.split(key, 3)
    shape = (steps, config.sequences)
    start = jax.random.uniform(start_key, shape[1:], minval=-jnp.pi, maxval=jnp.pi)
    moves = config.angle_step * jax.random.uniform(walk_key, shape, minval=-1.0, maxval=1.0)
    angle = start + jnp.cumsum(moves, axis=0) - moves[0]  # the first price is at the start itself
    t = jnp.arange(steps, dtype=jnp.float32)[:, None]
    # The phase is reduced before the sine: 2πt alone would lose three digits at t = 20,000 in float32.
    wave_1, wave_2 = (jnp.sin(jnp.mod(t, p) * (2 * jnp.pi * (1 / jnp.float32(p)))) for p in config.periods)
    # √2·erf⁻¹ of a uniform number is a normal one, as in jax.random.normal.
    uniform = jax.random.uniform(noise_key, shape, minval=np.nextafter(np.float32(-1), np.float32(0)), maxval=1.0)
    noise = jax.lax.erf_inv(uniform) * (np.float32(np.sqrt(2)) * jnp.sqrt(config.noise_variance))
    return jnp.abs(jnp.cos(angle)) * wave_1 + jnp.abs(jnp.sin(angle)) * wave_2 + noise + config.bias


def features(price: jax.Array, window: int) -> jax.Array:
    """Price changes over the last 1 … window steps, [S, B] -> [S − window, B, window].

    Row t of the result belongs to price[window + t]; feature k − 1 is that price minus the one k steps before.
    """
    now = price[window:]
    return jnp.stack([now - price[window - k : -k] for k in range(1, window + 1)], axis=-1)


def action_values(price: jax.Array, discount: float, trade_cost: float) -> jax.Array:
    """The value of every action at every step, [S, B] -> [S − 1, B, 7], in the order of `ACTIONS`.

    Q_t(p, go to p') = p'·(price[t+1] − price[t]) − trade_cost·[p' ≠ p] + discount·max_a Q_{t+1}(p', a), with
    Q = 0 at the last price (Bellman 1957, the future being known).
    """
    change = jnp.diff(price, axis=0)

    def backward(future: dict[str, jax.Array], change_t: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        worth = {p: value * change_t + discount * future[p] for p, value in POSITIONS.items()}
        values = {p: [worth[to] - trade_cost * (to != p) for to in ACTIONS[p]] for p in POSITIONS}
        best = {p: jnp.max(jnp.stack(q), axis=0) for p, q in values.items()}
        return best, jnp.stack([q for p in ACTIONS for q in values[p]], axis=-1)

    nothing = dict.fromkeys(POSITIONS, jnp.zeros_like(price[0]))
    return jax.lax.scan(backward, nothing, change, reverse=True)[1]


def play(values: jax.Array, change: jax.Array, trade_cost: float) -> tuple[jax.Array, jax.Array]:
    """What it earns to take the most valued action at every step, from no position on.

    Args:
        values: of the actions at each step, in the order of `ACTIONS`, [S, B, 7].
        change: the price's from each step to the next, [S, B].
        trade_cost: price of one change of position.

    Returns:
        The profit, undiscounted, and how often the position was changed; each [B].
    """
    names, worth = list(POSITIONS), jnp.array(list(POSITIONS.values()))
    ends = np.cumsum([len(actions) for actions in ACTIONS.values()])

    def step(state: tuple, now: tuple) -> tuple[tuple, None]:
        (position, profit, trades), (q, change) = state, now
        moves = [
            jnp.array([names.index(to) for to in actions])[jnp.argmax(part, axis=-1)]
            for actions, part in zip(ACTIONS.values(), jnp.split(q, ends[:-1], axis=-1), strict=True)
        ]
        to = jnp.choose(position, moves, mode="clip")
        moved = to != position
        return (to, profit + worth[to] * change - trade_cost * moved, trades + moved), None

    start = jnp.full(change.shape[1:], names.index("flat"))
    nothing = jnp.zeros(change.shape[1:])
    (_, profit, trades), _ = jax.lax.scan(step, (start, nothing, nothing), (values, change))
    return profit, trades


def best_profit(change: jax.Array, trade_cost: float) -> jax.Array:
    """The most that any policy with the same actions could have earned, the future being known; [S, B] -> [B].

    By dynamic programming from the end (Bellman 1957), without discount.
    """

    def backward(best: dict[str, jax.Array], change: jax.Array) -> tuple[dict[str, jax.Array], None]:
        worth = {p: value * change + best[p] for p, value in POSITIONS.items()}
        options = {p: [worth[to] - trade_cost * (to != p) for to in ACTIONS[p]] for p in POSITIONS}
        return {p: jnp.max(jnp.stack(values), axis=0) for p, values in options.items()}, None

    nothing = dict.fromkeys(POSITIONS, jnp.zeros_like(change[0]))
    return jax.lax.scan(backward, nothing, change, reverse=True)[0]["flat"]


def make_batch(key: jax.Array, config: Price) -> Batch:
    """The inputs and targets of one run.

    Args:
        key: a JAX random key; the same key and config give the same batch.
        config: the config's `data` section.
    """
    T, window = config.length, config.window
    price = prices(key, config, window + T + config.lookahead + 1)
    return Batch(
        inputs=features(price, window)[:T],
        targets=action_values(price[window:], config.discount, config.trade_cost)[:T],
    )
