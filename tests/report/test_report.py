import itertools
import json
import math
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from rnn_compare import config, report
from rnn_compare.config import UserError
from rnn_compare.report import claims, contents, document, figures
from rnn_compare.report.results import load
from rnn_compare.statistics.paired import Paired
from rnn_compare.workdir.runs import as_json

EPOCHS = 24


def curve(end, step):
    """A falling loss that stays at `end`, going up and down by a factor of exp(step) in the second half."""
    second = end * np.exp(step * (np.arange(EPOCHS // 2) % 2))
    return np.concatenate([np.linspace(4, end, EPOCHS // 2), second])


class Study:
    """A workdir as a study leaves it, without training."""

    def __init__(self, folder, seeds, sweep=None):
        self.folder = folder
        base = config.base()
        base.seeds, base.train.epochs = seeds, EPOCHS
        base.sweep = sweep or {"model.cell": ("lstm", "gru")}
        self.config = as_json(config.validate(base))
        (folder / "config.json").write_text(json.dumps({"format": 1, **self.config}))

    def add(self, cell, seed, loss, name=None, axes=None, **about):
        name = name or f"{cell}-s{seed}"
        axes = axes or {"model.cell": cell}
        run = {"name": name, "seed": seed, "axes": axes, "status": "finished", "diverged_at": None, "parameters": 99,
               "held_out": {"loss": 1.25}, "config": self.config | axes} | about  # fmt: skip
        (self.folder / name).mkdir()
        (self.folder / name / "run.json").write_text(json.dumps(run))
        loss = np.asarray(loss, np.float32)
        np.savez(self.folder / name / "curves.npz", loss=loss, seconds_per_epoch=np.full_like(loss, 0.25))
        stretch = np.ones((30, 7), np.float32)
        np.savez(self.folder / name / "predictions.npz", predictions=stretch, targets=stretch, change=stretch[:, 0])

    def speed(self, **backends):
        """Measurements, each given by its ratios, low and high."""
        content = []
        for backend, (ratios, low, high) in backends.items():
            gru = np.full(len(ratios), 0.05)
            ratio = float(np.exp(np.mean(np.log(ratios))))
            content.append({"train.backend": backend, "backend": "cpu" if backend == "auto" else backend,
                            "device": "a box", "units": 16, "pairs": len(ratios), "ratio": ratio, "low": low,
                            "high": high, "lstm_seconds": list(gru * ratios), "gru_seconds": list(gru)})  # fmt: skip
        (self.folder / "speed.json").write_text(json.dumps(content))

    def lose(self, name):
        """Makes a run one that diverged."""
        path = self.folder / name / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged", "diverged_at": 7}))

    def write(self):
        report.write(self.folder)
        return (self.folder / "report.html").read_text(), (self.folder / "report.md").read_text()

    def judge(self):
        results = load(self.folder)
        return claims.judge(results, results.runs)


@pytest.fixture
def study(tmp_path):
    """Ten seeds in which the GRU ends at 0.8 of the LSTM's loss on average, and has a quarter of its volatility."""
    made = Study(tmp_path, 10)
    for seed in range(10):
        made.add("lstm", seed, curve(1.0, 0.2))
        made.add("gru", seed, curve(0.8 * 1.05 ** (-1) ** seed, 0.05))
    return made


def test_figure_3_is_the_whole_curve():
    figure = figures.figure_3()
    assert len(figure["epoch"]) == 200
    assert (figure["epoch"][0], figure["epoch"][-1]) == (0, 995)
    assert (figure["lstm"][0], figure["gru"][0]) == (4.521, 4.357)


def test_verdicts_have_the_numbers_that_one_gets_by_hand(study):
    lower, volatile, faster = study.judge()
    # The last ten epochs are five at the end and five above it: the median is the mean of both.
    effect = 0.8 * (1 + math.exp(0.05)) / (1 + math.exp(0.2))
    assert lower.result.effect == pytest.approx(effect, rel=1e-5)
    assert (lower.word, lower.result.n, lower.gru_better, lower.left_out) == ("holds", 10, 1, 0)
    assert volatile.result.effect == pytest.approx(4, rel=1e-4)
    assert (volatile.word, volatile.gru_better) == ("holds", 1)
    assert lower.result.p_value == pytest.approx(2 / 2**10)  # all ten on one side
    assert (faster.word, faster.decide) == ("undecided", "speed was not measured")
    html, markdown = study.write()
    for text in (html, markdown):
        assert "The GRU ends at the lower loss" in text
        assert f"{effect:.4g}" in text
        assert "it is decided, by 10 pairs of runs" in text
        assert re.search(r"Wilcoxon p(: |</dt><dd>)0.001953", text)
        assert "in 100% of the pairs" in text
        assert text.index("? undecided" if text == markdown else "?</span> undecided") < text.index("Loss curves")
    assert "✓</span> holds" in html
    assert "? undecided" in markdown


def test_a_claim_that_does_not_hold_and_one_that_is_undecided(tmp_path):
    study = Study(tmp_path, 10)
    for seed in range(10):
        study.add("lstm", seed, curve(1, 0.1 * 2 ** (-1) ** seed))
        study.add("gru", seed, curve(1.3 * 1.05 ** (-1) ** seed, 0.1 * 1.1))
    lower, volatile, _ = study.judge()
    assert (lower.word, volatile.word) == ("does not hold", "undecided")
    assert re.fullmatch(r"about \d+ pairs of runs, if the effect stays where it is|no number .*", volatile.decide)
    html, markdown = study.write()
    assert "✗</span> does not hold" in html
    assert "✗ does not hold" in markdown
    assert volatile.decide in html


def test_with_too_few_seeds_nothing_is_judged(tmp_path):
    study = Study(tmp_path, 3)
    for seed in range(3):
        study.add("lstm", seed, curve(1.0, 0.2))
        study.add("gru", seed, curve(0.5 + 0.01 * seed, 0.1))
    lower, _, _ = study.judge()
    assert lower.result.high < 1
    assert (lower.word, lower.decide) == ("undecided", "too few pairs of runs (3): at least 10 pairs of runs")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1.03, 1.045, "holds"), (1.0, 1.02, "does not hold"), (1.05, 1.07, "does not hold"), (1.02, 1.04, "undecided")],
)
def test_speed_is_judged_by_the_measured_interval(study, low, high, word):
    study.speed(auto=(np.array([1.03, 1.04, 1.05, 0.99]), low, high), scan=([2.0, 2.0], 2.0, 2.0))
    faster = study.judge()[2]
    assert (faster.word, faster.result.n, faster.gru_better) == (word, 4, 0.75)
    assert faster.claim.title == "The GRU trains 3.84% faster"
    assert faster.claim.bounds == pytest.approx((1.0284, 1.0484))
    html, _ = study.write()
    assert "the post&#x27;s number is from its own GPU; ours is for this machine and backend" in html
    assert "<dt>measured on</dt><dd>backend cpu, device a box</dd>" in html
    assert "backend cpu, device a box, 16 units" in html


def test_pairs_with_a_run_that_diverged_are_left_out_and_counted(study):
    study.lose("gru-s4")
    lower = study.judge()[0]
    assert (lower.result.n, lower.left_out, lower.word) == (9, 1, "undecided")
    html, _ = study.write()
    assert "<dd>9; 1 left out (LSTM diverged in 0, GRU in 1)</dd>" in html
    assert "diverged at epoch 7" in html
    assert "1 of them diverged and 0 failed" in html


def test_a_loss_that_never_moves_has_no_volatility_to_compare(study):
    study.add("lstm", 0, np.ones(EPOCHS), name="flat")  # in the place of lstm-s0: the last one counts
    (study.folder / "lstm-s0" / "run.json").unlink()
    lower, volatile, _ = study.judge()
    assert (lower.result.n, lower.why) == (10, "")
    assert (volatile.result.n, volatile.why) == (9, "LSTM has no such measure in 1, GRU in 0")


def test_a_left_out_pair_says_how_its_runs_ended():
    assert claims.why(["diverged", "diverged", "failed"], ["diverged"]) == (
        "LSTM diverged in 2, GRU in 1; LSTM failed in 1, GRU in 0"
    )


@pytest.mark.parametrize(
    ("paired", "least", "words"),
    [
        (Paired(10, 0.5, 0.25, 2, 1, 0), 10, "about 40 seeds"),  # in logarithms twice as wide as it may be: 10 · 2²
        (Paired(10, 1.0, 0.8, 1.1, 1, 0), 10, "no number of seeds"),
        (Paired(4, 0.5, 0.25, 2, 1, 0), 10, "too few seeds (4): at least 16 seeds"),
        (Paired(0, *[math.nan] * 5), 10, "too few seeds (0): at least 10 seeds"),
    ],
)
def test_what_would_decide(paired, least, words):
    claim = claims.Claim("", "", (0, 1), "", "final_loss", "gru")
    assert claims.what_decides(claim, paired, "undecided", "seeds", least).startswith(words)


def test_rounding_up():
    assert [claims.round_up(n) for n in (7, 23, 99, 101, 137, 1234)] == [7, 23, 99, 110, 140, 1300]


def test_each_setting_has_its_verdict(tmp_path):
    ends = {0.9: 0.5, 0.95: 2.0, 0.99: 0.5}
    study = Study(tmp_path, 10, {"model.cell": ("lstm", "gru"), "data.discount": tuple(ends)})
    for discount, end in ends.items():
        for seed in range(10):
            for cell, loss in (("lstm", curve(1.0, 0.1)), ("gru", curve(end * 1.01 ** (-1) ** seed, 0.05))):
                study.add(cell, seed, loss, f"{cell}-{discount}-{seed}",
                          {"model.cell": cell, "data.discount": discount})  # fmt: skip
    study.lose("gru-0.99-3")
    html, markdown = study.write()
    lower, volatile = (
        [[cell.strip() for cell in row.split("|")[1:-1]] for row in part.splitlines() if row.startswith("| #")]
        for part in re.split("\n### .*\n", markdown)[1:3]
    )
    effect = 0.5 * (1 + math.exp(0.05)) / (1 + math.exp(0.1))
    assert float(lower[0].pop(2)) == pytest.approx(effect, rel=1e-3)
    low, high = map(float, lower[0].pop(2).split(" to "))
    assert effect / 1.01 < low < effect < high < effect * 1.01
    assert lower[0] == [
        "#1 discount 0.9",
        "✓ holds",
        "10",
        "0",
        "100%",
        "0.001953",
        "it is decided, by 10 pairs of runs",
    ]
    assert lower[1][:2] == ["#2 discount 0.95", "✗ does not hold"]
    assert lower[1][6] == "0%"
    assert lower[2][:2] == ["#3 discount 0.99", "? undecided"]
    assert lower[2][4:6] == ["9", "1 (LSTM diverged in 0, GRU in 1)"]
    assert lower[2][8] == "too few pairs of runs (9): at least 10 pairs of runs"
    assert [row[1] for row in volatile] == ["✓ holds", "✓ holds", "? undecided"]
    titles = ["### The GRU ends at the lower loss", "### The LSTM's loss is the more volatile"]
    assert [line for line in markdown.splitlines() if line.startswith("### ")][:2] == titles
    counts = (
        ("The GRU ends at the lower loss", "holds in 1, does not hold in 1, undecided in 1"),
        ("The LSTM's loss is the more volatile", "holds in 2, does not hold in 0, undecided in 1"),
    )
    for title, count in counts:
        assert f"“{title}” {count}." in markdown
        assert f"- {title}: {count} of 3 settings\n" in (tmp_path / "summary.md").read_text()
    assert "Every measure" not in html
    assert "A setting&#x27;s number is that of the table below" in html


def test_speed_is_that_of_a_runs_own_backend_and_shown_once(tmp_path):
    backends, discounts = ("scan", "cpu"), (0.9, 0.95)
    study = Study(tmp_path, 1, {"model.cell": ("lstm", "gru"), "train.backend": backends, "data.discount": discounts})
    for backend in backends:
        for discount in discounts:
            for cell in ("lstm", "gru"):
                study.add(cell, 0, curve(1, 0.1), f"{cell}-{backend}-{discount}",
                          {"model.cell": cell, "train.backend": backend, "data.discount": discount})  # fmt: skip
    study.speed(scan=([1.03, 1.04], 1.03, 1.04), cpu=([1.2, 1.3], 1.2, 1.3))
    results = load(tmp_path)
    labels = results.labels()
    judged = {labels[setting]: claims.judge(results, runs) for setting, runs in results.by_setting().items()}
    assert [row[2].word for row in judged.values()] == ["holds", "holds", "does not hold", "does not hold"]
    html, _ = study.write()
    for backend in backends:
        assert html.count(f"<dd>backend {backend}, device a box</dd>") == 1
    axes = figures.differences(judged).axes[2]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(backends)
    summary = (tmp_path / "summary.md").read_text()
    assert len(re.findall(r"- The GRU trains .*✓ holds .*; backend scan, device a box\n", summary)) == 1
    assert len(re.findall(r"- The GRU trains .*✗ does not hold .*; backend cpu, device a box\n", summary)) == 1


def test_a_study_of_one_cell_has_no_verdicts(tmp_path):
    study = Study(tmp_path, 2, {"model.cell": ("lstm", "gru_reset_before")})
    for cell in ("lstm", "gru_reset_before"):
        study.add(cell, 0, curve(1, 0.1))
    html, _ = study.write()
    assert "No claim of the post can be judged" in html
    assert "<article" not in html


def test_nothing_is_executed_and_nothing_is_loaded(study):
    evil = "<script>alert(1)</script>|[x](javascript:1)"
    study.config["seeds"] = 12
    (study.folder / "config.json").write_text(json.dumps(study.config))
    study.add("lstm", 10, [], "x&<script>", status="failed", error=evil)
    study.add("gru", 11, curve(1, 0.1), "javascript:alert(1)")
    (study.folder / "environment.json").write_text(
        json.dumps({"command": evil, "cpu": evil, "packages": {"jax": evil}})
    )
    html, markdown = study.write()
    assert "<script" not in html
    assert "failed: &lt;script&gt;" in html
    assert 'href="javascript%3Aalert%281%29/"' in html
    links = re.findall(r'(?:src|href)="?([^"\s>]+)', html)
    assert links
    assert all(
        link.startswith(("data:image/svg+xml;base64,", "lstm-", "gru-", "x%26", "javascript%3A")) for link in links
    )
    assert "http" not in re.sub(r'base64,[^"]*|http-equiv', "", html)
    assert "default-src 'none'" in html
    prose = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "<script" not in prose
    assert "](javascript:" not in prose.replace(r"\]", "")


def test_a_study_that_is_still_running(study):
    (study.folder / "gru-s9" / "run.json").unlink()
    (study.folder / "checkpoints").mkdir()
    html, markdown = study.write()
    for text in (html, markdown):
        assert "19 of 20 runs have ended. Not finished: 1; all that follows is provisional" in text
    assert "too few pairs of runs (9)" in html


def test_a_study_of_which_no_run_has_ended_yet(tmp_path):
    html, _ = Study(tmp_path, 2).write()
    assert "0 of 4 runs have ended" in html
    assert "<img" not in html


def test_runs_that_the_config_no_longer_has_are_left_out(study):
    study.config["seeds"] = 9
    (study.folder / "config.json").write_text(json.dumps(study.config))
    assert len(load(study.folder).runs) == 18


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("gru-s3/run.json", "{"),
        ("gru-s3/run.json", "[]"),
        ("gru-s3/run.json", '{"name": "x"}'),
        ("gru-s3/curves.npz", "PK"),
        ("gru-s3/curves.npz", ""),
        ("gru-s0/predictions.npz", "x"),
        ("config.json", "nothing"),
        ("speed.json", "{}"),
        ("speed.json", "[{}]"),
        (
            "speed.json",
            '[{"train.backend": "auto", "backend": "cpu", "units": 16, "lstm_seconds": [1, 2], "gru_seconds": [1, 2], '
            '"ratio": 1, "low": 1, "high": 1}]',
        ),
        ("environment.json", "3"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(study, file, content):
    (study.folder / file).write_text(content)
    with pytest.raises(UserError, match=f"{file} cannot be read") as error:
        report.write(study.folder)
    assert "\n" not in str(error.value)


def test_the_table_of_a_run(study):
    row = next(line for line in study.write()[1].splitlines() if line.startswith("| [gru-s0]"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    end = 0.8 * 1.05
    expected = [end * (1 + math.exp(0.05)) / 2, end * math.exp(0.05), 1.25, end, 0.05, 0, 0.25]
    assert cells[:3] == ["[gru-s0](gru-s0/)", "finished", "99"]
    assert [float(cell) for cell in cells[3:10]] == pytest.approx(expected, rel=1e-3)
    assert cells[10] == "[run.json](gru-s0/run.json)"
    row = next(line for line in (study.folder / "summary.md").read_text().splitlines() if line.startswith("| gru-s0 "))
    assert [float(cell) for cell in row.split("|")[2:-2]] == pytest.approx(
        [99, 4, end * math.exp(0.05), end, 1.25, 0.05, 0.25], abs=1e-3
    )


def test_times_are_summed_over_runs(study):
    html, _ = study.write()
    assert "All training together took 2.0 minutes" in html  # 20 runs of 24 epochs of 0.25 s


def test_the_loss_figure_has_every_seed_the_median_the_middle_half_and_the_reference(study):
    study.lose("lstm-s4")
    runs = load(study.folder).runs
    axes = figures.loss({"all": runs}, figures.Style(runs)).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    assert "LSTM, median of 10 seeds (1 diverged)" in lines
    median = lines["GRU, median of 10 seeds"]
    np.testing.assert_allclose(median.get_ydata()[-1], 0.8 * (1.05 + 1 / 1.05) / 2 * math.exp(0.05), rtol=1e-5)
    assert median.get_color() == lines["GRU in the post's figure 3"].get_color() == "#E66100"
    # In grey print too: all of a cell's lines have its dashes, and the cells' differ.
    dashes = {color: {line.get_linestyle() for line in axes.lines if line.get_color() == color}
              for color in figures.COLOURS.values()}  # fmt: skip
    assert dashes == {"#0072B2": {"-"}, "#E66100": {"--"}}
    assert len(axes.lines) == 2 + 2 + 20
    assert len(axes.collections) == 2


def test_of_several_settings_the_loss_figure_shows_no_curve_of_the_post(study):
    study.lose("lstm-s4")
    runs = load(study.folder).runs
    figure = figures.loss({f"#{i} periods 40 + 200, window 1": runs for i in range(20)}, figures.Style(runs))
    panels = [axes for axes in figure.axes if axes.lines]
    assert len(panels) == figures.PANELS == 16
    assert {len(axes.lines) for axes in panels} == {2 + 20}
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "LSTM, median of 10 seeds (16 of 160 runs diverged)", "GRU, median of 10 seeds"
    ]  # fmt: skip


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
    assert figures._filled(title, 35).replace("\N{NO-BREAK SPACE}", " ").split("\n") == lines


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
    figures._log_ticks(axes.xaxis, low, high)
    np.testing.assert_allclose(axes.get_xticks(), ticks)


@pytest.mark.parametrize("low", [0.003, 0.95, 1.0, 4.9])
@pytest.mark.parametrize("ratio", [1.02, 1.05, 1.3, 2, 4, 9, 30, 200, 1e5, 1e12])
def test_a_logarithmic_axis_has_at_least_three_labels_that_do_not_overlap(low, ratio):
    figure, panels = figures._figure(2, 1, 2)
    axes = panels[0, 0]
    axes.plot([low, low * ratio], [0, 0])
    figures._log_x(axes)
    figure.draw_without_rendering()
    start, end = axes.get_xlim()
    labels = [tick.label1 for tick in axes.xaxis.get_major_ticks() if start <= tick.get_loc() <= end]
    assert len({label.get_text() for label in labels}) == len(labels) >= 3
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize(("end", "title"), [(0.5, "undecided (3 pairs, 10 needed)"), (1.0, "undecided")])
def test_the_figure_says_where_only_pairs_are_missing(tmp_path, end, title):
    study = Study(tmp_path, 3)
    for seed in range(3):
        study.add("lstm", seed, curve(1.0, 0.2))
        study.add("gru", seed, curve(end * 1.05 ** (seed - 1), 0.2))
    figure = figures.differences({"all": study.judge()})
    assert figure.axes[0].get_title(loc="left").replace("\n", " ").split(": ")[1].replace("\xa0", " ") == title


def test_a_prediction_is_drawn_as_a_prediction_and_a_target_as_a_target(study):
    runs = load(study.folder).runs
    stretch = {"targets": np.full((30, 7), 1.0), "predictions": np.full((30, 7), 2.0), "change": np.full(30, 3.0)}
    figure = figures.predictions({"lstm": stretch, "gru": stretch | {"predictions": stretch["predictions"] + 1}},
                                 figures.Style(runs))  # fmt: skip
    change, *heads = figure.axes
    assert set(change.lines[0].get_ydata()) == {3}
    assert len(heads) == 7
    for axes in heads:
        assert [(line.get_label(), *set(line.get_ydata())) for line in axes.lines] == [
            ("target", 1), ("lstm", 2), ("gru", 3)
        ]  # fmt: skip


def test_every_measure_is_compared_by_its_ratio_or_its_difference(tmp_path):
    study = Study(tmp_path, 3)
    for seed in range(3):
        study.add("lstm", seed, [4.0, 2.0, 1.0, *[1.0, 2.0] * 5, *[1.0] * 10], held_out={"loss": 2.0})
        study.add("gru", seed, [4.0, 2.0, *[0.5] * 20, 0.625], held_out={"loss": 1.0})
    study.lose("gru-s2")
    lines = study.write()[1].split("Every measure")[1].splitlines()
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in lines if re.search(" GRU [/−] ", row)]
    ratio, difference = "GRU / LSTM", "GRU − LSTM"
    by_hand = [
        ("final loss", ratio, 0.5),
        ("last loss", ratio, 0.625),
        ("best loss", ratio, 0.5),
        ("area", ratio, (2 + 2 + 20 * 0.5 + 0.3125) / (2 + 2 + 1 + 5 * 3 + 9.5)),
        ("held-out loss", ratio, 0.5),
        ("volatility", ratio, math.log(1.25) / (2 * math.log(2))),
        ("spikes", difference, 1 - 5),
        ("spike size", difference, math.log(1.25) - math.log(2)),
        ("epochs to level", difference, 0),
    ]
    assert [tuple(row[:2]) for row in rows] == [(name, how) for name, how, _ in by_hand]
    for row, (*_, effect) in zip(rows, by_hand, strict=True):
        # The two pairs that are left are alike: the interval has no width.
        assert [float(x) for x in (row[2], *row[3].split(" to "))] == pytest.approx([effect] * 3, rel=1e-3)
        assert row[4] == "2"
    assert [row[5:] for row in rows] == [["100%", "0.5"]] * 8 + [["50%", "1"]]


@pytest.mark.parametrize(
    ("x", "borders", "text"),
    [
        (1.00005, [1], "1.0001"),
        (0.99996, [1], "0.99996"),
        (1.0, [1], "1"),
        (1.00005, [], "1"),
        (1.02843, [1.0284, 1.0484], "1.02843"),
        (0.98765432, [1], "0.9877"),
        (1.23456e-9, [0], "1.23e-09"),
        (-1.23456e-9, [0], "-1.23e-09"),
        (math.nan, [1], "–"),
        (math.inf, [1, math.inf], "inf"),
    ],
)
def test_a_number_is_not_rounded_onto_a_border(x, borders, text):
    assert contents.number(x, borders) == text


def test_the_machine_and_the_versions_are_shown(study):
    machine = {"cpu": "a fast one", "cores": 12, "packages": {"rnn_compare": "0.1.0", "commit": "12ab-dirty"}}
    (study.folder / "environment.json").write_text(json.dumps(machine))
    html, markdown = study.write()
    for name, value in (("cpu", "a fast one"), ("cores", "12"), ("rnn_compare", "0.1.0"), ("commit", "12ab-dirty")):
        assert re.search(rf'<td class="">{name}</td><td class="[a-z]*">{value}</td>', html)
        assert re.search(rf"\| {name} +\| {value} +\|", markdown)


def test_a_run_that_diverged_at_once_is_drawn_as_nothing(tmp_path):
    study = Study(tmp_path, 1)
    study.add("lstm", 0, [math.nan] * 3, status="diverged", diverged_at=0, held_out={"loss": math.nan})
    study.add("gru", 0, curve(1, 0.1))
    html, _ = study.write()
    assert "diverged at epoch 0" in html


def test_a_heat_map_shows_the_median_over_the_runs_that_finished(tmp_path):
    study = Study(tmp_path, 4, {"model.cell": ("lstm",), "model.units": (8,), "data.window": (1, 2)})
    axes = {"model.cell": "lstm", "model.units": 8, "data.window": 1}
    for seed, end in enumerate((1.0, 2.0, 4.0)):
        study.add("lstm", seed, curve(end, 0), axes=axes)
    study.add("lstm", 3, [*curve(0.1, 0)[:-1], math.nan], axes=axes, status="diverged", diverged_at=EPOCHS - 1)
    study.add("lstm", 0, [math.nan], name="all", axes=axes | {"data.window": 2}, status="diverged", diverged_at=0)
    runs = load(tmp_path).runs
    figure = figures.heat_map(runs, "last_loss", "model.units", "data.window", figures.Style(runs))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "–"]


def test_flags_give_the_config_again(tmp_path):
    made = Study(tmp_path, 3, {"model.cell": ("lstm", "gru"), "data.periods,data.discount": (((10, 25.0), 0.9),)})
    made.add("gru", 0, curve(1, 0.1), axes={"model.cell": "gru", "data.periods": [10, 25.0], "data.discount": 0.9})
    _, markdown = made.write()
    blocks = [re.sub("^    ", "", block, flags=re.MULTILINE) for block in markdown.split("\n\n") if block[:4] == "    "]
    (tmp_path / "again.py").write_text(blocks[-2] + "\n")
    program, *flags = shlex.split(blocks[-1].replace("\\\n", ""))[2:]
    assert (program, flags.pop(0)) == ("rnn_compare.main", "--config=again.py")
    again = config.load(str(tmp_path / "again.py"), [flag.removeprefix("--config.") for flag in flags])
    assert as_json(again) == made.config


def test_a_table_aligns_numbers_and_escapes_text():
    table = document.Table(["a", "b"], [["<b>", "1.5"], ["c|d", "–"]])
    assert '<td class="">&lt;b&gt;</td><td class="number">1.5</td>' in table.html()
    assert r"c\|d" in table.markdown()


def run(*arguments):
    command = [sys.executable, "-m", "rnn_compare.report", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_from_the_command_line(study, tmp_path):
    result = run(f"--workdir={study.folder}")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{study.folder}/report.html\n"
    for arguments, complaint in (
        ([], "--workdir is missing"),
        (["--wrokdir=x"], "wrokdir"),
        ([f"--workdir={tmp_path}/nothing"], "holds no study"),
    ):
        result = run(*arguments)
        assert result.returncode == 2
        assert complaint in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_a_sweep_of_very_many_settings_is_cut_where_it_is_drawn(tmp_path):
    discounts = tuple(round(0.9 + i / 10_000, 4) for i in range(130))
    study = Study(tmp_path, 1, {"model.cell": ("lstm", "gru"), "data.discount": discounts})
    for i, discount in enumerate(discounts):
        for cell in ("lstm", "gru"):
            study.add(cell, 0, curve(1, 0.1), f"{cell}-{i}", {"model.cell": cell, "data.discount": discount})
    html, _ = study.write()
    assert "The first 60 of 130 settings" in html
    assert html.count("? undecided") == 2 * 130
