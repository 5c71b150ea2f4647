"""What the runs of a workdir say: the figure of their losses and the summary table."""

import csv
import json
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from rnn_compare.stats import volatility

# Blue and orange as in the post's figure; told apart by the colour-blind too.
COLOURS = {"lstm": "#0072B2", "gru": "#E66100"}


def figure_3() -> dict[str, np.ndarray]:
    """The post's loss curves, read off its figure 3: `epoch`, `lstm` and `gru`, each [200]."""
    with resources.files("rnn_compare").joinpath("figure3.csv").open() as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        table = [(float(row["epoch"]), float(row["lstm_loss"]), float(row["gru_loss"])) for row in rows]
    epoch, lstm, gru = np.array(table).T
    return {"epoch": epoch, "lstm": lstm, "gru": gru}


def write(workdir: Path, names: list[str]) -> str:
    """Writes `loss.png`, `summary.md` and returns the summary table as Markdown.

    Args:
        workdir: a study's workdir.
        names: the finished runs to show.
    """
    runs = [json.loads((workdir / name / "run.json").read_text()) for name in names]
    curves = [dict(np.load(workdir / name / "curves.npz")) for name in names]
    draw(runs, curves).savefig(workdir / "loss.png", dpi=150)
    table = summary(runs, curves)
    (workdir / "summary.md").write_text(table)
    return table


def summary(runs: list[dict[str, Any]], curves: list[dict[str, np.ndarray]]) -> str:
    """A Markdown table with a row per run."""
    rows = [["run", "parameters", "first loss", "last loss", "best loss", "volatility", "s/epoch", "status"]]
    for run, curve in zip(runs, curves, strict=True):
        loss = curve["loss"][np.isfinite(curve["loss"])]
        status = run["status"] if run["diverged_at"] is None else f"diverged at epoch {run['diverged_at']}"
        numbers = [f"{x:.4f}" for x in (loss[0], loss[-1], loss.min())] if len(loss) else ["-"] * 3
        seconds = f"{np.median(curve['seconds_per_epoch']):.3f}"
        rows.append([run["name"], str(run["parameters"]), *numbers, f"{volatility(loss):.5f}", seconds, status])
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
