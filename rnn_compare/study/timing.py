"""The contestants' speed, measured for a study."""

import contextlib
import json
import platform
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.config import KEYS, compared_keys, contestant, leaves
from rnn_compare.console.terminal import say
from rnn_compare.report.reading import read_speeds
from rnn_compare.study.launch import Call
from rnn_compare.study.machine import cores, cpu
from rnn_compare.training import speed
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.runs import Run, as_json, ended

MOST_AT_ONCE = 64  # contestants: each needs its program in memory, see `program.make_room`


def write_speed(config: ConfigDict, runs: list[Run], workdir: Path, call: Call) -> None:
    """Measures all contestants' speed, if asked for, at each setting that changes it: that changes their programs.

    Measuring takes no longer than training did. What was measured with the same limit and precision is kept. A
    contestant of which no run could be trained is not tried.

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
    compared = compared_keys(dict(leaves(config)))
    measured = {found.key: found.about for found in read_speeds(path)}
    groups: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for run in runs:
        setting = {key: value for key, value in as_json(run.config).items()
                   if key in run.axes and key not in compared and not KEYS[key].stacks}  # fmt: skip
        setting.pop("train.backend", None)
        backend = "its own for each" if "train.backend" in compared else run.config.train.backend
        about = {"train.backend": backend, "setting": setting}
        groups.setdefault(json.dumps(about), (about, []))[1].append(run)
    for about, ours in groups.values():
        trained = [run for run in ours if ended(run, workdir, retry_failed=True)]
        configs = {contestant(compared, dict(leaves(run.config))): run.config for run in reversed(trained)}
        names = dict.fromkeys(contestant(compared, dict(leaves(run.config))) for run in ours)
        there = any(
            old["train.backend"] == about["train.backend"]
            and old.get("setting", {}).items() <= about["setting"].items()
            and asked.items() <= old.items()
            and configs.keys() <= old.get("seconds_of", {"lstm": [], "gru": []}).keys()
            for old in measured.values()
        )
        if there or len(configs) < 2:
            continue
        if len(configs) > MOST_AT_ONCE:
            say(f"the speed of {len(configs)} contestants is not measured: {MOST_AT_ONCE} at once are the most")
            continue
        limit = min(config.speed.limit, training_seconds(ours, workdir))
        what = "".join(f", {key} {value}" for key, value in about["setting"].items())
        say(
            f"measuring the speed of {len(configs)} contestants, backend {about['train.backend']}{what}, "
            f"at most {limit:.3g} s"
        )
        try:
            result = call(
                measure, {name: configs[name] for name in names if name in configs}, config.speed.precision, limit
            )
        except jax.errors.JaxRuntimeError as error:  # out of memory, for one: the runs shall be reported all the same
            say(f"the speed could not be measured: {str(error).splitlines()[0]}")
            continue
        measured[json.dumps(about)] = {**about, **asked, **result}
        write_atomically(path, json.dumps(list(measured.values())) + "\n")
        times = ", ".join(f"{name} {np.median(seconds):.3g} s" for name, seconds in result["seconds_of"].items())
        say(f"per epoch: {times}; {result['pairs']} rounds, on {result['host']} ({result['cpu']})")


def measure(configs: dict[str, ConfigDict], precision: float, limit: float) -> dict[str, Any]:
    """What `speed.measure` returns, and on which machine that was: `host`, `cpu` and `cores`."""
    there = {"host": platform.node(), "cpu": cpu(), "cores": cores()}
    return speed.measure(configs, precision, limit) | there


def training_seconds(runs: list[Run], workdir: Path) -> float:
    """How long these runs were trained, as far as their files say."""
    total = 0.0
    for run in runs:
        with contextlib.suppress(OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
            total += float(np.load(workdir / run.name / "curves.npz")["seconds_per_epoch"].sum())
    return total
