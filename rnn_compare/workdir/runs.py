"""A run: one setting, one seed, one name, one folder.

The folder holds `run.json` (what it is, how it ended, its held-out losses), `curves.npz`, `params.npz`,
`predictions.npz` and its TensorBoard events. A run has ended once `run.json` is there.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rnn_compare.config import KEYS, PAPER, UserError, leaves
from rnn_compare.config.claims import upgraded
from rnn_compare.workdir.files import write_atomically

FINISHED, DIVERGED, FAILED = "finished", "diverged", "failed"
FILES = "curves.npz", "params.npz", "predictions.npz"  # of a run that finished or diverged, beside its run.json
LONGEST_NAME = 255  # bytes in the name of a file or folder, on nearly all file systems
DEFAULTS = json.loads(json.dumps({key: declared.default for key, declared in KEYS.items()}))
# What Keras' layers start with, and what every cell did before it started as its paper says.
KERAS = {
    "model.kernel_init": "glorot_uniform", "model.recurrent_init": "orthogonal", "model.bias_init": "unit_forget",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One setting and one seed.

    Attributes:
        name: the name of its folder and of its curves in TensorBoard.
        axes: dotted key -> value, for the keys that the study varies.
        seed: what its data and its weights are drawn from.
        config: the study's config at this setting, without `seeds` and `sweep`.
    """

    name: str
    axes: dict[str, Any]
    seed: int
    config: ConfigDict


def as_json(config: ConfigDict) -> dict[str, Any]:
    """The config as flat JSON values, dotted key -> value."""
    return json.loads(json.dumps(dict(leaves(config))))


def complete(config: dict[str, Any], axes: Iterable[str] = ()) -> dict[str, Any]:
    """A config as JSON, perhaps of an earlier version: keys that it did not have yet were what their defaults are.

    Before a cell could start as its paper says, all that it could be started as the papers of the cells of then say;
    what an axis tried was meant.
    """
    if "model.dt" not in config:  # which came with the papers
        config = config | {key: PAPER for key, was in KERAS.items() if config.get(key) == was and key not in axes}
    return DEFAULTS | upgraded(config)


def different(old: dict[str, Any], new: dict[str, Any], axes: Iterable[str] = ()) -> list[str]:
    """The keys that make a study's results by one config, as JSON, no results of the other; a run had `axes`."""
    of_version_0_1 = "claims.faster" in old  # which knew the post's claims alone, and stated none
    old, new = complete(old, axes), complete(new)
    if of_version_0_1:
        old["claims.list"] = new["claims.list"]
    return [key for key in old | new if old.get(key) != new.get(key) and not (key in KEYS and KEYS[key].free)]


def different_run(old: dict[str, Any], new: dict[str, Any], axes: Iterable[str] = ()) -> list[str]:
    """The keys that make a run by one config, as JSON, no run of the other: not those by which runs are judged."""
    return [key for key in different(old, new, axes) if not key.startswith("claims.")]


def identity(run: Run) -> str:
    """A hash of all that its results depend on."""
    return hash_of(as_json(run.config), run.seed)


def hash_of(config: dict[str, Any], seed: int) -> str:
    """`identity` of a run by its config as JSON, without `seeds` and `sweep`."""
    config = {key: value for key, value in config.items() if not key.startswith("claims.")}
    matters = {key: value for key, value in config.items() if not (key in KEYS and KEYS[key].free)}
    return hashlib.sha256(json.dumps([matters, seed], sort_keys=True).encode()).hexdigest()[:12]


def adopted(runs: list[Run], workdir: Path, begun: Iterable[dict[str, str]]) -> list[Run]:
    """The runs under the names that the workdir has them by already.

    A run is its config and its seed. What a study calls it depends on the study's axes, which may have changed.

    Args:
        runs: as the study would name them.
        workdir: where runs may have ended under other names.
        begun: name -> hash of those that have checkpoints there.
    """
    known = {hash: name for hashes in begun for name, hash in hashes.items()}
    for path in sorted(workdir.glob("*/run.json")):
        try:
            about = read(path.parent)
            config = {key: value for key, value in complete(about["config"], about["axes"]).items() if key != "seeds"}
            known[hash_of(config, about["seed"])] = path.parent.name
        except (OSError, ValueError, TypeError, KeyError):
            continue  # whoever needs it will complain
    return [
        run if (workdir / run.name).exists() else dataclasses.replace(run, name=known.get(identity(run), run.name))
        for run in runs
    ]


def write(run: Run, workdir: Path, **ended: Any) -> None:
    """Writes `run.json`, which makes a run count as ended; `hash` ties its name to its config and seed."""
    result = {"name": run.name, "hash": identity(run), "seed": run.seed, "axes": run.axes, **ended}
    (workdir / run.name).mkdir(parents=True, exist_ok=True)
    write_atomically(
        workdir / run.name / "run.json", json.dumps(result | {"config": as_json(run.config)}, indent=2) + "\n"
    )


def read(folder: Path) -> dict[str, Any]:
    """What `run.json` says of a run that has ended."""
    return json.loads((folder / "run.json").read_text())


def ended(run: Run, workdir: Path, retry_failed: bool) -> bool:
    """Whether a run need not be trained (again).

    Raises:
        UserError: its folder holds a run of another config, or is a link that leads elsewhere.
    """
    if (workdir / run.name).is_symlink():
        raise UserError(f"--workdir={workdir}: {run.name} is a link: a run's files stay in the workdir, so remove it")
    try:
        result = read(workdir / run.name)
        old, axes, status = dict(result["config"]), tuple(result["axes"]), result["status"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--workdir={workdir}: {run.name}/run.json cannot be read ({error})") from None
    if keys := different_run(old, as_json(run.config), axes):
        raise UserError(f"--workdir={workdir}: {run.name} was run with another {keys[0]}: choose another workdir")
    return not (retry_failed and status == FAILED)


def over(folder: Path) -> bool:
    """Whether the run of this folder is known to have finished or diverged; one that failed may be tried again."""
    try:
        return read(folder)["status"] in (FINISHED, DIVERGED)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def tally(runs: Iterable[Run], workdir: Path) -> str:
    """How many of the runs have ended in which way, in words."""
    statuses = [read(workdir / run.name)["status"] for run in runs if (workdir / run.name / "run.json").exists()]
    return ", ".join(f"{statuses.count(status)} {status}" for status in (FINISHED, DIVERGED, FAILED))
