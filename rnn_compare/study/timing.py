"""The cells' speed, measured for a study."""

import contextlib
import json
import platform
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.console.terminal import say
from rnn_compare.report.reading import read_speeds
from rnn_compare.study.launch import Call
from rnn_compare.study.machine import cores, cpu
from rnn_compare.training import speed
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.runs import Run, ended


def write_speed(config: ConfigDict, runs: list[Run], workdir: Path, call: Call) -> None:
    """Measures the two cells' speed with each `train.backend`, at the study's first setting with it, if asked for.

    Measuring takes no longer than training did. What was measured with the same limit and precision is kept. A cell of
    which no run could be trained is not tried.

    Args:
        config: the study's.
        runs: those of the study.
        workdir: where they have ended.
        call: calls a function where cohorts are trained.

    Raises:
        UserError: `speed.json` cannot be read.
    """
    path, asked = workdir / "speed.json", {"limit": config.speed.limit, "precision": config.speed.precision}
    if not config.speed.limit:
        return
    measured = {backend: found.about for backend, found in read_speeds(path).items()}
    trained = [run.config for run in runs if ended(run, workdir, retry_failed=True)]
    for backend in dict.fromkeys(run.config.train.backend for run in runs):
        cells = {c.model.cell for c in trained if c.train.backend == backend}
        if asked.items() <= measured.get(backend, {}).items() or not cells >= {"lstm", "gru"}:
            continue
        ours = [run for run in runs if run.config.train.backend == backend]
        limit = min(config.speed.limit, training_seconds(ours, workdir))
        say(f"measuring the cells' speed with backend {backend}, at most {limit:.3g} s")
        try:
            result = call(measure, ours[0].config, config.speed.precision, limit)
        except jax.errors.JaxRuntimeError as error:  # out of memory, for one: the runs shall be reported all the same
            say(f"the speed could not be measured: {str(error).splitlines()[0]}")
            continue
        measured[backend] = {"train.backend": backend, **asked, **result}
        write_atomically(path, json.dumps(list(measured.values())) + "\n")
        say(
            f"an LSTM epoch takes {result['ratio']:.3g} ({result['low']:.3g} to {result['high']:.3g}) times a GRU "
            f"epoch, {result['pairs']} pairs, on {result['host']} ({result['cpu']})"
        )


def measure(config: ConfigDict, precision: float, limit: float) -> dict[str, Any]:
    """What `speed.measure` returns, and on which machine that was: `host`, `cpu` and `cores`."""
    there = {"host": platform.node(), "cpu": cpu(), "cores": cores()}
    return speed.measure(with_cell(config, "lstm"), with_cell(config, "gru"), precision, limit) | there


def training_seconds(runs: list[Run], workdir: Path) -> float:
    """How long these runs were trained, as far as their files say."""
    total = 0.0
    for run in runs:
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            total += float(np.load(workdir / run.name / "curves.npz")["seconds_per_epoch"].sum())
    return total


def with_cell(config: ConfigDict, cell: str) -> ConfigDict:
    """A run's config with another cell."""
    other = config.copy_and_resolve_references().unlock()
    other.model.cell = cell
    return other.lock()
