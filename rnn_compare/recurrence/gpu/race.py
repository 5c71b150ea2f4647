"""Which way of computing a recurrence is right and fastest on this GPU: measured once, and remembered.

The kernels were proven without a GPU, and what only a GPU can tell is asked of it: the first time that a step, a class
of shapes and a device meet, the kernels are held to the contract on the device, and race the scan there and the CPU's
kernels on the host.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

import rnn_compare
from rnn_compare.recurrence import cpu, gpu, scan
from rnn_compare.recurrence.contract import broken, drawn, in_double, pulled
from rnn_compare.recurrence.fused import problem_of
from rnn_compare.recurrence.step.read import Problem, StepFunction

ROUNDS = 5
MOST_STEPS, MOST_CHECKED = 1024, 64  # longer sequences are not raced, nor held to the contract
MOST_RUNS = 64
REPORT = "please report it with this message: it has never been seen on a GPU before"


@dataclasses.dataclass(frozen=True)
class Race:
    """How it ended.

    Attributes:
        seconds: that a forward and a backward pass took, by the backend's name, of those that gave right results.
        excluded: why others took no part, by their names.
        steps: of the sequences.
    """

    seconds: dict[str, float]
    excluded: dict[str, str]
    steps: int

    def fastest(self, host: bool) -> str:
        """The name of the fastest; of those that compute on the GPU if the host is none of the choice."""
        return min((name for name in self.seconds if host or name != "cpu"), key=self.seconds.__getitem__)

    def __str__(self) -> str:
        told = [f"{name} {1e6 * seconds / self.steps:.3g} µs a step" for name, seconds in self.seconds.items()]
        return ", ".join([*told, *(f"not {name}: {why}" for name, why in self.excluded.items())])


def race(step: StepFunction, params: Any, x: Any, carry: Any, runs: int = 1) -> Race:
    """The race of a step on the GPU that JAX computes on, held now or remembered.

    Args:
        step: the step.
        params: its parameters; of these and the following only shapes and types are read.
        x: inputs, a tree of arrays [T, B, F].
        carry: a carry, a tree of arrays [B, H].
        runs: how many are computed side by side, R.
    """
    traced: list[Problem] = []
    jax.eval_shape(lambda *given: traced.append(problem_of(step, *given)), params, x, carry)
    (problem,) = traced
    arrays, states, inputs = _shapes((problem.take_arrays(), jax.tree.leaves(carry), jax.tree.leaves(x)))
    steps = min(1 << (len(inputs[0]) - 1).bit_length(), MOST_STEPS)
    inputs = [jax.ShapeDtypeStruct((steps, *leaf.shape[1:]), leaf.dtype) for leaf in inputs]
    runs = min(1 << (runs - 1).bit_length(), MOST_RUNS)
    name = _name(problem, arrays, states, inputs, runs)
    if (found := _remembered(name)) is None:
        exact = _double(step, params, carry, x)
        with ThreadPoolExecutor(1) as apart:  # who asks may be tracing, and must not trace the race
            found = apart.submit(held, problem.step, exact, arrays, inputs, states, runs).result()
    _remember(name, found)
    logging.info("recurrence on %s: %s", jax.devices()[0].device_kind, found)
    return found


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)), tree)


def _double(step: StepFunction, params: Any, carry: Any, x: Any) -> StepFunction:
    """A step of arrays, states and inputs as `Problem.step`, in double precision: traced once more."""
    of_a_step = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x)
    wide = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), np.float64), (params, carry, of_a_step))
    with jax.enable_x64(True):
        closed = jax.make_jaxpr(step)(*wide)
    consts, states = [const.dtype for const in closed.consts], len(jax.tree.leaves(carry))

    def exact(arrays: list, carry: list, inputs: list) -> tuple[list, list]:
        own = [array.astype(dtype) for array, dtype in zip(arrays, consts, strict=False)]
        results = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, own))(*arrays[len(own) :], *carry, *inputs)
        return results[:states], results[states:]

    return exact


def held(step: StepFunction, exact: StepFunction, params: Any, x: Any, carry: Any, runs: int) -> Race:
    """The race itself; arguments as of `race`, and the step in double precision."""
    steps = len(jax.tree.leaves(x)[0])
    here, host = jax.local_devices()[0], jax.local_devices(backend="cpu")[0]
    ways: dict[str, tuple[Any, Any, Any]] = {
        "gpu": (gpu.recurrence, gpu.why_not, here),
        "scan": (scan.recurrence, lambda *_: None, here),
        "cpu": (cpu.recurrence, cpu.why_not, host),
    }
    excluded = {name: why for name, (_, why_not, _) in ways.items() if (why := why_not(step, params, x, carry))}
    if "gpu" not in excluded and (why := wrong(step, exact, params, x, carry)):
        logging.warning("kernels failed their check on %s and are not used: %s; %s", here.device_kind, why, REPORT)
        excluded["gpu"] = why
    numbers = jax.tree.map(lambda a: jnp.broadcast_to(a, (runs, *a.shape)), drawn(step, params, x, carry))
    taking = {}
    for name, (recurrence, _, device) in ways.items():
        if name not in excluded:
            function = jax.jit(jax.vmap(pulled(recurrence, step)))
            given = jax.device_put(numbers, device)
            jax.block_until_ready(function(*given))
            taking[name] = functools.partial(function, *given)
    times: dict[str, list[float]] = {name: [] for name in taking}
    for _ in range(ROUNDS):
        for name, once in taking.items():
            times[name].append(_seconds(once))
    return Race({name: statistics.median(each) for name, each in times.items()}, excluded, steps)


def wrong(step: StepFunction, exact: StepFunction, params: Any, x: Any, carry: Any) -> str:
    """How the kernels break the contract on the device, or nothing; what they raise there counts as broken."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((min(len(leaf), MOST_CHECKED), *leaf.shape[1:]), leaf.dtype), x)
    numbers = drawn(step, params, x, carry)
    scanned, exactly = (jax.jit(pulled(scan.recurrence, each)) for each in (step, exact))
    try:
        ours = jax.block_until_ready(jax.jit(pulled(gpu.recurrence, step))(*numbers))
    except Exception as error:  # whatever a driver may say
        return f"{type(error).__name__}: {error}"
    return "; ".join(broken(ours, scanned(*numbers), in_double(exactly, numbers)))


