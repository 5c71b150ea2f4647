"""Your own data: a table with a row for each step, of one long series or of many.

What is learnt is to tell columns some steps ahead. A window of `data.length` rows is a sequence; `data.sequences` of
them are drawn for each update from the first part of every series, and as many, evenly spread, are judged in the rest.

Axis sizes: N rows, F inputs, O targets, T time steps, B sequences, W windows.
"""

import functools
import hashlib
import itertools
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from ml_collections import ConfigDict

from rnn_compare.tasks.task import KNOWN_SQUARED_ERROR, Batch, Task, size

MOST = 1e18  # whose square single precision holds
MOST_TWICE = 0.01  # of the rows may have a time that is there before, as where clocks are set back
READERS = ".csv, .csv.gz, .parquet, .npy or .npz"


class Table(Task):
    """Windows of a file's rows, each scaled by what the part that is learnt from says of its column.

    Attributes:
        inputs: [N, F], scaled; what is missing is the last that was known, or the mean.
        targets: [N, O], scaled; what is missing is not a number, and not counted.
        starts: rows at which windows may begin, [W].
        judging: rows at which the windows begin that are judged, [B].
        columns: names of the inputs, of the targets, and of those that nobody asked for and are no numbers.
        forecasts: what naive forecasts lose on what is judged, by their names.
        digest: of the file.
        whole: whether batches are what is judged.
    """

    keys: ClassVar[tuple[str, ...]] = (
        *Task.keys,
        *(f"task.{name}" for name in ("path", "inputs", "targets", "horizon", "time", "series", "share", "season")),
    )
    loss: ClassVar[str] = KNOWN_SQUARED_ERROR
    unit: ClassVar[str] = "value ahead"

    inputs: jax.Array
    targets: jax.Array
    starts: jax.Array
    judging: jax.Array
    length: int = size()
    sequences: int = size()
    horizon: int = size()
    forecasts: tuple[tuple[str, float], ...] = size()
    columns: tuple[tuple[str, ...], ...] = size()
    digest: str = size()
    whole: bool = struct.field(pytree_node=False, default=False)

    @classmethod
    def of(cls, config: ConfigDict) -> Self:
        """See `Task.of`."""
        task, data = config.task, config.data
        if not task.path:
            raise ValueError(f"config.task.path is empty: give the file, with --config.task.path=FILE ({READERS})")
        path = Path(task.path).expanduser()
        try:
            stamp = path.stat()
        except OSError as error:
            raise ValueError(f"config.task.path={task.path}: it cannot be read ({error.strerror})") from None
        asked = Asked(tuple(task.inputs), tuple(task.targets), task.time, task.series)
        sizes = data.length, data.sequences, task.horizon, task.share, task.season
        try:
            return cls(**_fields(path, (stamp.st_mtime_ns, stamp.st_size), asked, sizes))
        except ValueError as error:
            raise ValueError(str(error).replace("FILE", f"config.task.path={task.path}")) from None

    @property
    def heads(self) -> tuple[tuple[str, int], ...]:  # type: ignore[override]
        """One, of all targets."""
        return (("head", len(self.columns[1])),)

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """What is told, and how far ahead."""
        return tuple(f"{name}, {self.horizon} step{'s'[: self.horizon > 1]} ahead" for name in self.columns[1])

    @property
    def first_input(self) -> str:  # type: ignore[override]
        """The first column."""
        return self.columns[0][0]

    @property
    def features(self) -> int:
        """The columns that go in."""
        return len(self.columns[0])

    @property
    def steps(self) -> int:
        """The length."""
        return self.length

    def batch(self, key: jax.Array) -> Batch:
        """Windows drawn at random; those that are judged are always the same."""
        at = self.judging if self.whole else jax.random.choice(key, self.starts, (self.sequences,))
        rows = at + jnp.arange(self.length)[:, None]
        return Batch(self.inputs[rows], self.targets[rows + self.horizon])

    def judged(self) -> "Table":
        """The same with the windows of the part that is not learnt from."""
        return self.replace(whole=True)

    def about(self) -> str:
        """The columns, which may have been chosen by their being numbers, and how much there is."""
        left = f"; not used, as no numbers: {', '.join(self.columns[2])}" if self.columns[2] else ""
        windows = f"{len(self.starts)} windows to learn from"
        return f"{', '.join(self.columns[0])} → {'; '.join(self.names)}; {windows}{left}"

    def naive(self) -> dict[str, float]:
        """The last value told again, and that a season before."""
        return dict(self.forecasts)


