"""One cohort, from its first epoch or from where it was stopped to complete run folders."""

import contextlib
import io
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.network.model import Model, made_with, make_model
from rnn_compare.statistics.measures import measures
from rnn_compare.study.board import Show
from rnn_compare.study.cohorts import Cohort, title
from rnn_compare.study.machine import package
from rnn_compare.tasks import make_task
from rnn_compare.training import held_out
from rnn_compare.training.fingerprint import edited, fingerprint
from rnn_compare.training.trainer import Chunk, Trainer
from rnn_compare.workdir import runs
from rnn_compare.workdir.checkpoint import Checkpoint, Store, forget_ended
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.runs import DIVERGED, FAILED, FINISHED, as_json
from rnn_compare.workdir.tensorboard import RunLog, log_failure


class History:
    """What a cohort has shown so far.

    Attributes:
        curves: metric -> parts of its curve, each [epochs, R]; `seconds_per_epoch` and `wall_time` among them.
        params: epoch -> the parameters then, name -> [R, ...]; those that histograms are made of.
        looks: epoch -> the loss on the data by which parameters are chosen, [R]; NaN of a run that had diverged.
        chosen: the parameters of the look with the lowest, name -> [R, ...].
    """

    def __init__(self) -> None:
        """Nothing yet."""
        self.curves: dict[str, list[np.ndarray]] = defaultdict(list)
        self.params: dict[int, dict[str, np.ndarray]] = {}
        self.looks: dict[int, np.ndarray] = {}
        self.chosen: dict[str, np.ndarray] = {}

    def curve(self, name: str) -> np.ndarray:
        """A whole curve, [epochs, R]."""
        if len(self.curves[name]) > 1:
            self.curves[name] = [np.concatenate(self.curves[name])]
        return self.curves[name][0]

    def length(self, r: int) -> int:
        """How many epochs of run r count: up to the one at which it diverged, whatever its cohort did after."""
        return self.diverged().get(r, len(self.curve("loss")) - 1) + 1

    def diverged(self) -> dict[int, int]:
        """The run's place in the cohort -> the first epoch whose loss or gradient was not finite, if any was."""
        if not self.curves:
            return {}
        lost = np.isnan(self.curve("loss"))
        return {r: int(np.argmax(lost[:, r])) for r in np.flatnonzero(lost[-1]).tolist()}

    def add(self, chunk: Chunk, seconds: float) -> None:
        """Adds a chunk, whose epochs took so many seconds each, per run."""
        shape = chunk.metrics["loss"].shape
        times = {"seconds_per_epoch": np.full(shape, seconds, np.float32), "wall_time": np.full(shape, time.time())}
        for name, part in (chunk.metrics | times).items():
            self.curves[name].append(part)

    def look(self, epoch: int, losses: np.ndarray, params: dict[str, np.ndarray]) -> None:
        """Adds a look, and chooses its parameters, name -> [R, ...], where no loss [R] was as low before."""
        best = np.fmin.reduce([*self.looks.values(), np.full(losses.shape, np.inf)])
        for name, leaf in params.items():
            lower = (losses < best).reshape(-1, *[1] * (leaf.ndim - 1))
            self.chosen[name] = np.where(lower, leaf, self.chosen.get(name, leaf))
        self.looks[epoch] = losses

    def choice(self, r: int) -> tuple[int, float] | None:
        """The epoch and the loss of the look at which run r's parameters were chosen, if they were."""
        seen = [(float(losses[r]), epoch) for epoch, losses in self.looks.items() if not np.isnan(losses[r])]
        return min(seen)[::-1] if seen else None

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it under names, for a checkpoint; each array's first axis is the runs'."""
        saved = {f"curve {name}": self.curve(name).T for name in list(self.curves)}
        if self.params:
            saved["histograms"] = np.tile(list(self.params), (len(next(iter(saved.values()))), 1))
            for name in next(iter(self.params.values())):
                saved[f"params {name}"] = np.stack([params[name] for params in self.params.values()], axis=1)
        if self.looks:
            saved["looks"] = np.stack(list(self.looks.values()), axis=1)
            saved["looked at"] = np.tile(list(self.looks), (len(saved["looks"]), 1))
            saved |= {f"chosen {name}": array for name, array in self.chosen.items()}
        return saved

    @staticmethod
    def of(arrays: dict[str, np.ndarray]) -> "History":
        """The reverse of `arrays`."""
        history = History()
        params = {name.removeprefix("params "): array for name, array in arrays.items() if name.startswith("params ")}
        for name, array in arrays.items():
            if name.startswith("curve "):
                history.curves[name.removeprefix("curve ")] = [array.T]
        for i, epoch in enumerate(arrays.get("histograms", np.zeros((1, 0), int))[0].tolist()):
            history.params[epoch] = {name: array[:, i] for name, array in params.items()}
        for i, epoch in enumerate(arrays.get("looked at", np.zeros((1, 0), int))[0].tolist()):
            history.looks[epoch] = arrays["looks"][:, i]
        history.chosen = {name.removeprefix("chosen "): a for name, a in arrays.items() if name.startswith("chosen ")}
        return history


def train(cohort: Cohort, workdir: Path, checkpoints: Store, show: Show) -> None:
    """Trains one cohort and leaves each run's folder complete.

    Args:
        cohort: its runs.
        workdir: where their folders belong.
        checkpoints: where it goes on from, and where it is saved.
        show: is called with how far it is.

    Raises:
        UserError, OSError: something cannot be read or written.
        Interrupted: a signal asked to stop; the cohort has been saved.
    """
    start = time.perf_counter()
    say(f"{title(cohort)}: data, initial weights and the program are made (the first time on a machine, 10 to 20 s)")
    trainer = Trainer([(run.config, run.seed) for run in cohort])
    trainer.compile()
    say(f"{title(cohort)}: made in {time.perf_counter() - start:.1f} s; {trainer.parameters} parameters each")
    code = {run.name: fingerprint(run.config) for run in cohort}
    history = go_on(trainer, cohort, checkpoints, code)
    with contextlib.ExitStack() as opened:
        configs = [{"seed": run.seed, **as_json(run.config)} for run in cohort]
        logs = [opened.enter_context(RunLog(workdir / run.name, c)) for run, c in zip(cohort, configs, strict=True)]
        follow(trainer, cohort, workdir, show, checkpoints, history, logs, code)


def follow(
    trainer: Trainer,
    cohort: Cohort,
    workdir: Path,
    show: Show,
    checkpoints: Store,
    history: History,
    logs: list[RunLog],
    code: dict[str, dict[str, str]],
) -> None:
    """Trains to the end, or until a signal asks to stop, and logs and saves on the way."""
    config = cohort[0].config
    epochs, histogram_every, choose = config.train.epochs, config.log.histogram_every, config.train.choose
    model, task = make_model(config), make_task(config)
    if trainer.epoch:
        write_logs(logs, 0, history)
    diverged, saved = history.diverged(), trainer.epoch
    show(saved)
    clock = saved_at = time.perf_counter()
    for chunk in trainer.fit(histogram_every, choose or epochs) if len(diverged) < len(cohort) else ():
        done = trainer.epoch
        history.add(chunk, (time.perf_counter() - clock) / (done - chunk.start) / len(cohort))
        clock = time.perf_counter()
        if done % histogram_every == 0 or done == epochs:
            history.params[done] = flat(chunk.params)
        if choose and (done % choose == 0 or done == epochs):
            history.look(done, losses_to_choose_by(model, cohort, chunk.params, history.diverged()), flat(chunk.params))
        write_logs(logs, chunk.start, history)
        for r in (now := history.diverged()).keys() - diverged.keys():
            say(f"{cohort[r].name} diverged: its loss or gradient is not finite at epoch {now[r]}")
        diverged = now
        show(done, chunk.metrics["loss"][-1])
        every, stop = config.checkpoint, interrupt.asked()
        if clock - saved_at >= every.seconds or done - saved >= (every.epochs or epochs) or stop:
            checkpoints.save(Checkpoint(done, trainer.snapshot() | history.arrays(), code))
            saved, saved_at = done, clock
        if stop:
            checkpoints.wait()
            say(f"{title(cohort)} stopped, and saved at epoch {done}")
            interrupt.check()
        if len(diverged) == len(cohort):
            break
    checkpoints.wait()
    curves = {name: history.curve(name) for name in history.curves if name != "wall_time"}
    params = trainer.params
    for r, (run, log) in enumerate(zip(cohort, logs, strict=True)):
        length = history.length(r)
        own = {name: curve[:length, r] for name, curve in curves.items()}
        choice = history.choice(r)
        kept = unflatten_dict(history.chosen, sep="/") if choice else params
        own_params = jax.tree.map(lambda leaf, r=r: leaf[r], kept)
        unseen = held_out.evaluate(model, run.config, run.seed, own_params)
        measured = measures(own["loss"]) | {"held_out_loss": unseen.losses["loss"]}
        end = history.curve("wall_time")[length - 1, r]
        log.end(length, end, run.axes, measured, diverged.get(r))
        files = {"curves": own, "params": flat(own_params), "predictions": unseen.stretch}
        for name, arrays in files.items():
            write_atomically(workdir / run.name / f"{name}.npz", as_npz(arrays))
        ended = {"status": DIVERGED if r in diverged else FINISHED, "diverged_at": diverged.get(r)}
        about = {"parameters": trainer.parameters, "held_out": unseen.losses, "guess": unseen.guess}
        said = {task.worth_is: unseen.worth, "naive": unseen.naive, "naive_errors": unseen.naive_errors}
        about |= {name: what for name, what in said.items() if what}
        about |= {"chosen": dict(zip(("epoch", "loss"), choice, strict=True))} if choice else {}
        made = {"cell": made_with(run.config.model), "code": code[run.name] | package()}
        runs.write(run, workdir, **ended, **about, **made)
    forget_ended(workdir)


def losses_to_choose_by(model: Model, cohort: Cohort, params: Any, diverged: dict[int, int]) -> np.ndarray:
    """What each run that has not diverged loses on the data by which its parameters are chosen, [R]."""
    losses = np.full(len(cohort), np.nan)
    for r, run in enumerate(cohort):
        if r not in diverged:
            own = jax.tree.map(lambda leaf, r=r: leaf[r], params)
            losses[r] = held_out.choosing_loss(model, run.config, run.seed, own)
    return losses


def attempt(cohort: Cohort, workdir: Path, checkpoints: Store, show: Show) -> bool:
    """As `train`; what goes wrong is said and kept in its runs' folders, and other cohorts can go on.

    Returns:
        Whether nothing went wrong.

    Raises:
        UserError, OSError: something cannot be read or written, which would stop the other cohorts too.
    """
    try:
        train(cohort, workdir, checkpoints, show)
        return True
    except (UserError, OSError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        say(f"{title(cohort)} failed: {what.splitlines()[0]} (see its run.json)")
        trace = traceback.format_exc()
        for run in cohort:
            if not runs.over(workdir / run.name):  # it may have come to its end before another one failed
                config = {"seed": run.seed, **as_json(run.config)}
                log_failure(workdir / run.name, run.axes, config, what)
                runs.write(run, workdir, status=FAILED, diverged_at=None, parameters=None, error=what, traceback=trace)
        return False


def go_on(trainer: Trainer, cohort: Cohort, checkpoints: Store, code: dict[str, dict[str, str]]) -> History:
    """Puts a cohort where it was stopped, if it was, and returns what it has shown until now.

    Raises:
        UserError: the checkpoint is damaged, or of other code than this.
    """
    saved = checkpoints.restore()
    if saved is None:
        return History()
    for run in cohort:
        if what := edited(saved.code.get(run.name, {}), code[run.name]):
            raise UserError(
                f"the checkpoint of {title(cohort)} was made before {what} of {run.name} was edited: "
                "choose another --workdir, or move checkpoints/ there away to train from epoch 0"
            )
    arrays = dict(saved.arrays)
    try:
        trainer.restore(saved.epoch, {name: arrays.pop(name) for name in trainer.snapshot()})
    except (KeyError, ValueError):
        raise UserError(
            f"the checkpoint of {title(cohort)} is of another version of rnn_compare, Optax or Flax: "
            "go on with that one, or move checkpoints/ in --workdir away to train from epoch 0"
        ) from None
    say(f"{title(cohort)} goes on from epoch {saved.epoch}")
    return History.of(arrays)


def write_logs(logs: list[RunLog], start: int, history: History) -> None:
    """Writes to TensorBoard what was seen from epoch `start` on."""
    times = history.curve("wall_time")
    for r, log in enumerate(logs):
        length = history.length(r)
        for name in history.curves:
            if name != "wall_time":
                log.scalars(name, start, history.curve(name)[start:length, r], times[start:length, r])
        for epoch, losses in history.looks.items():
            if start < epoch <= length:
                log.scalars("choosing_loss", epoch, losses[r : r + 1], times[epoch - 1 : epoch, r])
        for epoch, params in history.params.items():
            if start < epoch <= length:
                log.histograms(epoch, times[epoch - 1, r], {name: array[r] for name, array in params.items()})
        log.flush()


def flat(params: Any) -> dict[str, np.ndarray]:
    """Parameters by name, "recurrent/kernel" and so on."""
    return flatten_dict(params, sep="/")


def as_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """The content of an .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()
