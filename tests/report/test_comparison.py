import csv
import io
import json

import pytest

from rnn_compare.report.reading import load
from rnn_compare.statistics.paired import paired

UNITS = {"model.units": (4, 8, 16), "data.window": (1, 2)}


@pytest.fixture
def units(make_study, curve):
    """A study of three sizes in two settings, ten seeds each, in which eight units are best."""
    study = make_study(10, UNITS)
    study.config |= {"compare.axis": "model.units", "claims.list": []}
    (study.folder / "config.json").write_text(json.dumps({"format": 1, **study.config}))
    for window in UNITS["data.window"]:
        for size, level in {4: 2.0, 8: 0.5, 16: 1.0}.items():
            for seed in range(10):
                axes = {"model.units": size, "data.window": window}
                study.add("lstm", seed, curve(level * 1.05 ** (-1) ** seed * 1.1**seed, 0.1),
                          f"lstm-{size}-{window}-s{seed}", axes)  # fmt: skip
    return study


def test_any_axis_is_compared_and_the_others_are_settings(units):
    results = load(units.folder)
    assert results.contestants == ["4", "8", "16"]
    assert list(results.labels().values()) == ["#1 window 1", "#2 window 2"]
    _, markdown = units.write()
    assert "3 contestants compared" in markdown
    assert "8 (1)" in markdown
    assert "16 (2)" in markdown
    assert "4 (3)" in markdown
    assert "Nemenyi" in markdown
    assert "The study states no claims" in markdown


def test_a_single_setting_shows_places_and_each_against_each(study):
    study.lose("lstm-s3")
    _, markdown = study.write()
    assert "## All compared with each other" in markdown
    assert "lower in 100%" in markdown
    assert "9 of 10" in markdown


def test_the_tables_for_programs_say_what_the_report_says(study, curve):
    study.lose("gru-s4")
    study.write()
    rows = list(csv.DictReader(io.StringIO((study.folder / "results.csv").read_text())))
    assert len(rows) == 20
    assert {row["contestant"] for row in rows} == {"lstm", "gru"}
    assert [row["status"] for row in rows if row["run"] == "gru-s4"] == ["diverged"]
    losses = {cell: [float(row["final_loss"]) for row in rows if row["contestant"] == cell and row["seed"] != "4"]
              for cell in ("lstm", "gru")}  # fmt: skip
    by_hand = paired(losses["lstm"], losses["gru"])
    content = json.loads((study.folder / "report.json").read_text())
    (verdicts,) = content["verdicts"].values()
    assert verdicts[0]["claim"] == "The GRU ends at the lower loss"
    assert verdicts[0]["effect"] == pytest.approx(by_hand.effect)
    assert [verdicts[0]["low"], verdicts[0]["high"]] == pytest.approx([by_hand.low, by_hand.high])
    (pairs,) = content["pairs"].values()
    assert [(pair["a"], pair["b"]) for pair in pairs] == [("lstm", "gru")]  # once: the other way round is 1 / effect
    (ranking,) = content["ranking"].values()
    assert ranking[0]["contestant"] == "gru"
