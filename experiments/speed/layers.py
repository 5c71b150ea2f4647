"""The layer as users live: `python experiments/speed/layers.py` (about 6 minutes on 2 cores).

A two-layer bidirectional LSTM tagger, a recurrent PPO update with resets, and what padding costs and saves; ours beside
plain Flax and PyTorch on the same cores, forward, backward and the optimizer's step, in turn, warm, medians. Writes
layers.json and layers.md.
"""

import argparse
import functools
import json
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import torch
from flax import linen as nn

import rnn_compare
from rnn_compare.study import machine

SECONDS, LEAST = 10.0, 5  # for each comparison


class Tagger(nn.Module):
    """Two bidirectional LSTM layers of 128 units, then 10 tags a step."""

    kind: str

    @nn.compact
    def __call__(self, x, lengths=None):
        """Scores, [B, T, 10]."""
        rnn, both = (nn.RNN, nn.Bidirectional) if self.kind == "flax" else (rnn_compare.RNN, rnn_compare.Bidirectional)
        for _ in range(2):
            x = both(rnn(nn.OptimizedLSTMCell(128)), rnn(nn.OptimizedLSTMCell(128)))(x, seq_lengths=lengths)
        return nn.Dense(10)(x)


class TorchTagger(torch.nn.Module):
    """The same in PyTorch, whose LSTM is of one piece."""

    def __init__(self, features):
        super().__init__()
        self.rnn = torch.nn.LSTM(features, 128, num_layers=2, bidirectional=True, batch_first=True)
        self.head = torch.nn.Linear(256, 10)

    def forward(self, x):
        """Scores, [B, T, 10]."""
        return self.head(self.rnn(x)[0])


class Resetting(nn.Module):
    """A GRU over an unroll whose episodes end on their way, as PureJaxRL has it: nn.scan over a cell and a choice."""

    @functools.partial(nn.scan, variable_broadcast="params", in_axes=0, out_axes=0, split_rngs={"params": False})
    @nn.compact
    def __call__(self, carry, inputs):
        """One step."""
        x, resets = inputs
        carry = jnp.where(resets[:, None], 0, carry)
        return nn.GRUCell(64)(carry, x)


class Policy(nn.Module):
    """An actor and a critic on a GRU of 64 units."""

    kind: str

    @nn.compact
    def __call__(self, x, resets):
        """Logits [T, B, 6] and values [T, B]."""
        x = nn.relu(nn.Dense(64)(x))
        if self.kind == "flax":
            _, x = Resetting()(jnp.zeros((x.shape[1], 64)), (x, resets))
        else:
            x = rnn_compare.RNN(nn.GRUCell(64), time_major=True)(x, resets=resets)
        return nn.Dense(6)(x), nn.Dense(1)(x)[..., 0]


class TorchPolicy(torch.nn.Module):
    """The same in PyTorch, whose GRU knows no resets: a loop over the cell."""

    def __init__(self, features):
        super().__init__()
        self.inner, self.cell = torch.nn.Linear(features, 64), torch.nn.GRUCell(64, 64)
        self.actor, self.critic = torch.nn.Linear(64, 6), torch.nn.Linear(64, 1)

    def forward(self, x, resets):
        """Logits and values."""
        x, h, hidden = torch.relu(self.inner(x)), torch.zeros(x.shape[1], 64), []
        for t in range(len(x)):
            h = self.cell(x[t], h * ~resets[t][:, None])
            hidden.append(h)
        hidden = torch.stack(hidden)
        return self.actor(hidden), self.critic(hidden)[..., 0]


def jax_update(loss, params):
    """A function of nothing that makes an update, compiled and warm; it hands the state on."""
    optimizer = optax.adam(1e-3)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(params, state):
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    now = [jax.tree.map(jnp.copy, params), optimizer.init(params)]

    def step():
        now[:] = update(*now)
        jax.block_until_ready(now)

    step()
    return step


def torch_update(module, loss):
    """The same with PyTorch."""
    optimizer = torch.optim.Adam(module.parameters(), 1e-3)

    def step():
        optimizer.zero_grad()
        loss(module).backward()
        optimizer.step()

    step()
    return step


