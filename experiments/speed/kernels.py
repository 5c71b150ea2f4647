"""The generated kernels beside the scan: `python experiments/speed/kernels.py --out=DIR` (about 10 minutes on 2 cores).

Both are compiled and warm before the first measurement, and take turns. A step is the forward and the backward pass of
one layer. Writes kernels.json and kernels.md, by which `recurrence.slower` was chosen. With --every-cell, writes
every_cell.json and .md instead: all cells at the ends of the range (about 30 minutes).
"""

import argparse
import json
import math
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
    *((1, 8, 1, 64), (2, 1, 1, 16), (2, 8, 1, 64), (4, 8, 1, 128), (16, 8, 1, 256)),
    *((20, 1, 1, 4), (20, 40, 1, 16), (20, 1, 1, 256), (20, 256, 1, 256), (400, 64, 64, 128), (500, 40, 1, 128)),
    *((2_000, 1, 1, 4), (2_000, 1, 1, 256), (2_000, 40, 1, 8), (2_000, 40, 1, 16), (2_000, 40, 1, 64)),
    *((200, 40, 1, 256), (200, 256, 1, 256), (2_000, 256, 1, 16), (20_000, 40, 1, 16), (200_000, 1, 1, 16)),
]
ENDS = [(20, 1, 1, 4), (20, 256, 1, 4), (20, 1, 1, 256), (20, 256, 1, 256), (2_000, 1, 1, 256), (200_000, 1, 1, 4)]
SECONDS, MOST = 1.5, 15  # for each pair of contenders: at least three rounds, at most so many
SHORTEST = 0.005  # seconds of calls that a round takes together


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


def timed(step, calls):
    """Seconds of one of so many calls."""
    start = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - start) / calls


def measured(name, size):
    """Milliseconds of both, medians, and how many times the scan takes as long, the median of the rounds' ratios."""
    steps, seconds = list(steps_of(name, *size)), ([], [])
    calls = [math.ceil(SHORTEST / timed(step, 1)) for step in steps]
    end = time.perf_counter() + SECONDS
    while len(seconds[0]) < 3 or (time.perf_counter() < end and len(seconds[0]) < MOST):
        for step, count, times in zip(steps, calls, seconds, strict=True):
            times.append(timed(step, count))
    kernel, scan_ = (1e3 * statistics.median(times) for times in seconds)
    ratio = statistics.median(b / a for a, b in zip(*seconds, strict=True))
    return {"cell": name, "size": size, "kernel_ms": kernel, "scan_ms": scan_, "ratio": ratio}


def main():
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "kernels")
    parser.add_argument("--every-cell", action="store_true", help="all cells at the ends of the range")
    arguments = parser.parse_args()
    file, names, sizes = ("every_cell", list(CELLS), ENDS) if arguments.every_cell else ("kernels", NAMES, SIZES)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in names:
        for size in sizes:
            found[name, size] = measured(name, size)
            print(*found[name, size].values(), flush=True)
        jax.clear_caches()
    about, out = {"cpu": machine.cpu(), "jax": jax.__version__}, arguments.out / file
    out.with_suffix(".json").write_text(json.dumps(about | {"rows": list(found.values())}, indent=1))

    def row(head, cells):
        return f"| {head} | {' | '.join(cells)} |"

    texts = {key: f"{times['kernel_ms']:.3g}, × {times['ratio']:.1f}" for key, times in found.items()}
    labels = {size: ", ".join(f"{n:,}" for n in size) for size in sizes}
    lines = [f"{machine.cpu()}, JAX {jax.__version__}: kernels in ms, and how many times as long the scan takes.", ""]
    if arguments.every_cell:
        lines += [row("T, B, F, H", labels.values()), row("---", ["---"] * len(sizes))]
        lines += [row(name, [texts[name, size] for size in sizes]) for name in names]
    else:
        lines += [row("T, B, F, H", names), row("---", ["---"] * len(names))]
        lines += [row(labels[size], [texts[name, size] for name in names]) for size in sizes]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
