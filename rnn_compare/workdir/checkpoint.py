"""Checkpoints of a cohort: named arrays that are saved while training goes on, and restored from the newest whole one.

`workdir/checkpoints/<cohort>/` has `runs.json` (whose they are: the runs' names and hashes) and a folder per
checkpoint, named by its epoch, which orbax writes. orbax never counts a half-written folder; what later happens to a
whole one it would not always notice, so a digest goes with each.
"""

import contextlib
import hashlib
import json
import logging
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import orbax.checkpoint as ocp

from rnn_compare.config import UserError
from rnn_compare.console.terminal import say
from rnn_compare.workdir.files import write_atomically
from rnn_compare.workdir.runs import over

# orbax tells of every step, and of errors that it raises too.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)
# Of a save that failed orbax raises the first error; of others, that nobody waits for, asyncio tells some time later.
logging.getLogger("asyncio").addFilter(lambda record: not re.search("orbax|OCDBT", record.getMessage()))
ITEMS = ("arrays", "about")


def without_echoes(hook: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The hook, silent about files of a failed save that tensorstore is done with after orbax has given it up."""

    def filtered(unraisable: Any) -> Any:
        return None if str(unraisable.exc_value) == "Event loop is closed" else hook(unraisable)

    return filtered


sys.unraisablehook = without_echoes(sys.unraisablehook)


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        epoch: how many epochs were done.
        arrays: name -> array, the first axis of which is that of the runs.
        code: run -> the fingerprint of the code that made it; empty where an older version has taken none.
    """

    epoch: int
    arrays: dict[str, np.ndarray]
    code: dict[str, dict[str, str]]


class Store(Protocol):
    """Where one cohort's checkpoints are, as the cohort sees it."""

    def restore(self) -> Checkpoint | None:
        """What it goes on from; None if nothing was saved."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to save."""

    def wait(self) -> None:
        """Returns when all that was saved is safe."""


def begun(workdir: Path) -> dict[Path, dict[str, str]]:
    """Each folder of checkpoints, and whose they are: the runs' names -> hashes.

    Raises:
        UserError: one does not say.
    """
    found = {}
    for path in sorted(workdir.glob("checkpoints/*/runs.json")):
        try:
            found[path.parent] = runs = json.loads(path.read_text())
            if not runs or not isinstance(runs, dict) or not all(isinstance(value, str) for value in runs.values()):
                raise ValueError("it names no runs")
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} cannot be read ({error}): move its folder away to train its runs from epoch 0"
            ) from None
    return found


def forget_ended(workdir: Path) -> None:
    """Removes the checkpoints of cohorts whose runs have all finished or diverged; a failed one may be tried again."""
    for folder, names in begun(workdir).items():
        if all(over(workdir / name) for name in names):
            for path in folder.iterdir():
                if path.name != "runs.json":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            (folder / "runs.json").unlink()  # last: without it nobody would go on removing after a kill
    for empty in (*workdir.glob("checkpoints/*"), workdir / "checkpoints"):
        with contextlib.suppress(OSError):  # it is not empty, or there never was one
            empty.rmdir()


class Checkpoints:
    """The checkpoints of one cohort on this machine's disk."""

    def __init__(self, workdir: Path, runs: dict[str, str], keep: int):
        """Keeps the newest `keep` of the runs (name -> hash)."""
        self._workdir, self._runs, self._keep = workdir.absolute(), runs, keep
        cohort = hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:16]
        self._folder = self._workdir / "checkpoints" / cohort
        self._manager: Any = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Begins to save; returns while the files are still being written.

        Raises:
            UserError: they, or those of the save before, cannot be written.
        """
        epoch, arrays, code = checkpoint
        about = {"names": list(arrays), "digest": digest(epoch, arrays), "jax": jax.__version__, "code": code}
        try:
            if self._manager is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                write_atomically(self._folder / "runs.json", json.dumps(self._runs))
                options = ocp.CheckpointManagerOptions(max_to_keep=self._keep)
                self._manager = ocp.CheckpointManager(self._folder, options=options, item_names=ITEMS)
            arguments = ocp.args.StandardSave(list(arrays.values())), ocp.args.JsonSave(about)
            if not self._manager.save(epoch, args=ocp.args.Composite(**dict(zip(ITEMS, arguments, strict=True)))):
                raise ValueError(f"there is one of epoch {epoch} or later")
        except Exception as error:
            raise self._unwritten(error) from None

    def wait(self) -> None:
        """Returns when all that was saved is on the disk.

        Raises:
            UserError: it cannot be written.
        """
        try:
            if self._manager is not None:
                self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritten(error) from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        """Ends orbax's threads; who wants to know of their errors has waited for them."""
        if self._manager is not None:
            with contextlib.suppress(Exception):
                self._manager.close()

    def restore(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if nothing was saved. Newer ones that are damaged are set aside.

        The cohort may be a part of one that was saved: of that, when other runs of it have ended.

        Raises:
            UserError: there are checkpoints, and none is whole. Nothing has been changed then.
        """
        theirs = {folder: runs for folder, runs in begun(self._workdir).items() if self._runs.items() <= runs.items()}
        damaged = []
        for folder in sorted(theirs, key=lambda folder: folder != self._folder):  # its own first
            try:
                found = _newest(folder)
            except UserError as error:
                damaged.append(error)
                continue
            if found:
                rows = [list(theirs[folder]).index(name) for name in self._runs]
                return found._replace(arrays={name: array[rows] for name, array in found.arrays.items()})
        if damaged:
            raise damaged[0]
        return None

    def _unwritten(self, error: Exception) -> UserError:
        what = " ".join(str(error).split())[:300]
        return UserError(
            f"a checkpoint in {self._folder} cannot be written ({what}); "
            "those before it are whole: make room and give the same command to go on from there"
        )


def _newest(folder: Path) -> Checkpoint | None:
    epochs = sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True)
    for i, epoch in enumerate(epochs):
        try:
            found = _read(folder, epoch)
        except Exception as error:
            what = " ".join(str(error).split())[:200]
            say(f"the checkpoint {folder / str(epoch)} is damaged ({type(error).__name__}: {what})")
            continue
        for damaged in epochs[:i]:
            aside = folder / f"damaged-{damaged}"
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(damaged)).rename(aside)
        return found
    if epochs:
        raise UserError(
            f"no checkpoint in {folder} can be read, and nothing was changed: "
            "move that folder away to train its runs from epoch 0"
        )
    return None


def _read(folder: Path, epoch: int) -> Checkpoint:
    arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(), about=ocp.args.JsonRestore())
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        read = reader.restore(folder / str(epoch), args=arguments)
    arrays = dict(zip(read.about["names"], map(np.asarray, read.arrays), strict=True))
    if digest(epoch, arrays) != read.about["digest"]:
        raise ValueError("its contents are not what was saved")
    if read.about["jax"] != jax.__version__:
        say(f"{folder / str(epoch)} was made with JAX {read.about['jax']}: with another version the bits may differ")
    return Checkpoint(epoch, arrays, read.about.get("code") or {})


def digest(epoch: int, arrays: dict[str, np.ndarray]) -> str:
    """A hash of all names, types, shapes and values."""
    sha = hashlib.sha256(str(epoch).encode())
    for name, array in arrays.items():
        sha.update(f"{name} {array.dtype} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()
