"""What only a GPU can tell of the kernels: whether they are right on it, and how long they take beside others.

Proven without one is that their source computes what it should, and compiles; see docs/gpu.md.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rnn_compare.cells import CELLS
from rnn_compare.gpu_check import peers
from rnn_compare.recurrence import contract, gpu, scan
from rnn_compare.recurrence import shapes as shapes_of
from rnn_compare.recurrence.gpu import race
from rnn_compare.study.machine import environment

ROUNDS, ENOUGH = 5, 2.0  # and seconds, after which who is slow needs no more rounds
Way = Callable[[], Callable[[], Any]]  # makes a pass ready to be called


class Size(NamedTuple):
    """What is computed: T steps of B sequences of F inputs, H units, R stacked runs."""

    T: int = 20_000
    B: int = 40
    F: int = 1
    H: int = 16
    R: int = 1


POST8 = Size()
CHECKED = Size(20, 5, 3, 16), Size(7, 3, 2, 5), Size(12, 2, 1, 32), Size(5, 9, 1, 1)
GROWTH = (
    *(POST8._replace(T=T) for T in (1000, 4000, 20_000, 80_000)),
    *(POST8._replace(H=H) for H in (8, 16, 32, 64)),
    *(POST8._replace(R=R) for R in (1, 4, 32, 256)),
)
COMPARED = POST8, POST8._replace(H=32), POST8._replace(H=64), POST8._replace(R=32)


def check(folder: Path) -> bool:
    """Checks and measures everything, writes it to a folder as it goes, and returns whether all kernels are right.

    Args:
        folder: gets README.md for people, results.json for programs.
    """
    found: dict[str, Any] = {"environment": environment(), "contract": {}, "race": {}, "seconds": []}

    def note() -> None:
        (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n")
        (folder / "README.md").write_text("\n".join(told(found)) + "\n")

    for name in CELLS:
        found["contract"][name] = kept(name, CHECKED if name in ("lstm", "gru") else CHECKED[:1])
        print(f"{name}: {found['contract'][name] or 'right'}", flush=True)
        note()
    for name in ("lstm", "gru"):
        found["race"][name] = str(race.race(*problem(name, POST8)))
        print(f"{name}: {found['race'][name]}", flush=True)
        note()
    for name, size, who, seconds in measured():
        found["seconds"].append({"cell": name, "size": size._asdict(), "by": who, "seconds": seconds})
        print(f"{name}, {words(size)}, {who}: {worded(seconds)}", flush=True)
        note()
    return not any(found["contract"].values())


def problem(name: str, size: Size) -> tuple[Any, ...]:
    """A cell's step, and the shapes of its parameters, inputs and carry."""
    cell = CELLS[name](units=size.H)
    return cell.step, *shapes_of(cell, size.F, size.T, size.B)


def kept(name: str, sizes: tuple[Size, ...]) -> str:
    """How a cell's kernels break the contract on this device, or nothing; a cell that is refused breaks none."""
    failed = []
    for size in sizes:
        step, *shapes = problem(name, size)
        if why := gpu.why_not(step, *shapes):
            print(f"{name}, {words(size)}: left to the scan, {why}", flush=True)
        elif why := race.wrong(step, step, *shapes):
            failed.append(f"{words(size)}: {why}")
    return "; ".join(failed)


def measured() -> Iterator[tuple[str, Size, str, float | str]]:
    """(cell, size, who, seconds of a forward and backward pass, or why there are none), side by side at each size."""
    for name in ("lstm", "gru"):
        for size in dict.fromkeys((*COMPARED, *GROWTH)):
            ways: dict[str, Way] = {"ours": functools.partial(ours, gpu.recurrence, name, size)}
            if size in COMPARED:
                ways["scan"] = functools.partial(ours, scan.recurrence, name, size)
                ways |= {who: functools.partial(peer, name, size) for who, peer in peers.PEERS.items()}
            yield from ((name, size, who, seconds) for who, seconds in side_by_side(ways).items())


def ours(recurrence: contract.Recurrence, name: str, size: Size) -> Callable[[], Any]:
    """A forward and a backward pass of R runs, ready to be called; all gradients but that of the inputs."""
    step, *shapes = problem(name, size)
    params, x, carry, cotangents = contract.drawn(step, *shapes)

    def both(params: Any, carry: Any) -> Any:
        out, pull = jax.vjp(lambda params, carry: recurrence(step, params, x, carry), params, carry)
        return out, pull(cotangents)

    stacked = jax.tree.map(lambda leaf: jax.numpy.broadcast_to(leaf, (size.R, *leaf.shape)), (params, carry))
    function = jax.jit(jax.vmap(both))
    return lambda: jax.block_until_ready(function(*stacked))


def side_by_side(ways: dict[str, Way]) -> dict[str, float | str]:
    """The median of several rounds in turn, by name, of what each makes ready; in words why one cannot."""
    ready, found = {}, {}
    for name, make in ways.items():
        try:
            ready[name] = make()
            ready[name]()  # compiles
        except Exception as error:  # whatever another library may say
            ready.pop(name, None)
            found[name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    times: dict[str, list[float]] = {name: [] for name in ready}
    for _ in range(ROUNDS):
        for name, once in ready.items():
            if sum(times[name]) > ENOUGH:
                continue
            start = time.perf_counter()
            once()
            times[name].append(time.perf_counter() - start)
    return found | {name: statistics.median(each) for name, each in times.items()}


# In words.


def words(size: Size) -> str:
    """A size."""
    return ", ".join(f"{axis} {number}" for axis, number in size._asdict().items())


def worded(seconds: float | str) -> str:
    """A time, or why there is none."""
    return seconds if isinstance(seconds, str) else f"{1e3 * seconds:.3g} ms"


def told(found: dict[str, Any]) -> Iterator[str]:
    """All of it as Markdown."""
    about = found["environment"]
    yield f"# The kernels on {', '.join(about['devices'])}"
    yield f"\n`{about['command']}`, JAX {about['packages']['jax']}, {about['cpu']}, {about['started']}.\n"
    broken = {name: why for name, why in found["contract"].items() if why}
    yield f"## Contract\n{len(found['contract']) - len(broken)} of {len(found['contract'])} cells keep it.\n"
    yield from (f"- {name}: {why}" for name, why in broken.items())
    yield "\n## Race at post8's size, as `auto` holds it\n"
    yield from (f"- {name}: {race}" for name, race in found["race"].items())
    yield "\n## Forward and backward pass, side by side at each size\n"
    yield "| cell | size | by | |\n| --- | --- | --- | --- |"
    for row in found["seconds"]:
        yield f"| {row['cell']} | {words(Size(**row['size']))} | {row['by']} | {worded(row['seconds'])} |"
