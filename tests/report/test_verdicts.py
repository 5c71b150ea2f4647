import math
import re

import pytest

from rnn_compare.report import claims, figures, verdicts
from rnn_compare.report.reading import load


def test_each_setting_has_its_verdict(tmp_path, make_study, curve):
    ends = {0.9: 0.5, 0.95: 2.0, 0.99: 0.5}
    study = make_study(10, {"model.cell": ("lstm", "gru"), "data.discount": tuple(ends)})
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
    assert lower[0].pop(2) == f"the GRU's loss is lower, by {100 * (1 - effect):.3g}%"
    assert float(lower[0].pop(2)) == pytest.approx(effect, rel=1e-3)
    low, high = map(float, lower[0].pop(2).split(" to "))
    assert effect / 1.01 < low < effect < high < effect * 1.01
    assert lower[0] == [
        "#1 discount 0.9",
        "✓ holds",
        "below 1",
        "10",
        "0",
        "100%",
        "0.001953",
        "it is decided, by 10 pairs of runs",
    ]
    assert lower[1][:2] == ["#2 discount 0.95", "✗ does not hold"]
    assert lower[1][8] == "0%"
    assert lower[2][:2] == ["#3 discount 0.99", "? undecided"]
    assert lower[2][6:8] == ["9", "1 (GRU diverged in 1, LSTM in 0)"]
    assert lower[2][10] == "too few pairs of runs (9): at least 10 pairs of runs"
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


def test_speed_is_that_of_a_runs_own_backend_and_shown_once(tmp_path, make_study, curve):
    backends, discounts = ("scan", "cpu"), (0.9, 0.95)
    study = make_study(1, {"model.cell": ("lstm", "gru"), "train.backend": backends, "data.discount": discounts})
    for backend in backends:
        for discount in discounts:
            for cell in ("lstm", "gru"):
                study.add(cell, 0, curve(1, 0.1), f"{cell}-{backend}-{discount}",
                          {"model.cell": cell, "train.backend": backend, "data.discount": discount})  # fmt: skip
    study.speed(scan=(1.03, 1.04), cpu=(1.2, 1.3))
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


def test_what_makes_a_wrong_verdict_more_likely_is_said_beside_the_verdicts(study):
    study.speed(auto=(1.02, 1.05))
    for text in study.write():
        assert "about" in text
        assert "To add seeds, or to raise speed.limit, until a verdict comes makes a wrong one more likely." in text
        assert verdicts.TRUST in text


def test_a_study_of_one_cell_has_no_verdicts(make_study, curve):
    study = make_study(2, {"model.cell": ("lstm", "gru_reset_before")})
    for cell in ("lstm", "gru_reset_before"):
        study.add(cell, 0, curve(1, 0.1))
    html, _ = study.write()
    assert "No claim can be judged" in html
    assert "<article" not in html


def test_what_a_claim_needs_stands_beside_its_verdict(study):
    study.speed(auto=(1.17, 1.2))
    html, markdown = study.write()
    for needs in ("below 1", "above 1", "between 1.0284 and 1.0484"):
        assert f"<dt>the claim needs</dt><dd>{needs}</dd>" in html
        assert f"- the claim needs: {needs}" in markdown
        assert f"the claim needs {needs})" in study.summary()
