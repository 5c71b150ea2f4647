import json
import math

import numpy as np
import pytest

from rnn_compare import report
from rnn_compare.report import figures
from rnn_compare.report.plotting import COLOURS, WIDE, Style
from rnn_compare.report.reading import load
from rnn_compare.statistics.ranking import compare
from rnn_compare.tasks.price import Price


def test_figure_3_is_the_whole_curve():
    figure = figures.figure_3()
    assert len(figure["epoch"]) == 200
    assert (figure["epoch"][0], figure["epoch"][-1]) == (0, 995)
    assert (figure["lstm"][0], figure["gru"][0]) == (4.521, 4.357)


def test_the_loss_figure_has_every_seed_the_median_the_middle_half_and_the_reference(study):
    study.lose("lstm-s4")
    runs = load(study.folder).runs
    axes = figures.loss({"all": runs}, Style(runs), Price, post=True).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert "LSTM, median of 10 seeds (1 diverged)" in lines
    median = lines["GRU, median of 10 seeds"]
    np.testing.assert_allclose(median.get_ydata()[-1], 0.8 * (1.05 + 1 / 1.05) / 2 * math.exp(0.05), rtol=1e-5)
    assert median.get_color() == lines["GRU in the post's figure 3"].get_color() == "#E66100"
    # In grey print too: all of a cell's lines have its dashes, and the cells' differ.
    dashes = {color: {line.get_linestyle() for line in axes.lines if line.get_color() == color}
              for color in COLOURS.values()}  # fmt: skip
    assert dashes == {"#0072B2": {"-"}, "#E66100": {"--"}}
    assert len(axes.lines) == 2 + 2 + 20
    assert len(axes.collections) == 2


