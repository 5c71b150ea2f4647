import math
import re
import shutil

import pytest


def test_a_study_that_is_still_running(study):
    shutil.rmtree(study.folder / "gru-s9")
    (study.folder / "checkpoints").mkdir()
    html, markdown = study.write()
    for text in (html, markdown):
        assert "19 of 20 runs have ended. Not finished: 1; all that follows is provisional" in text
    assert "too few pairs of runs (9)" in html


def test_a_study_of_which_no_run_has_ended_yet(make_study):
    html, _ = make_study(2).write()
    assert "0 of 4 runs have ended" in html
    assert "<img" not in html


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
        [99, expected[0], end * math.exp(0.05), end, 1.25, 0.05, 0.25], abs=1e-3
    )


def test_times_are_summed_over_runs(study):
    html, _ = study.write()
    assert "All training together took 2 min" in html  # 20 runs of 24 epochs of 0.25 s


def test_every_measure_is_compared_by_its_ratio_or_its_difference(make_study):
    study = make_study(7)
    for seed in range(7):
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
        assert float(row[2]) == pytest.approx(effect, rel=1e-3)
        assert row[3:5] == ["all pairs alike", "6"]
    assert [row[5:] for row in rows] == [["100%", "0.03125"]] * 8 + [["50%", "1"]]


def test_the_terminal_shows_what_the_verdicts_compare(study):
    head, _, *rows = study.summary().splitlines()
    assert [name.strip() for name in head.split("|")[1:-1]] == [
        "run", "parameters", "final loss", "last loss", "best loss", "held-out loss", "volatility", "s/epoch", "status"
    ]  # fmt: skip
    assert sum(row.startswith("| ") for row in rows) == 20
    assert "Final loss: the median of the last 10 epochs; volatility: the mean change of log loss" in study.summary()


def test_unfinished_runs_are_listed_with_what_they_have_shown(study, curve):
    shutil.rmtree(study.folder / "gru-s8")
    shutil.rmtree(study.folder / "gru-s9")
    study.begin("gru", 9, curve(0.9, 0.1)[:13])
    html, markdown = study.write()
    assert "18 of 20 runs have ended. Not finished: 2, 1 of them begun; all that follows is provisional" in markdown
    row = next(line for line in markdown.splitlines() if line.startswith("| [gru-s9]"))
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells == [
        "[gru-s9](gru-s9/)",
        "unfinished, at epoch 13 of 24",
        "–",
        "–",
        "0.9",
        "–",
        "0.9",
        "–",
        "–",
        "0.25",
        "–",
    ]
    assert "unfinished, at epoch 13 of 24" in html
    assert "8 of 8" in markdown  # of the GRU's that ended, in the table of distributions


def test_a_study_in_which_no_run_has_ended_shows_its_curves(make_study, curve):
    study = make_study(2)
    study.begin("lstm", 0, curve(1, 0.1)[:9])
    html, markdown = study.write(drawn=True)
    assert "0 of 4 runs have ended. Not finished: 4, 1 of them begun" in markdown
    assert html.count("<figure") == 1
    assert "Speed" not in markdown


def test_no_more_problems_are_listed_than_one_reads(study):
    for path in study.folder.glob("*/predictions.npz"):
        path.unlink()
    study.add("lstm", 0, [], "extra")
    (study.folder / "extra" / "curves.npz").unlink()
    (study.folder / "speed.json").write_text("{")
    _, markdown = study.write()
    assert markdown.count(" away and give the same command") == 20
    assert "2 more are not listed." in markdown


def test_what_the_learnt_values_earn_is_said_beside_the_best_possible(make_study, curve):
    study = make_study(7)
    for seed in range(7):
        for cell, profit in {"lstm": 40.0, "gru": 60.0}.items():
            study.add(cell, seed, curve(1, 0.1),
                      policy={"profit": profit + seed, "trades": 12.0, "best_profit": 126.0})  # fmt: skip
    _, markdown = study.write()
    assert "## What it earns" in markdown
    (row,) = re.findall(r"^\| all +\| gru +\| 99 +\| 7 +\| 63 .*$", markdown, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[6:] == ["126", "63", "50%", "12"]
    low, high = map(float, cells[5].split(" to "))
    assert low < 63 < high


def test_a_study_of_an_earlier_version_says_nothing_of_what_it_earns(study):
    assert "What it earns" not in study.write()[1]
