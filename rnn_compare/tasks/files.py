"""A file of rows: read, ordered by time within each series, and cut where steps are missing.

Axis sizes: N rows, F inputs, O targets.
"""

import functools
import hashlib
import itertools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MOST = 1e18  # whose square single precision holds
MOST_TWICE = 0.01  # of the rows may have a time that is there before, as where clocks are set back
READERS = ".csv, .csv.gz, .parquet, .npy or .npz"


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
        path: of the file.
    """

    inputs: np.ndarray
    targets: np.ndarray
    series: tuple[tuple[int, int], ...]
    pieces: tuple[tuple[int, int], ...]
    columns: tuple[tuple[str, ...], ...]
    digest: str
    path: Path


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
                f"config.task.{key} names the column {missing[0]!r}, which {path} does not have: it has {has}{hint}"
            )
        if key in ("inputs", "targets") and (taken := {*of_time, *of_series} & {*names}):
            raise ValueError(
                f"config.task.{key} names the column {taken.pop()!r}, which is that of the time or the series"
            )
    if asked.time:
        frame[asked.time] = times(frame, asked.time, path)
    order = [*of_series, *of_time]
    frame = frame.sort_values(order, kind="stable") if order else frame
    if of_time and (twice := frame.duplicated(order)).mean() > MOST_TWICE:
        line = int(frame.index[np.flatnonzero(twice)[0]]) + 2
        series = "" if of_series else ", or name the column that tells series apart, config.task.series"
        raise ValueError(
            f"config.task.time={asked.time}: line {line} of {path} has a time that is there before: leave one out"
            f"{series}"
        )
    left = [name for name in frame.columns if name not in order]
    plain = tuple(name for name in left if frame[name].dtype.kind in "fiub")
    inputs = asked.inputs or plain
    if not inputs:
        raise ValueError(f"config.task.path={path}: it has no column of numbers")
    targets = asked.targets or inputs
    given, told = (np.stack([numbers(frame, name, path) for name in names], axis=1) for names in (inputs, targets))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    unused = () if asked.inputs else tuple(name for name in left if name not in (*plain, *targets))
    return Rows(given, told, *pieces(frame, asked), (tuple(inputs), tuple(targets), unused), digest, path)


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
        raise ValueError(f"config.task.path={path}: Parquet needs `pip install 'rnn_compare[parquet]'`") from None
    except UnicodeError:
        raise ValueError(f"config.task.path={path}: it is no text in UTF-8") from None
    except Exception as error:  # what a damaged file makes a reader raise has no end
        why = " ".join(str(error).split()) if name.endswith((".csv", ".csv.gz")) else "it holds no arrays of numbers"
        raise ValueError(f"config.task.path={path}: it cannot be read ({why})") from None
    raise ValueError(f"config.task.path={path}: it must end in {READERS}")


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


def times(frame: Any, name: str, path: Path) -> Any:
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
            f"config.task.time={name}: line {row + 2} of {path} has {frame[name].iloc[row]!r}, which is no time "
            "such as 2026-11-26 09:30:00"
        )
    return found.astype("int64")


def numbers(frame: Any, name: str, path: Path) -> np.ndarray:
    """A column of numbers; what is empty is not a number.

    Raises:
        ValueError: something in it is no number; names its line.
    """
    import pandas as pd

    found = pd.to_numeric(frame[name], errors="coerce")
    if (wrong := found.isna() & frame[name].notna()).any():
        row = int(frame.index[np.flatnonzero(wrong)[0]])
        raise ValueError(
            f"config.task.path={path}: line {row + 2} has {frame[name].loc[row]!r} in the column {name!r}, which is "
            "no number"
        )
    values = found.to_numpy(np.float64, na_value=np.nan)
    if (np.abs(values) > MOST).any():
        raise ValueError(f"config.task.path={path}: the column {name!r} has a number beyond {MOST:g}")
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