def taggers(T=200, B=64, F=128, lengths=None, kinds=("flax", "ours", "torch")):
    """An update of each: the mean square of the scores of all that is no padding."""
    x = jax.random.normal(jax.random.key(0), (B, T, F))
    there = 1.0 if lengths is None else (jnp.arange(T) < lengths[:, None])[..., None]
    for kind in kinds:
        if kind == "torch":
            y = torch.randn(B, T, F)
            yield kind, torch_update(TorchTagger(F), lambda module, y=y: module(y).square().mean())
        else:
            module = Tagger(kind)
            params = module.init(jax.random.key(1), x)
            yield (
                kind,
                jax_update(lambda p, m=module: jnp.mean(jnp.square(m.apply(p, x, lengths) * there)), params),
            )


def policies(T=128, B=64, F=32):
    """A PPO update of each, of one minibatch: clipped ratios, values, entropy."""
    keys = jax.random.split(jax.random.key(0), 5)
    x, resets = jax.random.normal(keys[0], (T, B, F)), jax.random.bernoulli(keys[1], 0.02, (T, B))
    actions, advantage = jax.random.randint(keys[2], (T, B), 0, 6), jax.random.normal(keys[3], (T, B))
    target = jax.random.normal(keys[4], (T, B))
    for kind in ("flax", "ours"):
        module = Policy(kind)

        def loss(params, module=module):
            logits, values = module.apply(params, x, resets)
            every = jax.nn.log_softmax(logits)
            chosen = jnp.take_along_axis(every, actions[..., None], -1)[..., 0]
            ratio = jnp.exp(chosen - jax.lax.stop_gradient(chosen) + 0.1)
            gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 0.8, 1.2) * advantage).mean()
            entropy = -(jnp.exp(every) * every).sum(-1).mean()
            return -gain + 0.5 * jnp.square(values - target).mean() - 0.01 * entropy

        yield kind, jax_update(loss, module.init(jax.random.key(1), x, resets))
    given = [torch.tensor(jax.device_get(a)) for a in (x, resets, actions, advantage, target)]

    def torch_loss(module):
        x, resets, actions, advantage, target = given
        logits, values = module(x, resets)
        every = torch.log_softmax(logits, -1)
        chosen = every.gather(-1, actions[..., None].long())[..., 0]
        ratio = torch.exp(chosen - chosen.detach() + 0.1)
        gain = torch.minimum(ratio * advantage, ratio.clip(0.8, 1.2) * advantage).mean()
        entropy = -(every.exp() * every).sum(-1).mean()
        return -gain + 0.5 * (values - target).square().mean() - 0.01 * entropy

    yield "torch", torch_update(TorchPolicy(F), torch_loss)


def milliseconds(steps):
    """The median of each step's time, in turn."""
    times = {name: [] for name in steps}
    end = time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(next(iter(times.values()))) < LEAST:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(of) for name, of in times.items()}


def padded(share):
    """Lengths of 64 sequences of up to 200 steps, of which such a share is padding."""
    lengths = jnp.linspace(200 * max(0.0, 1 - 2 * share), 200, 64).astype(int)
    return jax.random.permutation(jax.random.key(3), lengths)


def main():
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "layers")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    cases = {
        "tagger: 2 × bidirectional LSTM, T 200, B 64, H 128": dict(taggers()),
        "PPO update: GRU with resets, T 128, B 64, H 64": dict(policies()),
    }
    for share in (0.0, 0.25, 0.5):
        lengths = jnp.full(64, 200) if share == 0 else padded(share)
        cases[f"tagger with lengths, {share:.0%} padding"] = dict(taggers(lengths=lengths, kinds=("flax", "ours")))
    rows = {}
    for case, steps in cases.items():
        rows[case] = milliseconds(steps)
        print(case, rows[case], flush=True)
    content = {"cpu": machine.cpu(), "jax": jax.__version__, "torch": torch.__version__, "milliseconds": rows}
    (out / "layers.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        f"{machine.cpu()}, JAX {jax.__version__}, PyTorch {torch.__version__}: an update with Adam, in ms.",
        "",
        "| | plain Flax | ours | PyTorch | Flax / ours | PyTorch / ours |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case, of in rows.items():
        theirs = [of["flax"], of.get("torch")]
        ratios = [f"{other / of['ours']:.1f}" if other else "–" for other in theirs]
        third = f"{of['torch']:.1f}" if "torch" in of else "–"
        lines.append(f"| {case} | {of['flax']:.1f} | {of['ours']:.1f} | {third} | {' | '.join(ratios)} |")
    (out / "layers.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