@functools.lru_cache(16)
def _fields(path: Path, stamp: tuple[int, int], asked: "Asked", sizes: tuple[Any, ...]) -> dict[str, Any]:
    return windows(read(path, stamp, asked), *sizes)


class Asked(NamedTuple):
    """Which columns are asked for; none means all that are left, and targets are the inputs if none are named."""

    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    time: str
    series: str


class Rows(NamedTuple):
    """A file as it was read.

    Attributes:
        inputs: [N, F], what is missing not a number.
        targets: [N, O] likewise.
        series: the rows [start, end) of each series.
        pieces: the same, cut where steps are missing.
        columns: as in `Table`.
        digest: of the file.
    """

    inputs: np.ndarray
    targets: np.ndarray
    series: tuple[tuple[int, int], ...]
    pieces: tuple[tuple[int, int], ...]
    columns: tuple[tuple[str, ...], ...]
    digest: str


@functools.lru_cache(8)
def read(path: Path, stamp: tuple[int, int], asked: Asked) -> Rows:
    """The columns that are asked for, in the order of time within each series.

    Raises:
        ValueError: in one sentence, with the line or the column.
    """
    frame = frame_of(path)
    asked = asked._replace(series=asked.series or ("series" if frame.attrs.get("series") else ""))
    of_time, of_series = [asked.time] * bool(asked.time), [asked.series] * bool(asked.series)
    for key, names in (("inputs", asked.inputs), ("targets", asked.targets), ("time", of_time), ("series", of_series)):
        if missing := [name for name in names if name not in frame.columns]:
            has = ", ".join(map(str, frame.columns))
            hint = (
                "; columns must have commas between them" if len(frame.columns) == 1 and set(has) & set(";\t|") else ""
            )
            raise ValueError(
                f"config.task.{key} names the column {missing[0]!r}, which FILE does not have: it has {has}{hint}"
            )
        if key in ("inputs", "targets") and (taken := {*of_time, *of_series} & {*names}):
            raise ValueError(
                f"config.task.{key} names the column {taken.pop()!r}, which is that of the time or the series"
            )
    if asked.time:
        frame[asked.time] = times(frame, asked.time)
    order = [*of_series, *of_time]
    frame = frame.sort_values(order, kind="stable") if order else frame
    if of_time and (twice := frame.duplicated(order)).mean() > MOST_TWICE:
        line = int(frame.index[np.flatnonzero(twice)[0]]) + 2
        series = "" if of_series else ", or name the column that tells series apart, config.task.series"
        raise ValueError(
            f"config.task.time={asked.time}: line {line} of FILE has a time that is there before: leave one out{series}"
        )
    left = [name for name in frame.columns if name not in order]
    plain = tuple(name for name in left if frame[name].dtype.kind in "fiub")
    inputs = asked.inputs or plain
    if not inputs:
        raise ValueError("FILE: it has no column of numbers")
    targets = asked.targets or inputs
    given, told = (np.stack([numbers(frame, name) for name in names], axis=1) for names in (inputs, targets))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    unused = () if asked.inputs else tuple(name for name in left if name not in (*plain, *targets))
    return Rows(given, told, *pieces(frame, asked), (tuple(inputs), tuple(targets), unused), digest)