def _seconds(function: Callable) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


# What is remembered: a file for each race, which appears whole or not at all.

beside: list[pathlib.Path] = []  # folders that are asked first, and told too: a study keeps the races that decided it


def _folder() -> pathlib.Path:
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "rnn_compare" / "races"


def _name(problem: Problem, *shapes: Any) -> str:
    """Of a race's file: whatever could change how it ends."""
    texts: list[str] = []
    jax.eval_shape(lambda arrays: texts.append(problem.read(arrays)[0].text), shapes[0])
    versions = jax.__version__, rnn_compare.__version__, jax.devices()[0].device_kind
    sources = (file.read_text() for file in sorted(pathlib.Path(__file__).parent.glob("*.py")))
    return hashlib.sha256("\0".join([str(shapes), *texts, *versions, *sources]).encode()).hexdigest()[:32]


def _remembered(name: str) -> Race | None:
    for folder in (*beside, _folder()):
        with contextlib.suppress(OSError, ValueError, TypeError):
            return Race(**json.loads((folder / f"{name}.json").read_text()))
    return None


def _remember(name: str, race: Race) -> None:
    for folder in (*beside, _folder()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
                json.dump(dataclasses.asdict(race), file)
            os.replace(file.name, folder / f"{name}.json")
        except OSError:  # it is held again next time
            logging.warning("the race is not remembered: %s cannot be written to", folder)
