"""Your own data: a table with a row for each step, of one long series or of many.

What is learnt is to tell columns some steps ahead. A window of `data.length` rows is a sequence; `data.sequences` of
them are drawn for each update from the first part of every series, and as many, evenly spread, are judged in the rest.

Axis sizes: N rows, F inputs, O targets, T time steps, B sequences, W windows.
"""

import functools
from pathlib import Path
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from rnn_compare.tasks.files import READERS, Asked, Rows, read
from rnn_compare.tasks.task import CHOOSING, JUDGED, KNOWN_SQUARED_ERROR, LEARNT, Batch, Kept, Task, ends, size

PARTS = {LEARNT: "learn from", CHOOSING: "choose by", JUDGED: "judge"}  # in time, and what they are for


class Table(Kept):
    """Windows of a file's rows, each scaled by what the part that is learnt from says of its column.

    Attributes:
        inputs: [N, F], scaled; what is missing is the last that was known, or the mean.
        targets: [N, O], scaled; what is missing is not a number, and not counted.
        starts: rows at which windows may begin, [W].
        choosing_at: rows at which the windows begin by which parameters are chosen, [B], or [0].
        judging: rows at which the windows begin that are judged, [B].
        scales: the mean and the deviation of each target in what is learnt from, [2, O].
        columns: names of the inputs, of the targets, and of those that nobody asked for and are no numbers.
        forecasts: name, loss and the errors of the targets of each naive forecast, on what is judged.
        digest: of the file.
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
    choosing_at: jax.Array
    judging: jax.Array
    scales: jax.Array
    length: int = size()
    sequences: int = size()
    horizon: int = size()
    forecasts: tuple[tuple[str, float, tuple[float, ...]], ...] = size()
    columns: tuple[tuple[str, ...], ...] = size()
    digest: str = size()

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
        file = path, (stamp.st_mtime_ns, stamp.st_size), asked
        cuts = tuple(ends(end - start, config) for start, end in read(*file).series)
        sizes = data.length, data.sequences, task.horizon, task.share, task.season
        return cls(**_fields(*file, cuts, *sizes))

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
        """Windows drawn at random of what is learnt from; of the other parts they are always the same."""
        if self.part == LEARNT:
            at = jax.random.choice(key, self.starts, (self.sequences,))
        else:
            at = self.judging if self.part == JUDGED else self.choosing_at
        rows = at + jnp.arange(self.length)[:, None]
        return Batch(self.inputs[rows], self.targets[rows + self.horizon])

    def about(self) -> str:
        """The columns, which may have been chosen by their being numbers, and how much there is."""
        left = f"; not used, as no numbers: {', '.join(self.columns[2])}" if self.columns[2] else ""
        windows = f"{len(self.starts)} windows to learn from"
        return f"{', '.join(self.columns[0])} → {'; '.join(self.names)}; {windows}{left}"

    def worth(self, values: jax.Array, batch: Batch) -> dict[str, jax.Array]:
        """The root of the mean squared error of each target, in its column's unit."""
        squares = (values - batch.targets) ** 2
        errors = self.scales[1] * jnp.sqrt(jnp.nanmean(squares.reshape(-1, squares.shape[-1]), axis=0))
        return dict(zip(self.names, errors, strict=True))

    def in_units(self, values: Any) -> Any:
        """See `Task.in_units`."""
        return values * self.scales[1] + self.scales[0]

    def naive(self) -> dict[str, float]:
        """The last value told again, and that a season before."""
        return {name: loss for name, loss, _ in self.forecasts}

    def naive_errors(self) -> dict[str, dict[str, float]]:
        """Of the same."""
        scales = np.asarray(self.scales[1]).tolist()
        return {
            name: {of: scale * error for of, scale, error in zip(self.names, scales, errors, strict=True)}
            for name, _, errors in self.forecasts
        }


@functools.lru_cache(16)
def _fields(path: Path, stamp: tuple[int, int], asked: Asked, *given: Any) -> dict[str, Any]:
    return windows(read(path, stamp, asked), *given)


