"""A config expanded into runs."""

import hashlib
from typing import Any

from ml_collections import ConfigDict

from rnn_compare.config import leaves, set_value, settings
from rnn_compare.config.checks import words
from rnn_compare.study.matching import units_for
from rnn_compare.workdir.runs import Run

MOST = 100  # bytes of a run's name


def expand(config: ConfigDict) -> list[Run]:
    """All runs of a validated config: the product of its axes, times its seeds."""
    runs = []
    for setting in settings(config.sweep):
        for seed in range(config.seeds):
            resolved = ConfigDict(type_safe=False)
            for key, value in leaves(config):
                if key not in ("seeds", "sweep"):
                    set_value(resolved, key, setting.get(key, value))
            if resolved.model.parameters:
                resolved.model.units = units_for(resolved)
            runs.append(Run(run_name(resolved.model.cell, setting, seed), setting, seed, resolved.lock()))
    return runs


def run_name(cell: str, axes: dict[str, Any], seed: int) -> str:
    """A readable name: the cell, then each axis' value, numbers behind their key, then the seed.

    Where that is too long to be typed or read, a digest stands for its end.
    """
    parts = [cell]
    for key, value in axes.items():
        if key != "model.cell":
            text = words(value).replace(" ", "")
            parts.append(text if isinstance(value, str) else f"{key.rsplit('.', 1)[-1]}={text}")
    name, end = "-".join(parts), f"-s{seed}"
    if len((name + end).encode()) > MOST:
        end = f"-{hashlib.sha256(name.encode()).hexdigest()[:12]}{end}"
        name = name.encode()[: MOST - len(end)].decode(errors="ignore")
    return name + end
