"""The report's figures.

Each stays readable at a phone's width, in grey print and to the colour-blind: cells differ by colour, line and marker.
Those that gain by it can be drawn for a wide screen too.
"""

import csv
import math
from collections.abc import Callable
from importlib import resources
from typing import Any

import matplotlib.colors
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rnn_compare.report.claims import Verdict, of_claim
from rnn_compare.report.numbers import named
from rnn_compare.report.plotting import COLOURS, NARROW, Style, canvas, filled, log_ticks, log_x
from rnn_compare.report.results import Result
from rnn_compare.statistics.measures import median
from rnn_compare.statistics.paired import UNDECIDED
from rnn_compare.statistics.paired import verdict as verdict_of
from rnn_compare.statistics.ranking import Ranking
from rnn_compare.tasks import Task
from rnn_compare.tasks.task import input_in_words, loss_in_words, output_in_words

PANELS, ROWS = 16, 60  # settings whose curves are drawn, and of which a figure has a row each


def figure_3() -> dict[str, np.ndarray]:
    """The post's loss curves, read off its figure 3: `epoch`, `lstm` and `gru`, each [200]."""
    with resources.files("rnn_compare.report").joinpath("figure3.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        table = [(float(row["epoch"]), float(row["lstm_loss"]), float(row["gru_loss"])) for row in rows]
    epoch, lstm, gru = np.array(table).T
    return {"epoch": epoch, "lstm": lstm, "gru": gru}


def loss(
    groups: dict[str, list[Result]],
    style: Style,
    task: Task | type[Task],
    width: float = NARROW,
    post: bool = False,
    seconds: Callable[[Result], float] | None = None,
) -> Figure:
    """Loss against epoch or time, a panel per setting: every seed thin, the median and the middle half.

    Args:
        groups: a setting's label -> its runs, none without a curve.
        style: of the study.
        task: what is learnt.
        width: of the figure, inches.
        post: whether the setting is that of the post's figure 3, whose curves are drawn too.
        seconds: what an epoch of a run takes, if losses are drawn against minutes.
    """
    shown = dict(list(groups.items())[:PANELS])
    columns = min(2 if width == NARROW else 4, len(shown))
    rows = -(-len(shown) // columns)
    height = 4.4 if len(shown) == 1 else 1.2 + 2.2 * rows
    figure, panels = canvas(width, height, rows, columns, sharex=True)
    everything = [run for runs in shown.values() for run in runs]
    labels = {
        cell: _label(found) for cell in style.cells if (found := [run for run in everything if run.contestant == cell])
    }
    for (name, runs), axes in zip(shown.items(), panels.flat, strict=False):
        if post:
            _figure_3(axes, max(len(run.curves["loss"]) for run in runs), style)
        if len(shown) > 1:
            axes.set_title(filled(name, 33), fontsize=8.5)
        for cell in style.cells:
            own = [run for run in runs if run.contestant == cell]
            if curves := [run.curves["loss"] for run in own if run.ended]:
                _curves(axes, curves, cell, style, labels[cell], seconds(own[0]) / 60 if seconds else 1)
            for run in own:
                if not run.ended and not seconds:
                    _so_far(axes, run.curves["loss"], cell, style, _so_far_label(everything, cell))
        if guesses := [run.about["guess"] for run in runs if run.about.get("guess")]:
            axes.axhline(median(np.array(guesses)), color="black", linewidth=0.8, linestyle=":", label="guessing")
        axes.set_yscale("log")
        log_ticks(axes.yaxis, *axes.get_ylim())
        axes.grid(which="both", alpha=0.2)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("minutes of training" if seconds else "epoch", fontsize=11)
    figure.supylabel(loss_in_words(task), fontsize=11)
    handles = {line.get_label(): line for axes in panels.flat for line in axes.lines if line.get_label()[0] != "_"}
    one_column = (len(shown) > 1 and width == NARROW) or any(
        len(label) > (38 if width == NARROW else 60) for label in handles
    )
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=1 if one_column else 2,
                  columnspacing=1, fontsize=8.5, frameon=False)  # fmt: skip
    return figure


def _figure_3(axes: Axes, epochs: int, style: Style) -> None:
    """The post's curves over so many epochs, ten at least."""
    reference = figure_3()
    seen = reference["epoch"] < max(6, epochs)
    for cell in COLOURS:
        axes.plot(reference["epoch"][seen], reference[cell][seen], color=style.colour(cell), linestyle=style.line(cell),
                  alpha=0.35, linewidth=3, label=f"{cell.upper()} in the post's figure 3")  # fmt: skip


def _label(runs: list[Result]) -> str:
    """The legend's words for a cell's runs that have curves: its name, how many seeds, how many runs diverged."""
    runs = [run for run in runs if run.ended] or runs
    cell, seeds = runs[0].contestant, len({run.seed for run in runs})
    diverged = sum(run.ended and not run.finished for run in runs)
    of = f" of {len(runs)} runs" if len(runs) > seeds else ""
    lost = f" ({diverged}{of} diverged)" if diverged else ""
    return f"{_name(cell)}, {f'median of {seeds} seeds' if seeds > 1 else 'one seed'}{lost}"


def _so_far_label(runs: list[Result], cell: str) -> str:
    """The legend's words for a cell's runs that have not ended: how many, and at which epochs they are."""
    own = [run for run in runs if run.contestant == cell and not run.ended]
    at = sorted({len(run.curves["loss"]) for run in own})
    of = max(run.about["config"]["train.epochs"] for run in own)
    many = f"{len(own)} runs" if len(own) > 1 else "one run"
    return f"{_name(cell)}, {many} unfinished, at epoch {' to '.join(map(str, at[:: max(1, len(at) - 1)]))} of {of}"


def _name(cell: str) -> str:
    return named(cell)


def _curves(axes: Axes, curves: list[np.ndarray], cell: str, style: Style, label: str, unit: float) -> None:
    """The curves of one cell, those of runs that diverged ending where they did; an epoch is so wide."""
    look: Any = {"color": style.colour(cell), "linestyle": style.line(cell)}
    grid = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(grid, curves, strict=True):
        row[: len(curve)] = curve
    grid = grid[:, np.isfinite(grid).any(axis=0)]
    low, middle, high = np.nanpercentile(grid, (25, 50, 75), axis=0) if grid.size else np.zeros((3, 0))
    x = np.arange(len(middle)) * unit
    if len(curves) > 1:
        # Hundreds of thousands of points: as pixels, they keep the SVG small.
        axes.plot(x, grid.T, **look, linewidth=0.5, alpha=0.35, rasterized=True)
        axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.plot(x, middle, **look, linewidth=1.6, label=label)


def _so_far(axes: Axes, curve: np.ndarray, cell: str, style: Style, label: str) -> None:
    """The curve of a run that has not ended, with an open circle where it is."""
    axes.plot(curve, color=style.colour(cell), linestyle=style.line(cell), linewidth=1, alpha=0.8, marker="o",
              markevery=[len(curve) - 1], markerfacecolor="none", label=label)  # fmt: skip


def distributions(groups: dict[str, list[Result]], style: Style, width: float = NARROW) -> Figure | None:
    """Final loss and volatility of every run that finished, and their medians; a row per setting and cell.

    None before any has finished.
    """
    if not any(run.finished for runs in groups.values() for run in runs):
        return None
    rows = [(name, cell) for name in list(groups)[:ROWS] for cell in style.cells]
    lost = [
        sum(run.ended and not run.finished for run in groups[name] if run.contestant == cell) for name, cell in rows
    ]
    figure, panels = canvas(width, 1.5 + 0.34 * len(rows), 1, 2, sharey=True)
    for axes, measure in zip(panels[0], ("final_loss", "volatility"), strict=True):
        for place, (name, cell) in enumerate(rows):
            runs = [run for run in groups[name] if run.contestant == cell and run.finished]
            values = np.array([run.measures[measure] for run in runs])
            spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(values, place + spread, style.marker(cell), color=style.colour(cell), alpha=0.6, markersize=5)
            axes.plot([median(values)] * 2, [place - 0.38, place + 0.38], color="black", linewidth=2)
        axes.set(xlabel=measure.replace("_", " "))
        log_x(axes)
        axes.grid(axis="x", which="both", alpha=0.2)
    names = [
        f"{_number(name)} {cell}{f' (−{n})' if n else ''}".strip() for (name, cell), n in zip(rows, lost, strict=True)
    ]
    panels[0][0].set_yticks(range(len(rows)), names, fontsize=10)
    panels[0][0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def differences(judged: dict[str, list[Verdict]], width: float = NARROW) -> Figure | None:
    """Each pair's ratio, the effect and its interval, a row per setting, of speed per backend; shaded where it is true.

    Args:
        judged: a setting's label -> the verdict on each claim.
        width: of the figure, inches.
    """
    if not judged:
        return None
    judged = dict(list(judged.items())[:ROWS])
    tables = [of_claim(judged, i) for i in range(len(next(iter(judged.values()))))]
    tables = [rows for rows in tables if any(len(verdict.ratios) for verdict in rows.values())]
    if not tables:
        return None
    heights = [1.2 + 0.36 * len(rows) for rows in tables]
    figure, panels = canvas(width, sum(heights), len(tables), 1, height_ratios=heights)
    for axes, rows in zip(panels[:, 0], tables, strict=True):
        for place, (result, ratios) in enumerate((verdict.result, verdict.ratios) for verdict in rows.values()):
            spread = np.linspace(-0.25, 0.25, len(ratios)) if len(ratios) > 1 else np.zeros(len(ratios))
            axes.plot(ratios, place + spread, "o", color="#767676", markersize=4, alpha=0.6)
            axes.plot([result.low, result.high], [place, place], color="black", linewidth=2)
            axes.plot(result.effect, place, "D", color="black", markersize=5, markeredgecolor="white")
        log_x(axes, 1.0)
        low, high = axes.get_xlim()
        first = next(iter(rows.values()))
        claim = first.claim
        axes.axvspan(max(low, claim.bounds[0]), min(high, claim.bounds[1]), color="#0072B2", alpha=0.13, linewidth=0)
        axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5), xlabel=claim.effect)
        axes.set_title(_outcome(first) if len(rows) == 1 else claim.title, loc="left")
        names = (name if claim.measure is None else _number(name) for name in rows)
        axes.set_yticks(range(len(rows)), names if len(rows) > 1 else [""], fontsize=10)
        axes.spines["left"].set_visible(len(rows) > 1)
        axes.tick_params(axis="y", length=0)
    return figure