def windows(
    rows: Rows, cuts: tuple[tuple[int, int], ...], length: int, sequences: int, horizon: int, share: float, season: int
) -> dict[str, Any]:
    """The fields of a `Table`.

    The last target of a part lies before the first input of the next. A piece that is shorter than a window is filled
    up behind with what does not count.

    Args:
        rows: the file.
        cuts: of each series, how many rows are learnt from, and where those begin that are judged.
        length: T.
        sequences: B.
        horizon: steps ahead.
        share: that was asked for.
        season: steps, or 0.

    Raises:
        ValueError: there is too little of it.
    """
    needed = length + horizon
    lengths = [
        (learnt, judged - learnt, end - start - judged)
        for (start, end), (learnt, judged) in zip(rows.series, cuts, strict=True)
    ]
    parts = np.concatenate([np.repeat([0, 1, 2], of_each) for of_each in lengths])
    cut = parts == 0
    refuse(rows, cut, length, horizon, share, season)
    (given, _), (told, scales) = (scale(array, cut) for array in (rows.inputs, rows.targets))
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    begins: dict[str, list[np.ndarray]] = {part: [] for part in PARTS}
    at = 0
    for start, end in rows.pieces:
        for i, part in enumerate(PARTS):
            first, last = (start + int((parts[start:end] < k).sum()) for k in (i, i + 1))
            count = last - first
            if count <= horizon:
                continue
            more = max(0, needed - count)
            inputs.append(np.pad(filled(given[first:last]), ((0, more), (0, 0))))
            targets.append(np.pad(told[first:last], ((0, more), (0, 0)), constant_values=np.nan))
            begins[part].append(at + np.arange(count + more - needed + 1))
            at += count + more
    for part, what in PARTS.items():
        if not begins[part] and (part != CHOOSING or (parts == 1).any()):
            raise ValueError(
                f"config.task.path={rows.path}: its {len(cut)} rows leave no window to {what}, "
                f"with config.task.horizon={horizon} and config.task.share={share}"
            )
    judging, choosing_at = (spread(begins[part], sequences) for part in (JUDGED, CHOOSING))
    answers = np.concatenate(targets)
    return {
        "inputs": np.concatenate(inputs).astype(np.float32),
        "targets": answers.astype(np.float32),
        "starts": np.concatenate(begins[LEARNT]).astype(np.int32),
        "choosing_at": choosing_at,
        "judging": judging,
        "scales": scales.astype(np.float32),
        "forecasts": naive(answers, judging, length, horizon, season),
        "length": length,
        "sequences": sequences,
        "horizon": horizon,
        "columns": rows.columns,
        "digest": rows.digest,
    }


def spread(begins: list[np.ndarray], count: int) -> np.ndarray:
    """So many of them, evenly spread; none of none."""
    every = np.concatenate(begins or [np.zeros(0)])
    return every[np.linspace(0, len(every) - 1, count if len(every) else 0).round().astype(int)].astype(np.int32)


def refuse(rows: Rows, learnt: np.ndarray, length: int, horizon: int, share: float, season: int) -> None:
    """Complains about sizes for which there is too little, and columns of which nothing can be learnt.

    Args:
        rows: the file.
        learnt: which of its rows are learnt from, [N].
        length: T.
        horizon: steps ahead.
        share: that was asked for.
        season: steps, or 0.

    Raises:
        ValueError: in one sentence.
    """
    needed = length + horizon
    if not learnt.any() or learnt.all():
        raise ValueError(
            f"config.task.share is {share}: it leaves nothing to learn from, or to judge, of {len(learnt)} rows"
        )
    longest = max(int(learnt[start:end].sum()) for start, end in rows.pieces)
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
        for column, name in zip(array[learnt].T, names, strict=True):
            different = len(np.unique(column[~np.isnan(column)])[:2])
            if different < (2 if key == "targets" else 1):
                what = "never changes" if different else "is empty"
                raise ValueError(
                    f"config.task.path={rows.path}: the column {name!r} {what} in the part that is learnt from: leave "
                    f"it out of config.task.{key}"
                )


def naive(
    answers: np.ndarray, starts: np.ndarray, length: int, horizon: int, season: int
) -> tuple[tuple[str, float, tuple[float, ...]], ...]:
    """What the last value loses as a forecast, and that a season before, within these windows; where both are known.

    Returns:
        The name of each, its loss, and the root of each target's part of it, [O].
    """
    windows = answers[starts + np.arange(length + horizon)[:, None]]
    found = []
    back = -(-horizon // season) * season if season else 0
    for name, before in {"last value": horizon, f"{season} steps before": back}.items():
        if 0 < before < length + horizon:
            late = max(horizon, before)
            errors = (windows[late:] - windows[late - before : len(windows) - before]) ** 2
            if np.isfinite(errors).any(axis=(0, 1)).all():
                of_each = np.sqrt(np.nanmean(errors, axis=(0, 1)))
                found.append((name, float(np.nanmean(errors)), tuple(of_each.tolist())))
    return tuple(found)


def scale(array: np.ndarray, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Less the mean and over the deviation of the rows that are learnt from; a column that never changes is zero.

    Returns:
        The columns, scaled, and their means and deviations, [2, columns].
    """
    known = array[learnt]
    with np.errstate(invalid="ignore"):
        mean, deviation = np.nanmean(known, axis=0), np.nanstd(known, axis=0)
    deviation = np.where(deviation > 0, deviation, 1)
    return (array - mean) / deviation, np.stack([mean, deviation])


def filled(array: np.ndarray) -> np.ndarray:
    """What is missing is the last that was known of its column, or zero, the mean."""
    known = ~np.isnan(array)
    last = np.maximum.accumulate(np.where(known, np.arange(len(array))[:, None], 0), axis=0)
    return np.nan_to_num(np.take_along_axis(array, last, axis=0))
