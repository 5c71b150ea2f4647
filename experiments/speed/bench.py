"""Training steps side by side: `python experiments/speed/bench.py --out=DIR` (about 15 minutes on 2 CPU cores).

Every contender lives in a process of its own, all are warm before the first measurement, and rounds go through them
in turn, so that whatever else the machine does falls on all alike. Then the growth of our own step with T, H and the
number of stacked runs. Writes results.json, results.md, steps.png and growth.png.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
import statistics
import time
from importlib import metadata
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

from contenders import CONTENDERS, OURS, Size
from matplotlib.figure import Figure

NEEDS = {"Flax nn.RNN": "flax", "Flax, tuned": "flax", "Keras 3 on JAX": "keras", "PyTorch": "torch"}
GROWTH = {
    "T": [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000],
    "H": [4, 8, 16, 32, 64, 128],
    "R": [1, 2, 4, 8, 16, 32],
}


def serve(pipe: Connection, name: str, cell: str, size: Size) -> None:
    """A contender's process: gets ready, then makes as many steps as it is told and says how long they took."""
    try:
        run = CONTENDERS[name](cell, size)
        run(1)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}".splitlines()[0])
        return
    pipe.send(None)
    while steps := pipe.recv():
        start = time.perf_counter()
        run(steps)
        seconds = (time.perf_counter() - start) / steps
        pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


class Worker:
    """The driver's end of a contender's process."""

    def __init__(self, name: str, cell: str, size: Size):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, name, cell, size), daemon=True)
        self._process.start()
        theirs.close()
        self.size = size
        self.seconds: list[float] = []
        self.peak_bytes = 0
        try:
            self.problem = self._pipe.recv()
        except EOFError:
            self.problem = "its process died"

    def measure(self, steps: int) -> None:
        """One measurement: seconds per step over `steps` steps."""
        self._pipe.send(steps)
        seconds, self.peak_bytes = self._pipe.recv()
        self.seconds.append(seconds)

    def close(self) -> None:
        """Ends the process."""
        if self.problem is None:
            self._pipe.send(0)
        self._process.join()

    def result(self) -> dict:
        """Median, range and all measurements, in seconds; peak memory in bytes."""
        return {
            "median": statistics.median(self.seconds),
            "low": min(self.seconds),
            "high": max(self.seconds),
            "seconds": self.seconds,
            "peak_bytes": self.peak_bytes,
        }


def compare(cell: str, size: Size, repeats: int, steps: int) -> dict:
    """All contenders that are installed, in turn."""
    workers = {}
    for name in CONTENDERS:
        if find_spec(NEEDS.get(name, "jax")) is None:
            print(f"{cell}: {name} is not installed", flush=True)
            continue
        worker = Worker(name, cell, size)
        print(f"{cell}: {name} {worker.problem or 'is warm'}", flush=True)
        if worker.problem is None:
            workers[name] = worker
    for repeat in range(repeats if workers else 0):
        for worker in workers.values():
            worker.measure(steps)
        print(f"{cell}: round {repeat + 1} of {repeats}: ", end="")
        print(", ".join(f"{name} {w.seconds[-1] * 1e3:.0f} ms" for name, w in workers.items()), flush=True)
    for worker in workers.values():
        worker.close()
    return {name: worker.result() for name, worker in workers.items()}