def _outcome(verdict: Verdict) -> str:
    """A claim and the verdict on it, and where too few pairs are all that is missing, how few."""
    result = verdict.result
    missing = math.isnan(result.low) or verdict_of(result, verdict.claim.bounds) != UNDECIDED
    few = result.n < verdict.least and missing
    more = f" ({result.n} pairs, {verdict.least} needed)" if few else ""
    return filled(f"{verdict.claim.title}: {verdict.word}{more}", 58)


def _number(name: str) -> str:
    """A setting's number, of its label; nothing where there is one setting."""
    return name.split()[0] if name.startswith("#") else ""


def held_out(runs: list[Result], style: Style) -> Figure | None:
    """Held-out loss against training loss, a point per run that finished; None if no run has any."""
    points = {}
    for cell in style.cells:
        shown = [run.measures for run in runs if run.contestant == cell and run.finished]
        points[cell] = np.array([(m["last_loss"], m["held_out_loss"]) for m in shown]).reshape(-1, 2)
    everything = np.concatenate(list(points.values()))
    everything = everything[np.isfinite(everything).all(axis=1)]
    if not len(everything):
        return None
    figure, panels = canvas(NARROW, NARROW)
    axes = panels[0, 0]
    ends = [everything.min() / 1.1, everything.max() * 1.1]
    axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=":", label="equal")
    for cell, xy in ((cell, xy) for cell, xy in points.items() if len(xy)):
        axes.plot(*xy.T, style.marker(cell), color=style.colour(cell), alpha=0.7, label=cell)
    axes.set(xlabel="training loss, last epoch", ylabel="held-out loss", aspect="equal", xscale="log", yscale="log",
             xlim=ends, ylim=ends)  # fmt: skip
    log_ticks(axes.xaxis, *ends)
    log_ticks(axes.yaxis, *ends)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    return figure


