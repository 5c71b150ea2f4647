import itertools

import jax
import numpy as np
import pytest

from rnn_compare import config as base
from rnn_compare.tasks import price as data
from rnn_compare.training.start import DATA

KEY = jax.random.key(3)


@pytest.fixture
def section():
    config = base.base().data
    config.sequences, config.length = 5, 400
    return config


def prices(key, config, steps):
    return jax.jit(lambda key: data.prices(key, config, steps))(key)


def make_batch(key, config):
    return jax.jit(lambda key: data.make_batch(key, config))(key)


def loop_prices(key, config, steps):
    """The process, one step at a time in float64, from the same random draws."""
    start_key, walk_key, noise_key = jax.random.split(key, 3)
    B = config.sequences
    theta = np.asarray(jax.random.uniform(start_key, (B,), minval=-np.pi, maxval=np.pi), np.float64)
    walk = np.asarray(jax.random.uniform(walk_key, (steps, B), minval=-1, maxval=1), np.float64)
    noise = np.asarray(jax.random.normal(noise_key, (steps, B)), np.float64)
    price = np.empty((steps, B))
    for t in range(steps):
        if t > 0:
            theta = theta + config.angle_step * walk[t]
        for b in range(B):
            first = abs(np.cos(theta[b])) * np.sin(2 * np.pi * t / config.periods[0])
            second = abs(np.sin(theta[b])) * np.sin(2 * np.pi * t / config.periods[1])
            price[t, b] = first + second + np.sqrt(config.noise_variance) * noise[t, b] + config.bias
    return price


def loop_values(price, discount, cost):
    """Bellman's recursion, one step and one action at a time."""
    position = {"flat": 0, "short": -1, "long": 1}
    actions = [("flat", "flat"), ("flat", "short"), ("flat", "long"), ("short", "short"), ("short", "flat"),
               ("long", "long"), ("long", "flat")]  # fmt: skip
    steps = len(price) - 1
    values = np.zeros((steps + 1, price.shape[1], 7))
    for t in reversed(range(steps)):
        for b in range(price.shape[1]):
            for a, (held, to) in enumerate(actions):
                after = max(values[t + 1, b, i] for i, (p, _) in enumerate(actions) if p == to)
                gain = position[to] * (price[t + 1, b] - price[t, b]) - cost * (held != to)
                values[t, b, a] = gain + discount * after
    return values[:-1]


def test_prices_equal_an_independent_loop(section):
    section.periods = (40.0, 33.3)
    price = prices(KEY, section, 500)
    # float32 near 100 resolves 8e-6; the phase adds a few 1e-6.
    np.testing.assert_allclose(price, loop_prices(KEY, section, 500), atol=3e-5, rtol=0)


def test_phase_keeps_its_precision_after_many_steps(section):
    section.sequences, section.noise_variance, section.bias, section.angle_step = 2, 0.0, 0.0, 0.0
    price = prices(KEY, section, 50_001)
    np.testing.assert_allclose(price[-40:], loop_prices(KEY, section, 50_001)[-40:], atol=2e-6, rtol=0)


def test_batch_equals_independent_loops(section):
    section.window = 4
    section.length, section.lookahead = 60, 30
    price = loop_prices(KEY, section, 4 + 60 + 30 + 1)
    batch = make_batch(KEY, section)
    assert batch.inputs.shape == (60, 5, 4)
    assert batch.targets.shape == (60, 5, 7)
    for t, k in itertools.product(range(60), range(1, 5)):
        np.testing.assert_allclose(batch.inputs[t, :, k - 1], price[4 + t] - price[4 + t - k], atol=5e-5)
    expected = loop_values(price[4:], section.discount, section.trade_cost)[:60]
    np.testing.assert_allclose(batch.targets, expected, atol=5e-4)


def test_noise_has_its_variance(section):
    section.length = 20_000
    noisy = prices(KEY, section, 20_000)
    section.noise_variance = 0.0
    noise = np.asarray(noisy - prices(KEY, section, 20_000), np.float64)
    n = noise.size
    # The sample variance of n normal draws has standard deviation σ²·√(2/n); five of them.
    assert abs(noise.var() - 0.01) < 5 * 0.01 * np.sqrt(2 / n)
    assert abs(noise.mean()) < 5 * 0.1 / np.sqrt(n)


def test_angle_moves_by_at_most_its_step(section):
    # Period 4 makes the first wave ±1 at odd steps, period 1 makes the second vanish: |price| is |cos θ| there.
    section.periods, section.noise_variance, section.bias = (4.0, 1.0), 0.0, 0.0
    section.sequences = 200
    amplitude = np.abs(np.asarray(prices(KEY, section, 2000)))[1::2]
    moved = np.abs(np.diff(np.arccos(np.clip(amplitude, 0, 1)), axis=0))
    moved = moved[(amplitude[1:] > 0.1) & (amplitude[1:] < 0.9)]  # away from the arc cosine's ends
    assert moved.max() < 2 * 0.01 + 1e-5
    assert moved.max() > 2 * 0.01 * 0.95
    # Two independent U(−0.01, 0.01): variance 2·0.01²/3.
    assert np.mean(moved**2) == pytest.approx(2 * 0.01**2 / 3, rel=0.02)


