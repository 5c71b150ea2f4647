import itertools
import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from rnn_compare.report.plotting import NARROW, Style, canvas, filled, log_ticks, log_x
from rnn_compare.report.reading import load


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("#1 periods 40 + 200, discount 0.95, window 1", ["#1 periods 40 + 200,", "discount 0.95, window 1"]),
        ("one two, three four, five six, seven", ["one two, three four,", "five six, seven"]),  # no word is left alone
        ("all", ["all"]),
        ("x" * 50, ["x" * 50]),
    ],
)
def test_a_title_is_cut_between_its_parts_into_lines_of_about_one_length(title, lines):
    assert filled(title, 35).replace("\N{NO-BREAK SPACE}", " ").split("\n") == lines


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.9, 1e3, [1, 10, 100, 1000]),
        (0.9, 35, [1, 3, 10, 30]),
        (0.15, 2.2, [0.2, 0.5, 1, 2]),
        (0.22, 1.07, [0.3, 0.5, 0.7, 1]),
    ],
)
def test_a_logarithmic_axis_has_round_numbers(low, high, ticks):
    axes = Figure().subplots()
    axes.set(xscale="log", xlim=(low, high))
    log_ticks(axes.xaxis, low, high)
    np.testing.assert_allclose(axes.get_xticks(), ticks)


@pytest.mark.parametrize("low", [0.003, 0.95, 1.0, 4.9])
@pytest.mark.parametrize("ratio", [1.02, 1.05, 1.3, 2, 4, 9, 30, 200, 1e5, 1e12])
def test_a_logarithmic_axis_has_at_least_three_labels_that_do_not_overlap(low, ratio):
    figure, panels = canvas(NARROW, 2, 1, 2)
    axes = panels[0, 0]
    axes.plot([low, low * ratio], [0, 0])
    log_x(axes)
    figure.draw_without_rendering()
    start, end = axes.get_xlim()
    labels = [tick.label1 for tick in axes.xaxis.get_major_ticks() if start <= tick.get_loc() <= end]
    assert len({label.get_text() for label in labels}) == len(labels) >= 3
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_sixteen_contestants_beside_the_two_are_told_apart_by_colour_and_dashes(make_study, curve):
    study = make_study(1, {"model.units": tuple(range(1, 17))})
    study.config |= {"compare.axis": "model.units"}
    (study.folder / "config.json").write_text(json.dumps({"format": 1, **study.config}))
    for units in range(1, 17):
        study.add("lstm", 0, curve(1, 0.1), f"lstm-{units}", {"model.units": units})
    style = Style(load(study.folder).runs)
    assert len({(style.colour(name), style.line(name)) for name in style.cells}) == 16
