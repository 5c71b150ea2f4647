"""Every cell: kernels, scan, and another package's own loop: `python experiments/speed/cells.py` (about 25 minutes).

A step is the forward and the backward pass of one layer at post8's size, 40 sequences of 20,000 steps, one input, 16
units; PyTorch's loops are measured at 1,000 steps, of which their time is a multiple. Each is called again and again,
as in training: in turn with the scan, kernels find their results' memory fresh from the system each time, and take half
as long again. Medians. Needs torchrecurrent, of the extra `bench`. Writes cells.json and cells.md.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import jax
import torch
from kernels import steps_of
from torch import nn

from rnn_compare.cells import CELLS
from rnn_compare.study import machine

sys.path.append(str(Path(__file__).parents[2] / "tests" / "cells"))
from witnesses import PACKAGES

T, B, F, H = 20_000, 40, 1, 16
LOOP = 1_000  # steps of PyTorch's loops
WHOLE = {"nn.LSTM": nn.LSTM, "nn.GRU": nn.GRU, "nn.RNN": nn.RNN}


def loop_of(module):
    """Forward and backward of a cell in a Python loop, a function of nothing."""
    cell, x = module(F, H), torch.randn(LOOP, B, F)

    def step():
        state, total = None, 0
        for t in range(LOOP):
            state = cell(x[t], state) if state is not None else cell(x[t])
            total = total + first(state).square().sum()
            if isinstance(state, tuple) and isinstance(state[1], tuple):  # an output apart from the state
                state = state[1]
        total.backward()

    return step


def first(state):
    """The output among what a cell returns."""
    return state[0] if isinstance(state, tuple) else state


def layer_of(module):
    """Forward and backward of PyTorch's own layer over the whole length."""
    layer, x = module(F, H), torch.randn(T, B, F)
    return lambda: layer(x)[0].square().sum().backward()


def seconds(steps, rounds):
    """The median of each step's time, in turn, after one round that does not count."""
    times = [[] for _ in steps]
    for round_ in range(rounds + 1):
        for step, of in zip(steps, times, strict=True):
            start = time.perf_counter()
            step()
            if round_:
                of.append(time.perf_counter() - start)
    return [statistics.median(of) for of in times]


def main():
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "cells")
    parser.add_argument("--keep-loops", action="store_true", help="take PyTorch's times from the cells.json there is")
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    known = json.loads((out / "cells.json").read_text()) if arguments.keep_loops else None
    loops = {row["cell"]: row["loop"] for row in known["rows"]} if known else {}
    rows = []
    for name in CELLS:
        kernel, scan = (
            seconds([step], rounds)[0] for step, rounds in zip(steps_of(name, T, B, F, H), (7, 3), strict=True)
        )
        if name in loops or name not in PACKAGES:
            loop = loops.get(name)
        else:
            loop = seconds([loop_of(PACKAGES[name])], 1)[0] * T / LOOP
        rows.append({"cell": name, "kernel": kernel, "scan": scan, "loop": loop})
        print(*rows[-1].values(), flush=True)
    layers = known["layers"] if known else {k: seconds([layer_of(m)], 3)[0] for k, m in WHOLE.items()}
    write(out, rows, layers)


def write(out, rows, layers):
    """cells.json and cells.md."""
    content = {"cpu": machine.cpu(), "jax": jax.__version__, "torch": torch.__version__, "rows": rows, "layers": layers}
    (out / "cells.json").write_text(json.dumps(content, indent=1) + "\n")
    rows.sort(key=lambda row: row["kernel"])
    made_by = f"{machine.cpu()}, JAX {jax.__version__}, PyTorch {torch.__version__}"
    lines = [
        f"{made_by}: forward and backward of {B} sequences of {T:,} steps, {F} input, {H} units, in ms; the loop's of "
        f"{LOOP:,} steps.",
        "",
        "| cell | kernels | scan | scan / kernels | PyTorch loop | loop / kernels |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        kernel, scan, loop = row["kernel"], row["scan"], row["loop"]
        more = f"{1e3 * loop:,.0f} | {loop / kernel:.0f}" if loop else "– | –"
        lines.append(f"| `{row['cell']}` | {1e3 * kernel:.0f} | {1e3 * scan:,.0f} | {scan / kernel:.1f} | {more} |")
    lines += [
        "",
        "For scale, PyTorch's layers: " + ", ".join(f"`{k}` {1e3 * v:,.0f} ms" for k, v in layers.items()) + ".",
    ]
    (out / "cells.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