def grow(cell: str, name: str, size: Size, repeats: int) -> dict:
    """Our step at other sizes, one axis at a time: axis -> value -> result."""
    results: dict = {}
    for axis, values in GROWTH.items():
        for value in values:
            worker = Worker(name, cell, size._replace(**{axis: value}))
            if worker.problem is None:
                for _ in range(repeats):
                    worker.measure(max(2, min(10, 200_000 // (worker.size.T * worker.size.R))))
                results.setdefault(axis, {})[value] = worker.result()
                print(f"{cell}: {axis} = {value}: {results[axis][value]['median'] * 1e3:.1f} ms", flush=True)
            else:
                print(f"{cell}: {axis} = {value}: {worker.problem}", flush=True)
            worker.close()
    return results


def machine() -> dict:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        said = {line.split(":")[0].strip(): line.split(":")[1].strip() for line in lines if ":" in line}
        model = f"{said.get('model name', model)}, family {said.get('cpu family')}, model {said.get('model')}"
    names = [name for name in ("jax", "jaxlib", "flax", "optax", "numba", "keras", "torch") if find_spec(name)]
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in names},
        "date": time.strftime("%Y-%m-%d"),
    }


def table(results: dict) -> str:
    """The comparison as Markdown."""
    rows = [
        "| contender | cell | ms per step | range | peak memory | fastest peer ÷ this |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for cell, contenders in results["steps"].items():
        peers = [r["median"] for name, r in contenders.items() if name not in OURS]
        for name, r in contenders.items():
            ratio = f"{min(peers) / r['median']:.2f}" if peers else "-"
            rows.append(
                f"| {name} | {cell} | {r['median'] * 1e3:.1f} | {r['low'] * 1e3:.1f}–{r['high'] * 1e3:.1f} "
                f"| {r['peak_bytes'] / 1e9:.2f} GB | {ratio} |"
            )
    for cell, axes in results["growth"].items():
        for axis, values in axes.items():
            cells = " | ".join(f"{int(v):,}" for v in values)
            times = " | ".join(f"{r['median'] * 1e3:.1f}" for r in values.values())
            memory = " | ".join(f"{r['peak_bytes'] / 1e9:.2f}" for r in values.values())
            rows += ["", f"| {cell}, {axis} | {cells} |", "|---|" + "--:|" * len(values)]
            rows += [f"| ms per step | {times} |", f"| peak memory, GB | {memory} |"]
    return "\n".join(rows) + "\n"


def draw(results: dict, out: Path) -> None:
    """steps.png: medians with their ranges; growth.png: time against T, H and R; all on log axes."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    for axes, (cell, contenders) in zip(figure.subplots(1, 2), results["steps"].items(), strict=False):
        for place, (name, r) in enumerate(contenders.items()):
            low, median, high = (r[key] * 1e3 for key in ("low", "median", "high"))
            colour = "#0072B2" if name in OURS else "#555555"
            axes.plot([low, high], [place, place], color=colour, linewidth=2)
            axes.plot(median, place, "o", color=colour)
            axes.annotate(f"{median:.0f}", (median, place), (0, 6), textcoords="offset points", ha="center", fontsize=8)
        axes.set(title=cell.upper(), xlabel="ms per training step", xscale="log", ylim=(len(contenders) - 0.5, -0.7))
        axes.set_yticks(range(len(contenders)), contenders)
        axes.margins(x=0.1)
        axes.grid(axis="x", which="both", alpha=0.2)
    figure.savefig(out / "steps.png", dpi=150)
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    for axes, (axis, label) in zip(
        figure.subplots(1, 3), {"T": "time steps", "H": "hidden units", "R": "stacked runs"}.items(), strict=True
    ):
        looks = (("#0072B2", "o-"), ("#E66100", "s--"))
        for (cell, grown), (colour, line) in zip(results["growth"].items(), looks, strict=False):
            values = [int(v) for v in grown.get(axis, {})]
            axes.plot(values, [r["median"] * 1e3 for r in grown.get(axis, {}).values()], line, color=colour, label=cell)
        axes.set(xlabel=label, ylabel="ms per training step", xscale="log", yscale="log")
        axes.grid(which="both", alpha=0.2)
        axes.legend(frameon=False)
    figure.savefig(out / "growth.png", dpi=150)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each contender; 0 keeps those in DIR")
    parser.add_argument("--steps", type=int, default=3, help="training steps in one measurement")
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru"])
    parser.add_argument("--size", type=int, nargs=4, default=Size()[:4], metavar=tuple("TBFH"))
    parser.add_argument("--grow", default=next(iter(OURS)), help="whose growth to measure; empty keeps that in DIR")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    size = Size(*arguments.size)
    file = arguments.out / "results.json"
    results: dict = {"steps": {}, "growth": {}} | (json.loads(file.read_text()) if file.exists() else {})
    results |= {"machine": machine(), "size": size._asdict()}
    for cell in arguments.cells if arguments.repeats else ():
        results["steps"][cell] = compare(cell, size, arguments.repeats, arguments.steps)
    for cell in arguments.cells if arguments.grow else ():
        results["growth"][cell] = grow(cell, arguments.grow, size, 3)
    file.write_text(json.dumps(results, indent=1) + "\n")
    (arguments.out / "results.md").write_text(table(results))
    draw(results, arguments.out)
    print(table(results))


if __name__ == "__main__":
    main()
