"""The generated kernels beside the scan: `python experiments/speed/kernels.py --out=DIR` (about 10 minutes on 2 cores).

Both are compiled and warm before the first measurement, and take turns. A step is the forward and the backward pass of
one layer. Writes kernels.json and kernels.md; `recurrence.pick` chooses by it.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import jax
from flax import linen as nn

from rnn_compare.cells import CELLS
from rnn_compare.recurrence import cpu, scan
from rnn_compare.study import machine

FLAX = {"Flax MGU": nn.MGUCell, "Flax simple": nn.SimpleCell}
NAMES = ["lstm", "gru", "gru_reset_before", *FLAX]  # all cells at one size: cells.py
SIZES = [  # T, B, F, H
    *((20, 1, 1, 4), (20, 40, 1, 16), (20, 1, 1, 256), (20, 256, 1, 256), (400, 64, 64, 128), (500, 40, 1, 128)),
    *((2_000, 1, 1, 4), (2_000, 1, 1, 256), (2_000, 40, 1, 8), (2_000, 40, 1, 16), (2_000, 40, 1, 64)),
    *((200, 40, 1, 256), (200, 256, 1, 256), (2_000, 256, 1, 16), (20_000, 40, 1, 16), (200_000, 1, 1, 16)),
]
SECONDS, MOST = 1.5, 15  # for each pair of contenders: at least three rounds, at most so many


def steps_of(name, T, B, F, H):
    """The kernels' and the scan's step, compiled, each a function of nothing."""
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (T, B, F))
    if name in FLAX:
        cell = FLAX[name](H)
        carry = cell.initialize_carry(key, (B, F))
        params = cell.init(key, carry, x[0])
        step = cell.apply
    else:
        cell = CELLS[name](units=H)
        carry = cell.initialize_carry(key, (B, F))
        params = cell.init(key, carry, x[0])["params"]
        step = cell.step

    def gradients(recurrence, params, x, cotangents):
        return jax.vjp(lambda params: recurrence(step, params, x, carry)[0], params)[1](cotangents)

    outputs = jax.eval_shape(lambda params: scan.recurrence(step, params, x, carry)[0], params)
    cotangents = jax.random.normal(jax.random.key(2), outputs.shape)
    for backend in (cpu, scan):
        function = partial(jax.jit(partial(gradients, backend.recurrence)), params, x, cotangents)
        jax.block_until_ready(function())
        yield lambda function=function: jax.block_until_ready(function())


def measured(name, size):
    """Milliseconds of both, medians, and how many times the scan takes as long, the median of the rounds' ratios."""
    steps, seconds = list(steps_of(name, *size)), ([], [])
    end = time.perf_counter() + SECONDS
    while len(seconds[0]) < 3 or (time.perf_counter() < end and len(seconds[0]) < MOST):
        for step, times in zip(steps, seconds, strict=True):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
    kernel, scan_ = (1e3 * statistics.median(times) for times in seconds)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    return {"cell": name, "size": size, "kernel_ms": kernel, "scan_ms": scan_, "ratio": ratio}


def main():
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "kernels")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in SIZES:
        for name in NAMES:
            rows.append(measured(name, size))
            print(*rows[-1].values(), flush=True)
    (out / "kernels.json").write_text(
        json.dumps({"cpu": machine.cpu(), "jax": jax.__version__, "rows": rows}, indent=1)
    )
    lines = [f"{machine.cpu()}, JAX {jax.__version__}: kernels in ms, and how many times as long the scan takes.", ""]
    lines += ["| T, B, F, H | " + " | ".join(NAMES) + " |", "| --- |" + " --- |" * len(NAMES)]
    for size in SIZES:
        cells = [f"{r['kernel_ms']:.3g}, × {r['ratio']:.1f}" for r in rows if r["size"] == size]
        lines.append(f"| {', '.join(f'{n:,}' for n in size)} | {' | '.join(cells)} |")
    (out / "kernels.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
