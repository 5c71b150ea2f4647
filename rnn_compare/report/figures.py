"""The report's figures.

Each stays readable at a phone's width, in grey print and to the colour-blind: cells differ by colour, line and marker.
"""

import csv
import io
import math
import re
import textwrap
from collections.abc import Iterable
from importlib import resources
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from rnn_compare.report.claims import Verdict, of_claim
from rnn_compare.report.results import Result
from rnn_compare.statistics.measures import median
from rnn_compare.statistics.paired import UNDECIDED
from rnn_compare.statistics.paired import verdict as verdict_of
from rnn_compare.tasks.price import ACTIONS

# Blue and orange as in the post's figure, and the rest of Okabe and Ito's palette that differs from them in grey too.
COLOURS = {"lstm": "#0072B2", "gru": "#E66100"}
OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#000000")
LINES, MARKERS = ("-", "--", ":", "-."), "os^Dvx"
WIDTH = 5.2  # inches; at a phone's 340 pixels an 11 point letter is then 10 pixels high
PANELS, ROWS = 16, 60  # settings whose curves are drawn, and of which a figure has a row each
STYLE: Any = {
    "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
    "svg.hashsalt": "rnn_compare",
}  # fmt: skip


def figure_3() -> dict[str, np.ndarray]:
    """The post's loss curves, read off its figure 3: `epoch`, `lstm` and `gru`, each [200]."""
    with resources.files("rnn_compare.report").joinpath("figure3.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        table = [(float(row["epoch"]), float(row["lstm_loss"]), float(row["gru_loss"])) for row in rows]
    epoch, lstm, gru = np.array(table).T
    return {"epoch": epoch, "lstm": lstm, "gru": gru}


def save(figure: Figure, form: str) -> bytes:
    """The figure as "png" or "svg"; the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return file.getvalue()


class Style:
    """How each cell of a study is drawn."""

    def __init__(self, runs: Iterable[Result]):
        """The LSTM and the GRU always look the same, the others follow in the order of the runs."""
        cells = dict.fromkeys(run.cell for run in runs)
        self.cells = [cell for cell in COLOURS if cell in cells] + [cell for cell in cells if cell not in COLOURS]
        self._places = {cell: i for i, cell in enumerate([*COLOURS, *(c for c in cells if c not in COLOURS)])}

    def colour(self, cell: str) -> str:
        """Its colour."""
        return COLOURS.get(cell) or OTHERS[(self._places[cell] - len(COLOURS)) % len(OTHERS)]

    def line(self, cell: str) -> str:
        """Its dashes."""
        return LINES[self._places[cell] % len(LINES)]

    def marker(self, cell: str) -> str:
        """Its marker."""
        return MARKERS[self._places[cell] % len(MARKERS)]


def _figure(height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def loss(groups: dict[str, list[Result]], style: Style) -> Figure:
    """Loss against epoch, a panel per setting: every seed thin, the median and the middle half.

    Where there is one setting, the post's figure 3 too, whose curves are of one.

    Args:
        groups: a setting's label -> its runs, none without a curve.
        style: of the study.
    """
    shown = dict(list(groups.items())[:PANELS])
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure, panels = _figure(4.4 if rows == columns == 1 else 1.2 + 2.2 * rows, rows, columns, sharex=True)
    everything = [run for runs in shown.values() for run in runs]
    labels = {cell: _label(found) for cell in style.cells if (found := [run for run in everything if run.cell == cell])}
    for (name, runs), axes in zip(shown.items(), panels.flat, strict=False):
        if len(shown) == 1:
            _figure_3(axes, max(len(run.curves["loss"]) for run in runs), style)
        else:
            axes.set_title(_filled(name, 33), fontsize=8.5)
        for cell in style.cells:
            if curves := [run.curves["loss"] for run in runs if run.cell == cell]:
                _curves(axes, curves, cell, style, labels[cell])
        axes.set_yscale("log")
        _log_ticks(axes.yaxis, *axes.get_ylim())
        axes.grid(which="both", alpha=0.2)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=11)
    figure.supylabel("loss (summed mean squared errors)", fontsize=11)
    handles = {line.get_label(): line for axes in panels.flat for line in axes.lines if line.get_label()[0] != "_"}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=2 if len(shown) == 1 else 1,
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
    cell, seeds = runs[0].cell, len({run.seed for run in runs})
    name = cell.upper() if cell in COLOURS else cell
    diverged = sum(not run.finished for run in runs)
    of = f" of {len(runs)} runs" if len(runs) > seeds else ""
    lost = f" ({diverged}{of} diverged)" if diverged else ""
    return f"{name}, {f'median of {seeds} seeds' if seeds > 1 else 'one seed'}{lost}"


def _filled(text: str, width: int) -> str:
    """A text on as few lines as hold its parts, which end with a comma or colon; the lines as short as that allows."""
    parts = re.sub(r"(?<![,:]) ", "\N{NO-BREAK SPACE}", text)
    cuts = [textwrap.wrap(parts, w, break_long_words=False, break_on_hyphens=False) for w in range(width, 0, -1)]
    return "\n".join([lines for lines in cuts if len(lines) == len(cuts[0])][-1])


def _curves(axes: Axes, curves: list[np.ndarray], cell: str, style: Style, label: str) -> None:
    """The curves of one cell, those of runs that diverged ending where they did."""
    look: Any = {"color": style.colour(cell), "linestyle": style.line(cell)}
    grid = np.full((len(curves), max(map(len, curves))), np.nan)
    for row, curve in zip(grid, curves, strict=True):
        row[: len(curve)] = curve
    grid = grid[:, np.isfinite(grid).any(axis=0)]
    low, middle, high = np.nanpercentile(grid, (25, 50, 75), axis=0) if grid.size else np.zeros((3, 0))
    if len(curves) > 1:
        # Hundreds of thousands of points: as pixels, they keep the SVG small.
        axes.plot(grid.T, **look, linewidth=0.5, alpha=0.35, rasterized=True)
        axes.fill_between(range(len(middle)), low, high, color=look["color"], alpha=0.2, linewidth=0)
    axes.plot(middle, **look, linewidth=1.6, label=label)


def distributions(groups: dict[str, list[Result]], style: Style) -> Figure:
    """Final loss and volatility of every run that finished, and their medians; a row per setting and cell."""
    rows = [(name, cell) for name in list(groups)[:ROWS] for cell in style.cells]
    figure, panels = _figure(1.5 + 0.34 * len(rows), 1, 2, sharey=True)
    for axes, measure in zip(panels[0], ("final_loss", "volatility"), strict=True):
        for place, (name, cell) in enumerate(rows):
            runs = [run for run in groups[name] if run.cell == cell and run.finished]
            values = np.array([run.measures[measure] for run in runs])
            spread = np.linspace(-0.22, 0.22, len(values)) if len(values) > 1 else np.zeros(len(values))
            axes.plot(values, place + spread, style.marker(cell), color=style.colour(cell), alpha=0.6, markersize=5)
            axes.plot([median(values)] * 2, [place - 0.38, place + 0.38], color="black", linewidth=2)
        axes.set(xlabel=measure.replace("_", " "))
        _log_x(axes)
        axes.grid(axis="x", which="both", alpha=0.2)
    panels[0][0].set_yticks(range(len(rows)), [f"{_number(name)} {cell}".strip() for name, cell in rows], fontsize=10)
    panels[0][0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def differences(judged: dict[str, list[Verdict]]) -> Figure | None:
    """Each pair's ratio, the effect and its interval, a row per setting, of speed per backend; shaded where it is true.

    Args:
        judged: a setting's label -> the verdict on each claim.
    """
    judged = dict(list(judged.items())[:ROWS])
    tables = [of_claim(judged, i) for i in range(len(next(iter(judged.values()))))]
    tables = [rows for rows in tables if any(len(verdict.ratios) for verdict in rows.values())]
    if not tables:
        return None
    heights = [1.2 + 0.36 * len(rows) for rows in tables]
    figure, panels = _figure(sum(heights), len(tables), 1, height_ratios=heights)
    for axes, rows in zip(panels[:, 0], tables, strict=True):
        for place, (result, ratios) in enumerate((verdict.result, verdict.ratios) for verdict in rows.values()):
            spread = np.linspace(-0.25, 0.25, len(ratios)) if len(ratios) > 1 else np.zeros(len(ratios))
            axes.plot(ratios, place + spread, "o", color="#767676", markersize=4, alpha=0.6)
            axes.plot([result.low, result.high], [place, place], color="black", linewidth=2)
            axes.plot(result.effect, place, "D", color="black", markersize=5, markeredgecolor="white")
        _log_x(axes, 1.0)
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
    few = verdict.word == UNDECIDED and verdict_of(result, verdict.claim.bounds) != UNDECIDED
    more = f" ({result.n} pairs, {verdict.least} needed)" if few else ""
    return _filled(f"{verdict.claim.title}: {verdict.word}{more}", 58)


def _log_x(axes: Axes, include: float | None = None) -> None:
    """A logarithmic axis with plain numbers and few of them, over what is drawn and a value more."""
    data = np.concatenate([np.asarray(line.get_xdata(), float) for line in axes.lines])
    data = data[np.isfinite(data) & (data > 0)]
    if include is not None:
        data = np.append(data, include)
    if not len(data):
        return
    low, high = data.min(), data.max()
    room = (high / low) ** 0.06 if high > low else 1.05
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    _log_ticks(axes.xaxis, low / room, high * room)
    axes.tick_params(axis="x", labelsize=9)


def _log_ticks(axis: Axis, low: float, high: float) -> None:
    """Three or four plain numbers on a logarithmic axis from low to high, however little or much that is."""
    decades = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    scales = [np.outer(decades, factors).ravel() for factors in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))]
    linear = matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 5, 10], min_n_ticks=3).tick_values(low, high)
    inside = ([tick for tick in ticks if low <= tick <= high] for ticks in [*scales, linear])
    ticks = next((ticks for ticks in inside if len(ticks) >= 3), list(linear))
    axis.set_major_locator(matplotlib.ticker.FixedLocator(ticks[:: -(-len(ticks) // 4)]))
    if high / low < 6:
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))


def _number(name: str) -> str:
    """A setting's number, of its label; nothing where there is one setting."""
    return name.split()[0] if name.startswith("#") else ""


def held_out(runs: list[Result], style: Style) -> Figure | None:
    """Held-out loss against training loss, a point per run that finished; None if no run has any."""
    points = {}
    for cell in style.cells:
        shown = [run.measures for run in runs if run.cell == cell and run.finished]
        points[cell] = np.array([(m["last_loss"], m["held_out_loss"]) for m in shown]).reshape(-1, 2)
    everything = np.concatenate(list(points.values()))
    everything = everything[np.isfinite(everything).all(axis=1)]
    if not len(everything):
        return None
    figure, panels = _figure(WIDTH)
    axes = panels[0, 0]
    ends = [everything.min() / 1.1, everything.max() * 1.1]
    axes.plot(ends, ends, color="black", linewidth=0.8, linestyle=":", label="equal")
    for cell, xy in points.items():
        axes.plot(*xy.T, style.marker(cell), color=style.colour(cell), alpha=0.7, label=cell)
    axes.set(xlabel="training loss, last epoch", ylabel="held-out loss", aspect="equal", xscale="log", yscale="log",
             xlim=ends, ylim=ends)  # fmt: skip
    _log_ticks(axes.xaxis, *ends)
    _log_ticks(axes.yaxis, *ends)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    return figure


def predictions(stretches: dict[str, dict[str, np.ndarray]], style: Style) -> Figure:
    """Every output against its target over a stretch of a held-out sequence, under the price's changes.

    Args:
        stretches: cell -> its stretch, see `held_out.HeldOut`; the same data for each cell.
        style: of the study.
    """
    outputs = [(head, action) for head, actions in ACTIONS.items() for action in actions]
    figure, panels = _figure(10.5, len(outputs) + 1, 1, sharex=True)
    first = next(iter(stretches.values()))
    panels[0, 0].plot(first["change"], color="black", linewidth=0.8)
    panels[0, 0].set_title("price change", loc="left")
    for i, ((head, action), axes) in enumerate(zip(outputs, panels[1:, 0], strict=True)):
        axes.plot(first["targets"][:, i], color="black", linewidth=2.5, alpha=0.3, label="target")
        for cell, stretch in stretches.items():
            axes.plot(stretch["predictions"][:, i], color=style.colour(cell), linestyle=style.line(cell),
                      linewidth=1.2, label=cell)  # fmt: skip
        axes.set_title(f"head {head}: {'stay' if action == head else 'go'} {action}", loc="left")
        axes.sharey(panels[1, 0])
    for axes in panels[:, 0]:
        axes.grid(alpha=0.2)
    panels[-1, 0].set_xlabel(f"time step, of the sequence's last {len(first['change'])}")
    handles, labels = panels[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=10, frameon=False)
    figure.supylabel("action value", fontsize=11)
    return figure


def heat_map(runs: list[Result], measure: str, row_key: str, column_key: str, style: Style) -> Figure:
    """A panel for each cell: the median over seeds of a measure, against two axes of the study.

    A run that did not finish is left out: what it had reached before says nothing of where it would have ended.
    """
    groups: dict[tuple, list[float]] = {}
    for run in runs:
        axes = dict(run.setting)
        value = run.measures[measure] if run.finished else math.nan
        groups.setdefault((run.cell, axes[row_key], axes[column_key]), []).append(value)
    medians = {key: median(np.array(group)) for key, group in groups.items()}
    rows, columns = (list(dict.fromkeys(key[i] for key in medians)) for i in (1, 2))
    known = [value for value in medians.values() if value > 0] or [math.nan]
    norm = matplotlib.colors.LogNorm(min(known), max(known)) if min(known) < max(known) else None
    cells = [cell for cell in style.cells if any(key[0] == cell for key in medians)]
    size = (max(WIDTH, 2 + 0.8 * len(columns)), 1.2 + len(cells) * (0.5 + 0.45 * len(rows)))
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
        _log_ticks(bar.ax.yaxis, min(known), max(known))
    figure.suptitle(f"{measure.replace('_', ' ')}, median over the seeds that finished")
    return figure