def frame_of(path: Path) -> Any:
    """A file as a data frame.

    Raises:
        ValueError: it cannot be one.
    """
    import pandas as pd

    name = path.name.lower()
    try:
        if name.endswith((".csv", ".csv.gz")):
            return pd.read_csv(path)
        if name.endswith(".parquet"):
            return pd.read_parquet(path)
        if name.endswith((".npy", ".npz")):
            return arrays_of(path, pd)
    except ImportError:
        raise ValueError("FILE: Parquet needs `pip install 'rnn_compare[parquet]'`") from None
    except UnicodeError:
        raise ValueError("FILE: it is no text in UTF-8") from None
    except Exception as error:  # what a damaged file makes a reader raise has no end
        why = " ".join(str(error).split()) if name.endswith((".csv", ".csv.gz")) else "it holds no arrays of numbers"
        raise ValueError(f"FILE: it cannot be read ({why})") from None
    raise ValueError(f"FILE: it must end in {READERS}")


def arrays_of(path: Path, pd: Any) -> Any:
    """An array [N], [N, columns] or [series, steps, columns] of numbers; of an .npz file the columns are named."""
    loaded = np.load(path, allow_pickle=False)
    if not isinstance(loaded, np.ndarray):
        return pd.DataFrame({name: loaded[name] for name in loaded.files})
    if loaded.dtype.kind not in "fiub" or not 1 <= loaded.ndim <= 3 or not loaded.size:
        raise ValueError
    table = loaded.reshape(-1, loaded.shape[-1] if loaded.ndim > 1 else 1)
    frame = pd.DataFrame(table, columns=[str(i) for i in range(table.shape[1])])
    if loaded.ndim == 3:
        frame["series"] = np.repeat(np.arange(len(loaded)), loaded.shape[1])
        frame.attrs["series"] = True
    return frame


def times(frame: Any, name: str) -> Any:
    """A column of time stamps, or of numbers.

    Raises:
        ValueError: a row of it is none; names it.
    """
    import pandas as pd

    if frame[name].dtype.kind in "fiu":
        return frame[name]
    found = pd.to_datetime(frame[name], errors="coerce", utc=True, format="ISO8601")
    if found.isna().any():
        row = int(np.flatnonzero(found.isna())[0])
        raise ValueError(
            f"config.task.time={name}: line {row + 2} of FILE has {frame[name].iloc[row]!r}, which is no time "
            "such as 2026-11-26 09:30:00"
        )
    return found.astype("int64")


def numbers(frame: Any, name: str) -> np.ndarray:
    """A column of numbers; what is empty is not a number.

    Raises:
        ValueError: something in it is no number; names its line.
    """
    import pandas as pd

    found = pd.to_numeric(frame[name], errors="coerce")
    if (wrong := found.isna() & frame[name].notna()).any():
        row = int(frame.index[np.flatnonzero(wrong)[0]])
        raise ValueError(
            f"FILE: line {row + 2} has {frame[name].loc[row]!r} in the column {name!r}, which is no number"
        )
    values = found.to_numpy(np.float64, na_value=np.nan)
    if (np.abs(values) > MOST).any():
        raise ValueError(f"FILE: the column {name!r} has a number beyond {MOST:g}")
    return values


def pieces(frame: Any, asked: Asked) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Where series end; and where steps are missing as well: more time than one and a half of the usual step."""
    cut = np.zeros(max(0, len(frame) - 1), bool)
    if asked.series:
        names = frame[asked.series].to_numpy()
        cut = names[1:] != names[:-1]
    series = between(cut)
    if asked.time and not cut.all():
        passed = np.diff(frame[asked.time].to_numpy()).astype(np.float64)
        cut = cut | (passed > 1.5 * np.median(passed[~cut]))
    return series, between(cut)


def between(cut: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The rows [start, end) that lie between cuts behind rows."""
    ends = [0, *(np.flatnonzero(cut) + 1).tolist(), len(cut) + 1]
    return tuple(itertools.pairwise(ends))


