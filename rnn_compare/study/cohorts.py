"""Cohorts: the runs that share shapes, which are stacked and trained by one compiled program."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import jax

from rnn_compare.config import KEYS, leaves
from rnn_compare.config.checks import words
from rnn_compare.network.model import made_with, make_model
from rnn_compare.study.board import Show
from rnn_compare.study.machine import most_open_files
from rnn_compare.tasks import make_task
from rnn_compare.training.program import memory_needed
from rnn_compare.workdir.checkpoint import Checkpoints, Store
from rnn_compare.workdir.runs import Run, identity

Cohort = list[Run]
Train = Callable[[Cohort, Path, Store, Show], bool]  # leaves its runs' folders complete, and says if that went well


def title(cohort: Cohort) -> str:
    """A short name for a person."""
    return cohort[0].name if len(cohort) == 1 else f"{cohort[0].name} … {cohort[-1].name}"


def checkpoints(cohort: Cohort, workdir: Path) -> Checkpoints:
    """Where its checkpoints are."""
    return Checkpoints(workdir, {run.name: identity(run) for run in cohort}, cohort[0].config.checkpoint.keep)


def group(runs: list[Run], begun: Iterable[dict[str, str]] = ()) -> list[Cohort]:
    """The runs grouped by all that a compiled program depends on, in order of first appearance.

    Runs that were `begun` together, name -> hash, stay together and apart from others: they go on from an epoch of
    their own.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        shape = tuple((key, value) for key, value in leaves(run.config) if not KEYS[key].stacks)
        named = ((i, hashes[run.name]) for i, hashes in enumerate(begun) if run.name in hashes)
        before = next((i for i, hash in named if hash == identity(run)), None)
        groups.setdefault((before, shape), []).append(run)
    return list(groups.values())


def split(cohort: Cohort, budget: int) -> list[Cohort]:
    """Cuts a cohort into parts, each of which gives every local device as many runs and fits into its memory.

    Args:
        cohort: the runs.
        budget: bytes on each device, which are compared with what the compiled program says it needs.

    Returns:
        Parts of nearly one size; runs that are too few for all devices are a last one.
    """
    config, devices = cohort[0].config, len(jax.local_devices())
    rest = len(cohort) % devices
    if rest and len(cohort) > devices:
        return [*split(cohort[:-rest], budget), cohort[-rest:]]
    most = min(len(cohort), max(most_open_files() // devices, 1) * devices)
    if (needed := memory_needed(config, most)) > budget:
        most = max(budget * max(most // devices, 1) // needed, 1) * devices  # memory goes with the runs
        while most > devices and memory_needed(config, most) > budget:
            most -= devices
    parts, each = -(-len(cohort) // most), max(1, len(cohort) // devices)
    cuts = [i * each // parts * devices for i in range(parts)] + [len(cohort)]
    return [cohort[start:end] for start, end in pairwise(cuts)]


def describe(cohort: Cohort) -> Iterator[str]:
    """What a cohort is going to do, in lines for a person."""
    config, R = cohort[0].config, len(cohort)
    model, task, B, H = make_model(config), make_task(config), config.data.sequences, config.model.units
    T, outputs = task.steps, sum(count for _, count in task.heads)
    memory = memory_needed(config, R) / 1e9
    recurrent = config.model.cell if model.layers == 1 else f"{model.layers} layers {config.model.cell}"
    yield f"{', '.join(run.name for run in cohort[:6])}{' …' if R > 6 else ''}"
    yield (
        f"  {R} stacked run{'s'[: R > 1]} × {config.train.epochs} epochs; inputs [{T}, {B}, {task.features}] → "
        f"{recurrent} [{T}, {B}, {H}] → {outputs} {task.unit}{'s'[: outputs > 1]}; backend {model.backend}, "
        f"{memory:.2g} GB"
    )
    if about := task.about():
        yield f"  {about}"
    made = [made_with(run.config.model) for run in cohort]
    yield "  " + ", ".join(f"{key} {' or '.join(dict.fromkeys(words(of[key]) for of in made))}" for key in made[0])