def test_of_several_settings_the_loss_figure_shows_no_curve_of_the_post(study):
    study.lose("lstm-s4")
    runs = load(study.folder).runs
    figure = figures.loss({f"#{i} periods 40 + 200, window 1": runs for i in range(20)}, Style(runs), Price)
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == figures.PANELS == 16
    assert {len(axes.lines) for axes in panels} == {2 + 20}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "LSTM, median of 10 seeds (16 of 160 runs diverged)", "GRU, median of 10 seeds"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seeds", "end", "title"),
    [
        (7, 0.5, "undecided (7 pairs, 10 needed)"),
        (7, 1.0, "undecided"),
        (3, 1.0, "undecided (3 pairs, 10 needed)"),  # of which there is no interval
    ],
)
def test_the_figure_says_where_only_pairs_are_missing(seeds, end, title, make_study, curve):
    study = make_study(seeds)
    for seed in range(seeds):
        study.add("lstm", seed, curve(1.0, 0.2))
        study.add("gru", seed, curve(end * 1.05 ** (seed - seeds // 2), 0.2))
    figure = figures.differences({"all": study.judge()})
    assert figure.axes[0].get_title(loc="left").replace("\n", " ").split(": ")[1].replace("\xa0", " ") == title


def test_a_prediction_is_drawn_as_a_prediction_and_a_target_as_a_target(study):
    runs = load(study.folder).runs
    stretch = {"targets": np.full((30, 7), 1.0), "predictions": np.full((30, 7), 2.0), "change": np.full(30, 3.0)}
    figure = figures.predictions({"lstm": stretch, "gru": stretch | {"predictions": stretch["predictions"] + 1}},
                                 Style(runs), Price)  # fmt: skip
    change, *heads = figure.axes
    assert set(change.lines[0].get_ydata()) == {3}
    assert len(heads) == 7
    for axes in heads:
        assert [(line.get_label(), *set(line.get_ydata())) for line in axes.lines] == [
            ("target", 1), ("lstm", 2), ("gru", 3)
        ]  # fmt: skip


def test_a_run_that_diverged_at_once_is_drawn_as_nothing(make_study, curve):
    study = make_study(1)
    study.add("lstm", 0, [math.nan] * 3, status="diverged", diverged_at=0, held_out={"loss": math.nan})
    study.add("gru", 0, curve(1, 0.1))
    assert "distributions" in report.draw(load(study.folder), {})
    assert "diverged at epoch 0" in study.write()[0]


def test_a_heat_map_shows_the_median_over_the_runs_that_finished(tmp_path, make_study, curve):
    study = make_study(4, {"model.cell": ("lstm",), "model.units": (8,), "data.window": (1, 2)})
    axes = {"model.cell": "lstm", "model.units": 8, "data.window": 1}
    for seed, end in enumerate((1.0, 2.0, 4.0)):
        study.add("lstm", seed, curve(end, 0), axes=axes)
    study.add(
        "lstm", 3, [*curve(0.1, 0)[:-1], math.nan], axes=axes, status="diverged", diverged_at=make_study.epochs - 1
    )
    study.add("lstm", 0, [math.nan], name="all", axes=axes | {"data.window": 2}, status="diverged", diverged_at=0)
    runs = load(tmp_path).runs
    figure = figures.heat_map(runs, "last_loss", "model.units", "data.window", Style(runs))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "–"]


def test_a_sweep_of_very_many_settings_is_cut_where_it_is_drawn(study):
    runs = load(study.folder).runs[:1]
    groups = {f"#{i} units {i}": runs for i in range(130)}
    assert len(figures.distributions(groups, Style(runs)).axes[0].get_yticks()) == figures.ROWS
    verdicts = study.judge()
    assert len(figures.differences(dict.fromkeys(groups, verdicts)).axes[0].get_yticks()) == figures.ROWS


def test_captions_say_what_is_cut(make_study, curve):
    discounts = tuple(round(0.9 + i / 1000, 4) for i in range(61))
    study = make_study(1, {"model.cell": ("lstm", "gru"), "data.discount": discounts})
    for i, discount in enumerate(discounts):
        study.add("lstm", 0, curve(1, 0.1), f"lstm-{i}", {"model.cell": "lstm", "data.discount": discount})
    captions = {name: caption for name, (_, caption) in report.draw(load(study.folder), {}).items()}
    assert "The first 16 of 61 settings" in captions["loss"]
    assert "The first 60 of 61 settings" in captions["distributions"]
    assert "A setting's number is that of the table below" in captions["distributions"]


def test_a_wide_screen_has_figures_of_its_own(study):
    results = load(study.folder)
    judged = {"all": study.judge()}
    wide = report.draw(results, judged, WIDE)
    assert set(wide) == {"loss", "distributions", "differences", "predictions"}
    assert {figure.get_size_inches()[0] for figure, _ in wide.values()} == {WIDE}
    assert set(report.draw(results, judged)) == {*wide, "held_out"}


def test_the_posts_curves_are_drawn_in_the_posts_setting_alone(make_study, curve):
    study = make_study(1)
    study.add("lstm", 0, curve(1, 0.1))

    def drawn():
        figure, caption = report.draw(load(study.folder), {})["loss"]
        return sum("figure 3" in str(line.get_label()) for line in figure.axes[0].lines), "figure 3" in caption

    assert drawn() == (0, False)  # it has 24 epochs
    study.config["train.epochs"] = 1000
    (study.folder / "config.json").write_text(json.dumps(study.config))
    study.add("lstm", 0, curve(1, 0.1), "lstm-of-1000")
    assert drawn() == (2, True)


def test_a_run_that_has_not_ended_is_drawn_as_far_as_it_is_and_apart_from_the_median(study, curve):
    study.config["seeds"] = 12
    (study.folder / "config.json").write_text(json.dumps(study.config))
    study.begin("gru", 10, curve(0.01, 0)[:13])
    study.begin("gru", 11, curve(0.01, 0)[:7])
    results = load(study.folder)
    figure, caption = report.draw(results, {})["loss"]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    so_far = lines["GRU, 2 runs unfinished, at epoch 7 to 13 of 24"]
    assert (len(so_far.get_ydata()), so_far.get_marker(), so_far.get_markevery()) == (7, "o", [6])
    assert "GRU, median of 10 seeds" in lines
    assert lines["GRU, median of 10 seeds"].get_ydata()[-1] > 0.5
    assert "An open circle: where a run is that has not ended." in caption
    assert len(figures.distributions({"all": results.runs}, Style(results.runs)).axes[0].lines[2].get_ydata()) == 10


def test_against_time_a_curve_is_as_long_as_its_epochs_took(study):
    study.speed(auto=(1.99, 2.01))
    results = load(study.folder)
    assert results.epoch_seconds(results.runs[0]) == pytest.approx(0.1, rel=1e-2)  # twice the GRU's 0.05
    drawn = report.draw(results, {})
    (axes,) = drawn["loss_in_time"][0].axes
    ends = {line.get_label().split(",")[0]: line.get_xdata()[-1] for line in axes.lines if line.get_label()[0] != "_"}
    epochs = study.epochs - 1
    assert ends == {"LSTM": pytest.approx(epochs * 0.1 / 60, rel=1e-2), "GRU": pytest.approx(epochs * 0.05 / 60)}
    _, markdown = study.write()
    assert "s to a loss of 1" in markdown


def test_the_matrix_of_many_has_a_dot_for_each_pair_that_differs():
    rng = np.random.default_rng(0)
    measures = {f"{i}": 2.0**i * np.exp(rng.normal(0, 0.01, 10)) for i in range(13)}
    ranking = compare(measures, 10, 0.05)
    axes, _ = figures.matrix(ranking).axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(measures)
    decided = [pair for pair in ranking.pairs.values() if pair.lower or pair.higher]
    assert len(axes.lines[0].get_xdata()) == len(decided) > 0
    ratios = axes.images[0].get_array()
    assert ratios[0, 12] == pytest.approx(2.0**-12, rel=0.05)
    assert ratios[0, 12] * ratios[12, 0] == pytest.approx(1)