def predictions(
    stretches: dict[str, dict[str, np.ndarray]], style: Style, task: Task | type[Task], width: float = NARROW
) -> Figure | None:
    """Every output against its target over a stretch of held-out data, under the first input.

    Args:
        stretches: cell -> its stretch, see `held_out.HeldOut`; the same data for each cell.
        style: of the study.
        task: what is learnt.
        width: of the figure, inches.

    Returns:
        The figure; None without any stretch.
    """
    if not stretches:
        return None
    first = next(iter(stretches.values()))
    outputs = first["targets"].shape[1]
    columns = 1 if width == NARROW or outputs == 1 else 2
    rows = -(-(outputs + 1) // columns)
    figure, panels = canvas(width, 10.5 / 8 * rows + 1, rows, columns, sharex=True)
    top, *below = panels.T.flat
    top.plot(first["change"], color="black", linewidth=0.8)
    top.set_title(input_in_words(task), loc="left")
    for i, axes in zip(range(outputs), below, strict=False):
        axes.plot(first["targets"][:, i], color="black", linewidth=2.5, alpha=0.3, label="target")
        for cell, stretch in stretches.items():
            axes.plot(stretch["predictions"][:, i], color=style.colour(cell), linestyle=style.line(cell),
                      linewidth=1.2, label=cell)  # fmt: skip
        axes.set_title(output_in_words(task, i), loc="left")
        axes.sharey(below[0])
    for axes in panels.flat:
        axes.grid(alpha=0.2)
    figure.supxlabel(f"{task.stretch} {len(first['change'])}", fontsize=11)
    handles, labels = below[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=10, frameon=False)
    figure.supylabel(task.unit, fontsize=11)
    return figure


def matrix(ranking: Ranking) -> Figure:
    """Each contestant over each: the ratio of what they are ranked by, and a dot where the two surely differ."""
    names = list(ranking.mean_ranks)
    n = len(names)
    ratio = np.array([[ranking.pairs[a, b].result.effect if a != b else math.nan for b in names] for a in names])
    most = max(2.0, float(np.nanmax(np.maximum(ratio, 1 / ratio), initial=2.0, where=np.isfinite(ratio))))
    figure, panels = canvas(max(NARROW, 2 + 0.19 * n), max(NARROW, 1.6 + 0.19 * n))
    axes = panels[0, 0]
    image = axes.imshow(ratio, norm=matplotlib.colors.LogNorm(1 / most, most), cmap="PuOr_r")
    apart = [(i, j) for i, a in enumerate(names) for j, b in enumerate(names) if a != b and differ(ranking, a, b)]
    axes.plot([j for _, j in apart], [i for i, _ in apart], ".", color="black", markersize=2)
    axes.set_xticks(range(n), names, rotation=90, fontsize=7)
    axes.set_yticks(range(n), names, fontsize=7)
    bar = figure.colorbar(image, ax=axes, shrink=0.6, label="row / column")
    log_ticks(bar.ax.yaxis, 1 / most, most)
    return figure


def differ(ranking: Ranking, a: str, b: str) -> bool:
    """Whether two contestants surely differ."""
    return ranking.pairs[a, b].lower or ranking.pairs[a, b].higher


def heat_map(runs: list[Result], measure: str, row_key: str, column_key: str, style: Style) -> Figure:
    """A panel for each cell: the median over seeds of a measure, against two axes of the study.

    A run that did not finish is left out: what it had reached before says nothing of where it would have ended.
    """
    groups: dict[tuple, list[float]] = {}
    for run in runs:
        axes = dict(run.setting)
        value = run.measures[measure] if run.finished else math.nan
        groups.setdefault((run.contestant, axes[row_key], axes[column_key]), []).append(value)
    medians = {key: median(np.array(group)) for key, group in groups.items()}
    rows, columns = (list(dict.fromkeys(key[i] for key in medians)) for i in (1, 2))
    known = [value for value in medians.values() if value > 0] or [math.nan]
    norm = matplotlib.colors.LogNorm(min(known), max(known)) if min(known) < max(known) else None
    cells = [cell for cell in style.cells if any(key[0] == cell for key in medians)]
    size = (max(NARROW, 2 + 0.8 * len(columns)), 1.2 + len(cells) * (0.5 + 0.45 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    for panel, cell in zip(panels, cells, strict=True):
        grid = np.array([[medians.get((cell, row, column), np.nan) for column in columns] for row in rows])
        image = panel.imshow(grid, norm=norm, cmap="viridis_r", aspect="auto")
        panel.set(title=cell, xticks=range(len(columns)), yticks=range(len(rows)), yticklabels=rows)
        panel.set_xticklabels(columns if panel is panels[-1] else [], rotation=30, ha="right")
        for (row, column), value in np.ndenumerate(grid):
            dark = norm is not None and norm(value) > 0.55
            text = f"{value:.3g}" if np.isfinite(value) else "–"
            panel.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    panels[-1].set_xlabel(column_key)
    figure.supylabel(row_key, fontsize=10)
    bar = figure.colorbar(image, ax=panels, shrink=0.9)
    if norm is not None:
        log_ticks(bar.ax.yaxis, min(known), max(known))
    figure.suptitle(f"{measure.replace('_', ' ')}, median over the seeds that finished")
    return figure
