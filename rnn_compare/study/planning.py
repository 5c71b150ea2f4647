"""What a study is going to do: the cohorts that are left to train, each small enough for where it will be trained."""

from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rnn_compare.cells import CELLS
from rnn_compare.cells.initializers import BIASES
from rnn_compare.config import KEYS, UserError, leaves
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.network.model import inputs_of_layers, made_with, make_cell, make_model
from rnn_compare.study.cohorts import Cohort, describe, group, split
from rnn_compare.study.launch import Call
from rnn_compare.study.machine import cores, device_memory
from rnn_compare.tasks import make_task
from rnn_compare.training.fingerprint import edited, fingerprint
from rnn_compare.training.program import bytes_of, memory_needed, shapes
from rnn_compare.training.start import data_program
from rnn_compare.workdir.checkpoint import begun
from rnn_compare.workdir.runs import FILES, Run, ended, over, read

# The keys by which the memory goes that training a run takes, and that making its data takes.
TRAINING = "data.length", "data.sequences", "model.units", "model.layers"
DATA = "data.lookahead", "data.length", "data.sequences"


def check_models(runs: list[Run]) -> None:
    """Complains about a network that cannot be made; nothing is compiled.

    Raises:
        UserError: a backend cannot serve its cell, or a bias initializer its cell's gates.
    """
    for model in {(m.cell, m.bias_init): m for m in (run.config.model for run in runs)}.values():
        try:
            BIASES[made_with(model)["bias_init"]](jax.random.key(0), CELLS[model.cell](units=1))
        except ValueError as error:
            what = f"config.model.bias_init={model.bias_init} cannot serve config.model.cell={model.cell}"
            raise UserError(f"{what}: {error}") from None
    for config in (cohort[0].config for cohort in group(runs)):
        try:
            cell = make_cell(config.model)
            for size in inputs_of_layers(make_task(config).features, cell.units, config.model.layers):
                cell.parameters(size)
        except ValueError as error:
            raise UserError(f"config.model.cell={config.model.cell} cannot be made: {error}") from None
        try:
            make_model(config)
        except ValueError as error:
            raise UserError(f"config.train.backend: {error}") from None


def plan(runs: list[Run], workdir: Path, retry_failed: bool, call: Call) -> list[Cohort]:
    """The cohorts that are still to be trained; says what they are.

    Args:
        runs: those of the study.
        workdir: where they may have ended or begun.
        retry_failed: whether those that failed are left to train.
        call: calls a function where cohorts are trained, whose devices, memory and code decide.

    Raises:
        UserError: the workdir holds runs of another config, or one that cannot be read; or a run is too large.
    """
    left = [run for run in runs if not ended(run, workdir, retry_failed)]
    done = [run for run in runs if over(workdir / run.name)]
    call(refuse_edited, [(run, read(workdir / run.name).get("code", {})) for run in done], workdir)
    say(f"{workdir}: {len(runs)} runs, {len(runs) - len(left)} of them ended earlier")
    say(*lost_files(done, workdir))
    if failed := len(runs) - len(done) - len(left):
        say(f"{failed} of those failed: --retry_failed tries them again")
    return call(cut, group(left, list(begun(workdir).values())))


def cut(cohorts: list[Cohort]) -> list[Cohort]:
    """Cuts cohorts so that each fits into the memory here; says what they are.

    Raises:
        UserError: a run is too large.
    """
    device = jax.devices()[0]
    say(f"device: {device.platform} ({device.device_kind}), {cores()} CPU cores, JAX {jax.__version__}")
    todo = []
    for cohort in cohorts:
        interrupt.check()
        config = cohort[0].config
        refuse_at_once(config)
        for part in split(cohort, int(config.train.memory * 1e9) or device_memory() // 2):
            refuse_beyond(device_memory(), memory_needed(config, len(part)), config, TRAINING)
            say(*describe(part))
            todo.append(part)
    return todo


def refuse_edited(made: list[tuple[Run, dict[str, str]]], workdir: Path) -> None:
    """Complains about runs that were made by other code, of which each one's fingerprint is given, than there is now.

    Raises:
        UserError: names the first of them, and what was edited.
    """
    for run, code in made:
        if what := edited(code, fingerprint(run.config)):
            raise UserError(
                f"--workdir={workdir}: {run.name} was trained before {what} was edited, so runs of now do not belong "
                "beside it: choose another workdir, or move its folder away to train it again"
            )


def lost_files(runs: list[Run], workdir: Path) -> Iterator[str]:
    """What is missing of a workdir, and of runs there that have finished or diverged, in lines for a person."""
    if runs and not (workdir / "config.json").exists():
        yield f"{workdir} has runs but no config.json: it is written anew from this config"
    for name in FILES:
        if lost := [run.name for run in runs if not (workdir / run.name / name).exists()]:
            more = f" and {len(lost) - 3} others have" if len(lost) > 3 else " has" if len(lost) == 1 else " have"
            yield f"{', '.join(lost[:3])}{more} no {name}: move such a folder away, and its run is trained again"


def refuse_at_once(config: ConfigDict) -> None:
    """Complains about sizes that no machine like this holds, before anything is compiled or drawn.

    Counted is what must be there at the least: in training the state, the data, the hidden states and their gradient;
    in making the data what its task says. Then the program that makes the data is asked, which is compiled in
    any case.

    Raises:
        UserError: in one sentence.
    """
    task, there = make_task(config), device_memory()
    refuse_beyond(there, task.least(), config, DATA)
    arrays = jax.tree.leaves(shapes(config, 1))
    hidden = 4 * task.steps * config.data.sequences * config.model.units * config.model.layers
    refuse_beyond(there, sum(array.size * array.dtype.itemsize for array in arrays) + 2 * hidden, config, TRAINING)
    make = data_program(task)
    refuse_beyond(there, bytes_of(make), config, DATA)


def refuse_beyond(there: int, needed: int, config: ConfigDict, keys: tuple[str, ...]) -> None:
    """Complains if more bytes are needed than there are, and names the keys that decide.

    Raises:
        UserError: in one sentence.
    """
    if needed > there:
        values = {key: value for key, value in leaves(config) if key in keys}
        worst = sorted(values, key=lambda key: values[key] / KEYS[key].default, reverse=True)
        smaller = [key for key in worst if values[key] > 1] or worst
        first, *others = (f"config.{key}={values[key]}" for key in smaller)
        named = f"{first} with {' and '.join(others)}" if others else first
        raise UserError(
            f"{named} needs {needed / 1e9:.3g} GB of memory, and there are {there / 1e9:.3g}: a smaller number would do"
        )
