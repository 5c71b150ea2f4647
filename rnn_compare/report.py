"""What the runs of a workdir say: the figure of their losses and the summary table."""

import csv
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.ticker
import numpy as np
from matplotlib.figure import Figure

from rnn_compare.runs import write_atomically
from rnn_compare.stats import measures

# Blue and orange as in the post's figure; told apart by the colour-blind too.
COLOURS = {"lstm": "#0072B2", "gru": "#E66100"}


def figure_3() -> dict[str, np.ndarray]:
    """The post's loss curves, read off its figure 3: `epoch`, `lstm` and `gru`, each [200]."""
    with resources.files("rnn_compare").joinpath("figure3.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        table = [(float(row["epoch"]), float(row["lstm_loss"]), float(row["gru_loss"])) for row in rows]
    epoch, lstm, gru = np.array(table).T
    return {"epoch": epoch, "lstm": lstm, "gru": gru}


def write(workdir: Path, names: list[str]) -> tuple[str, list[Path]]:
    """Writes `summary.md`, `loss.png` and, for a study of two or more axes besides the cell, heat maps.

    Args:
        workdir: a study's workdir.
        names: the runs to show, finished or failed.

    Returns:
        The summary table as Markdown, and the figures' paths.
    """
    runs = [json.loads((workdir / name / "run.json").read_text()) for name in names]
    table = summary(runs, [curves_of(workdir, run) for run in runs])
    write_atomically(workdir / "summary.md", table)
    runs = [run for run in runs if run["status"] != "failed"]
    curves = [curves_of(workdir, run) for run in runs]
    figures = {"loss": draw(runs, curves)} if runs else {}
    axes = [key for key in (runs[0]["axes"] if runs else ()) if key != "model.cell"]
    if len(axes) == 2:
        for name, title in (("last_loss", "last loss"), ("volatility", "volatility")):
            values = [measures(curve["loss"])[name] for curve in curves]
            figures[name] = heat_map(runs, values, axes[0], axes[1], f"{title}, median over seeds")
    for name, figure in figures.items():
        file = io.BytesIO()
        figure.savefig(file, dpi=150)
        write_atomically(workdir / f"{name}.png", file.getvalue())
    return table, [workdir / f"{name}.png" for name in figures]


def curves_of(workdir: Path, run: dict[str, Any]) -> dict[str, np.ndarray]:
    """A run's curves by name, [epochs]; empty for a run that failed."""
    if run["status"] == "failed":
        return {"loss": np.array([]), "seconds_per_epoch": np.array([np.nan])}
    return dict(np.load(workdir / run["name"] / "curves.npz"))


def heat_map(runs: list[dict[str, Any]], values: list[float], row_key: str, column_key: str, title: str) -> Figure:
    """A panel for each cell: the median over seeds of `values`, against two axes of the study."""
    groups: dict[tuple, list[float]] = {}
    for run, value in zip(runs, values, strict=True):
        axes = run["axes"]
        groups.setdefault((run["config"]["model.cell"], str(axes[row_key]), str(axes[column_key])), []).append(value)
    medians = {key: float(np.median(group)) for key, group in groups.items()}
    cells, rows, columns = (list(dict.fromkeys(key[i] for key in medians)) for i in range(3))
    norm = matplotlib.colors.LogNorm(min(medians.values()), max(medians.values()))
    size = (1.5 + len(cells) * (1.2 + 0.9 * len(columns)), 2.2 + 0.55 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(cells), squeeze=False)[0]
    for panel, cell in zip(panels, cells, strict=True):
        grid = np.array([[medians.get((cell, row, column), np.nan) for column in columns] for row in rows])
        image = panel.imshow(grid, norm=norm, cmap="viridis_r", aspect="auto")
        panel.set(title=cell, xlabel=column_key, xticks=range(len(columns)), yticks=range(len(rows)))
        panel.set_xticklabels(columns, rotation=30, ha="right")
        panel.set_yticklabels(rows if panel is panels[0] else [])
        for (row, column), value in np.ndenumerate(grid):
            dark = norm(value) > 0.55
            panel.text(column, row, f"{value:.3g}", ha="center", va="center", color="white" if dark else "black")
    panels[0].set_ylabel(row_key)
    figure.colorbar(image, ax=panels, shrink=0.9)
    figure.suptitle(title)
    return figure


def summary(runs: list[dict[str, Any]], curves: list[dict[str, np.ndarray]]) -> str:
    """A Markdown table with a row per run."""
    rows = [["run", "parameters", "first loss", "last loss", "best loss", "volatility", "s/epoch", "status"]]
    for run, curve in zip(runs, curves, strict=True):
        status = run["status"] if run["diverged_at"] is None else f"diverged at epoch {run['diverged_at']}"
        first, measured = curve["loss"][0] if len(curve["loss"]) else np.nan, measures(curve["loss"])
        numbers = [f"{x:.4f}" for x in (first, measured["last_loss"], measured["best_loss"])]
        seconds = f"{np.median(curve['seconds_per_epoch']):.3f}"
        volatility = f"{measured['volatility']:.5f}"
        rows.append([run["name"], str(run["parameters"] or "-"), *numbers, volatility, seconds, status])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def draw(runs: list[dict[str, Any]], curves: list[dict[str, np.ndarray]]) -> Figure:
    """Loss against epoch, a line per run in its cell's colour, over the post's figure 3."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    axes = figure.subplots()
    epochs = max(len(curve["loss"]) for curve in curves)
    reference = figure_3()
    shown = reference["epoch"] <= max(epochs - 1, 5)
    for cell, colour in COLOURS.items():
        axes.plot(
            reference["epoch"][shown], reference[cell][shown], color=colour, alpha=0.3, linewidth=3,
            label=f"{cell.upper()}, the post's figure 3",
        )  # fmt: skip
    others = [cell for cell in {run["config"]["model.cell"]: 0 for run in runs} if cell not in COLOURS]
    colours = COLOURS | {cell: matplotlib.colormaps["Dark2"](i) for i, cell in enumerate(others)}
    labelled = set()
    for run, curve in zip(runs, curves, strict=True):
        cell = run["config"]["model.cell"]
        alone = len(runs) <= 4
        label = run["name"] if alone else cell
        axes.plot(curve["loss"], color=colours[cell], linewidth=1.0, alpha=1.0 if alone else 0.6,
                  label=label if label not in labelled else None)  # fmt: skip
        labelled.add(label)
    axes.set(xlabel="epoch", ylabel="loss (sum of the heads' mean squared errors)", yscale="log")
    axes.yaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axes.grid(which="both", alpha=0.2)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
