import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from rnn_compare import config, report
from rnn_compare.config import UserError
from rnn_compare.report import claims, contents, document, figures
from rnn_compare.report.results import load
from rnn_compare.runs import as_json
from rnn_compare.stats import Paired

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

    def speed(self, ratios, low, high):
        gru = np.full(len(ratios), 0.05)
        ratio = float(np.exp(np.mean(np.log(ratios))))
        content = {"backend": "cpu", "device": "a box", "units": 16, "pairs": len(ratios), "ratio": ratio,
                   "low": low, "high": high, "lstm_seconds": list(gru * ratios), "gru_seconds": list(gru)}  # fmt: skip
        (self.folder / "speed.json").write_text(json.dumps(content))

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
        assert "0.001953 (Wilcoxon)" in text
        assert "in 100% of the pairs" in text
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
    study.speed(np.array([1.03, 1.04, 1.05, 0.99]), low, high)
    faster = study.judge()[2]
    assert (faster.word, faster.result.n, faster.gru_better) == (word, 4, 0.75)
    assert faster.claim.title == "The GRU trains 3.84% faster"
    assert faster.claim.bounds == pytest.approx((1.0284, 1.0484))
    html, _ = study.write()
    assert "the post&#x27;s number is from its own GPU; ours is for this machine and backend" in html
    assert "backend cpu, a box, 16 units" in html


def test_pairs_with_a_run_that_diverged_are_left_out_and_counted(study):
    path = study.folder / "gru-s4" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"status": "diverged", "diverged_at": 7}))
    lower = study.judge()[0]
    assert (lower.result.n, lower.left_out, lower.word) == (9, 1, "undecided")
    html, _ = study.write()
    assert "9; 1 left out" in html
    assert "diverged at epoch 7" in html
    assert "1 of them diverged and 0 failed" in html


def test_a_loss_that_never_moves_has_no_volatility_to_compare(study):
    study.add("lstm", 0, np.ones(EPOCHS), name="flat")  # in the place of lstm-s0: the last one counts
    (study.folder / "lstm-s0" / "run.json").unlink()
    assert study.judge()[1].result.n == 9


@pytest.mark.parametrize(
    ("paired", "least", "words"),
    [
        (Paired(10, 0.75, 0.5, 1.25, 1, 0), 10, "about 40 seeds"),  # twice as wide as it may be: 10 · 2²
        (Paired(10, 1.0, 0.8, 1.1, 1, 0), 10, "no number of seeds"),
        (Paired(4, 0.75, 0.5, 1.25, 1, 0), 10, "too few seeds (4): at least 16 seeds"),
        (Paired(0, *[math.nan] * 5), 10, "too few seeds (0): at least 10 seeds"),
    ],
)
def test_what_would_decide(paired, least, words):
    claim = claims.Claim("", "", (0, 1), "", "final_loss", "gru")
    assert claims.what_decides(claim, paired, "undecided", "seeds", least).startswith(words)


def test_rounding_up():
    assert [claims.round_up(n) for n in (7, 23, 99, 101, 137, 1234)] == [7, 23, 99, 110, 140, 1300]


def test_each_setting_has_its_verdict(tmp_path):
    study = Study(tmp_path, 10, {"model.cell": ("lstm", "gru"), "data.discount": (0.9, 0.95)})
    for discount, end in ((0.9, 0.5), (0.95, 2.0)):
        for seed in range(10):
            for cell, loss in (("lstm", 1.0), ("gru", end * 1.01 ** (-1) ** seed)):
                study.add(cell, seed, curve(loss, 0.1), f"{cell}-{discount}-{seed}",
                          {"model.cell": cell, "data.discount": discount})  # fmt: skip
    html, markdown = study.write()
    assert re.search(r"#1 discount 0.9 .*✓ holds.*\n.*#2 discount 0.95 .*✗ does not hold", markdown)
    assert "holds in 1, does not hold in 1, undecided in 0" in html


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
    runs = load(study.folder).runs
    axes = figures.loss({"all": runs}, figures.Style(runs)).axes[0]
    lines = {line.get_label(): line for line in axes.lines}
    median = lines["GRU, median of 10 seeds"]
    np.testing.assert_allclose(median.get_ydata()[-1], 0.8 * (1.05 + 1 / 1.05) / 2 * math.exp(0.05), rtol=1e-5)
    assert median.get_color() == lines["GRU in the post's figure 3"].get_color() == "#E66100"
    assert median.get_linestyle() != lines["LSTM, median of 10 seeds"].get_linestyle()
    assert len(axes.lines) == 2 + 2 + 20
    assert len(axes.collections) == 2


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
    flags = contents.overrides(load(tmp_path)).replace("'", "").replace(" \\\n", "\n").splitlines()
    (tmp_path / "plain.py").write_text("from rnn_compare.config import base as get_config\n")
    again = config.load(str(tmp_path / "plain.py"), [flag.removeprefix("--config.") for flag in flags])
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
    assert html.count("undecided (") == 2 * 130