def windows(rows: Rows, length: int, sequences: int, horizon: int, share: float, season: int) -> dict[str, Any]:
    """The fields of a `Table`.

    The first `share` of each series, in time, is learnt from, the rest judged; the last target that is learnt lies
    before the first input that is judged. A piece that is shorter than a window is filled up behind with what does not
    count.

    Raises:
        ValueError: there is too little of it.
    """
    needed = length + horizon
    cut = np.concatenate(
        [start + np.arange(end - start) < round(share * (end - start)) + start for start, end in rows.series]
    )
    if not cut.any() or cut.all():
        raise ValueError(
            f"config.task.share is {share}: it leaves nothing to learn from, or to judge, of {len(cut)} rows"
        )
    longest = max(int(cut[start:end].sum()) for start, end in rows.pieces)
    if needed > longest:
        raise ValueError(
            f"config.data.length is {length}: with config.task.horizon={horizon} it must be at most {longest - horizon}"
            f", as the longest stretch without a gap that is learnt from has {longest} rows"
        )
    if season >= needed:
        raise ValueError(
            f"config.task.season is {season}: it must be smaller than config.data.length + config.task.horizon, "
            f"{needed}"
        )
    for key, array, names in (("inputs", rows.inputs, rows.columns[0]), ("targets", rows.targets, rows.columns[1])):
        for column, name in zip(array[cut].T, names, strict=True):
            different = len(np.unique(column[~np.isnan(column)])[:2])
            if different < (2 if key == "targets" else 1):
                raise ValueError(
                    f"FILE: the column {name!r} {'never changes' if different else 'is empty'} in the part that is "
                    f"learnt from: leave it out of config.task.{key}"
                )
    given, told = (scale(array, cut) for array in (rows.inputs, rows.targets))
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    begins: dict[bool, list[np.ndarray]] = {True: [], False: []}  # of what is learnt from, and of what is judged
    at = 0
    for start, end in rows.pieces:
        middle = start + int(cut[start:end].sum())
        for first, last in ((start, middle), (middle, end)):
            count = last - first
            if count <= horizon:
                continue
            more = max(0, needed - count)
            inputs.append(np.pad(filled(given[first:last]), ((0, more), (0, 0))))
            targets.append(np.pad(told[first:last], ((0, more), (0, 0)), constant_values=np.nan))
            begins[first < middle].append(at + np.arange(count + more - needed + 1))
            at += count + more
    for learnt, what in ((True, "learn from"), (False, "judge")):
        if not begins[learnt]:
            raise ValueError(
                f"FILE: its {len(cut)} rows leave no window to {what}, with config.task.horizon={horizon} "
                f"and config.task.share={share}"
            )
    every = np.concatenate(begins[False])
    judging = every[np.linspace(0, len(every) - 1, sequences).round().astype(int)]
    answers = np.concatenate(targets)
    return {
        "inputs": np.concatenate(inputs).astype(np.float32),
        "targets": answers.astype(np.float32),
        "starts": np.concatenate(begins[True]).astype(np.int32),
        "judging": judging.astype(np.int32),
        "forecasts": naive(answers, judging, length, horizon, season),
        "length": length,
        "sequences": sequences,
        "horizon": horizon,
        "columns": rows.columns,
        "digest": rows.digest,
    }


def naive(
    answers: np.ndarray, starts: np.ndarray, length: int, horizon: int, season: int
) -> tuple[tuple[str, float], ...]:
    """What the last value loses as a forecast, and that a season before, within these windows; where both are known."""
    windows = answers[starts + np.arange(length + horizon)[:, None]]
    found = {}
    back = -(-horizon // season) * season if season else 0
    for name, before in {"last value": horizon, f"{season} steps before": back}.items():
        if 0 < before < length + horizon:
            late = max(horizon, before)
            errors = (windows[late:] - windows[late - before : len(windows) - before]) ** 2
            if np.isfinite(errors).any():
                found[name] = float(np.nanmean(errors))
    return tuple(found.items())


def scale(array: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Less the mean and over the deviation of the rows that are learnt from; a column that never changes is zero."""
    known = array[learnt]
    with np.errstate(invalid="ignore"):
        mean, deviation = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    return (array - mean) / np.where(deviation > 0, deviation, 1)


def filled(array: np.ndarray) -> np.ndarray:
    """What is missing is the last that was known of its column, or zero, the mean."""
    known = ~np.isnan(array)
    last = np.maximum.accumulate(np.where(known, np.arange(len(array))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(array, last, axis=0))