def test_start_angle_is_uniform(section):
    section.periods, section.noise_variance, section.bias = (4.0, 1.0), 0.0, 0.0
    section.sequences = 20_000
    amplitude = np.abs(np.asarray(prices(KEY, section, 2)))[1]
    # E|cos θ| = 2/π; Var|cos θ| = 1/2 − 4/π².
    assert abs(amplitude.mean() - 2 / np.pi) < 5 * np.sqrt((0.5 - 4 / np.pi**2) / 20_000)


def test_two_step_problem_solved_by_hand():
    price = np.array([[0.0], [1.0], [3.0]], np.float32)
    values = data.action_values(price, discount=0.5, trade_cost=0.7)[:, 0]
    #                     flat: stay, short, long;  short: stay, flat;  long: stay, flat
    np.testing.assert_allclose(values[1], [0, -2.7, 1.3, -2.0, -0.7, 2.0, -0.7], atol=1e-6)
    np.testing.assert_allclose(values[0], [0.65, -2.05, 1.3, -1.35, -0.05, 2.0, -0.05], atol=1e-6)


def test_values_are_the_best_over_all_action_sequences():
    rng = np.random.default_rng(0)
    price, discount, cost, steps = rng.normal(size=(6, 1)), 0.9, 0.3, 5
    value = {"flat": 0, "short": -1, "long": 1}
    reach = {"flat": ("flat", "short", "long"), "short": ("short", "flat"), "long": ("long", "flat")}
    first = [(p, to) for p in ("flat", "short", "long") for to in reach[p]]
    best = dict.fromkeys(first, -np.inf)
    for path in itertools.product(("flat", "short", "long"), repeat=steps):
        for start in value:
            held, total = start, 0.0
            for t, to in enumerate(path):
                if to not in reach[held]:
                    break
                total += discount**t * (value[to] * (price[t + 1, 0] - price[t, 0]) - cost * (to != held))
                held = to
            else:
                best[start, path[0]] = max(best[start, path[0]], total)
    values = data.action_values(price.astype(np.float32), discount, cost)[0, 0]
    np.testing.assert_allclose(values, [best[pair] for pair in first], atol=1e-6)


def test_the_lookahead_removes_the_edge(section):
    """The last trained step's values hardly change when the future is known for longer."""
    section.length = 50
    near = make_batch(KEY, section).targets
    assert np.abs(near[-1]).max() > 0.5
    section.lookahead = 0
    assert np.abs(make_batch(KEY, section).targets[-1]).max() < np.abs(near[-1]).max()


@pytest.mark.slow
def test_levels_of_the_default_regime():
    """What predicting 0 costs, and each output's mean, goes with the seed; the post's curves start and rest within."""
    section = base.base().data
    make = jax.jit(lambda key: data.make_batch(key, section).targets)
    zero, mean = [], []
    for seed in range(14):
        targets = make(jax.random.fold_in(jax.random.key(seed), DATA))
        heads = np.split(np.asarray(targets, np.float64), [3, 5], axis=-1)
        zero.append(sum(np.mean(q**2) for q in heads))
        mean.append(sum(np.mean(q.var(axis=(0, 1))) for q in heads))
    assert [min(zero), max(zero)] == pytest.approx([2.68, 4.76], abs=0.01)
    assert [min(mean), max(mean)] == pytest.approx([1.37, 1.90], abs=0.01)
    assert [seed for seed in range(14) if 4.2 < zero[seed] < 4.8] == [0, 3, 4, 6, 7, 12]


def test_fingerprint(section):
    """The data of a seed must not change unnoticed: published curves depend on it."""
    batch = make_batch(jax.random.key(0), section)
    assert float(np.abs(batch.inputs).mean()) == pytest.approx(0.12513563, rel=1e-5)
    assert float(np.square(batch.targets).mean()) == pytest.approx(0.39179376, rel=1e-5)
    again = make_batch(jax.random.key(0), section)
    assert np.array_equal(batch.inputs, again.inputs)
    assert np.array_equal(batch.targets, again.targets)


def every_policy(change, trade_cost):
    """The best profit of one sequence by trying all paths."""
    paths = {("flat",): 0.0}
    for step in change:
        paths = {
            (*path, to): profit + data.POSITIONS[to] * step - trade_cost * (to != path[-1])
            for path, profit in paths.items()
            for to in data.ACTIONS[path[-1]]
        }
    return max(paths.values())


def test_no_policy_earns_more_than_the_best_and_undiscounted_true_values_earn_it():
    prices_ = np.cumsum(np.random.default_rng(0).normal(size=(9, 6)), axis=0).astype(np.float32)
    change = np.diff(prices_, axis=0)
    best = data.best_profit(change, 0.7)
    np.testing.assert_allclose(best, [every_policy(column, 0.7) for column in change.T], rtol=1e-5, atol=1e-5)
    profit, trades = data.play(data.action_values(prices_, 1.0, 0.7), change, 0.7)
    np.testing.assert_allclose(profit, best, rtol=1e-5, atol=1e-5)
    assert (np.asarray(trades) <= 8).all()


def test_a_policy_pays_for_each_change_of_position():
    values = np.zeros((3, 1, 7), np.float32)
    values[0, 0, 2] = 1  # from flat to long
    values[1, 0, 5] = 1  # from long to long
    values[2, 0, 6] = 1  # from long to flat
    profit, trades = data.play(values, np.array([[1.0], [2.0], [5.0]], np.float32), 0.5)
    assert float(profit[0]) == 1 + 2 - 2 * 0.5
    assert float(trades[0]) == 2
