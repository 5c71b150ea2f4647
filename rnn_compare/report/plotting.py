"""How the report's figures look: colours, dashes, widths, ticks, words on few lines."""

import io
import math
import re
import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from rnn_compare.report.results import Result

# Blue and orange as in the post's figure, and the rest of Okabe and Ito's palette that differs from them in grey too.
COLOURS = {"lstm": "#0072B2", "gru": "#E66100"}
OTHERS = ("#009E73", "#CC79A7", "#56B4E9", "#000000")
LINES, MARKERS = ("-", "--", ":", "-."), "os^Dvx"
# Inches. Of a figure that is 340 pixels wide on a phone, or 1,040 on a wide screen, an 11 point letter is then 10 or 15
# pixels high.
NARROW, WIDE = 5.2, 10.4
STYLE: Any = {
    "font.size": 11, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
    "svg.hashsalt": "rnn_compare",
}  # fmt: skip


def save(figure: Figure, form: str) -> bytes:
    """The figure as "png", or as "svg" without a background; the same figure gives the same bytes."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        how: Any = {"metadata": {"Date": None}, "transparent": True} if form == "svg" else {}
        figure.savefig(file, format=form, dpi=150, **how)
    return file.getvalue()


class Style:
    """How each cell of a study is drawn."""

    def __init__(self, runs: Iterable[Result], order: Iterable[str] | None = None):
        """The LSTM and the GRU always look the same, and come first unless an order is given."""
        cells = dict.fromkeys(run.contestant for run in runs)
        first = [cell for cell in (COLOURS if order is None else order) if cell in cells]
        self.cells = first + [cell for cell in cells if cell not in first]
        self._places = {cell: i for i, cell in enumerate([*COLOURS, *(c for c in self.cells if c not in COLOURS)])}

    def colour(self, cell: str) -> str:
        """Its colour."""
        return COLOURS.get(cell) or OTHERS[(self._places[cell] - len(COLOURS)) % len(OTHERS)]

    def line(self, cell: str) -> str:
        """Its dashes."""
        place = self._places[cell]
        return LINES[(place + max(0, place - len(COLOURS)) // len(OTHERS)) % len(LINES)]  # another where colours repeat

    def marker(self, cell: str) -> str:
        """Its marker."""
        return MARKERS[self._places[cell] % len(MARKERS)]


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Figure, np.ndarray]:
    """A figure, and its axes, [rows, columns]."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def filled(text: str, width: int) -> str:
    """A text on as few lines as hold its parts, which end with a comma or colon; the lines as short as that allows."""
    parts = re.sub(r"(?<![,:]) ", "\N{NO-BREAK SPACE}", text)
    cuts = [textwrap.wrap(parts, w, break_long_words=False, break_on_hyphens=False) for w in range(width, 0, -1)]
    return "\n".join([lines for lines in cuts if len(lines) == len(cuts[0])][-1])


def log_x(axes: Axes, include: float | None = None) -> None:
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
    log_ticks(axes.xaxis, low / room, high * room)
    axes.tick_params(axis="x", labelsize=9)


def log_ticks(axis: Axis, low: float, high: float) -> None:
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
