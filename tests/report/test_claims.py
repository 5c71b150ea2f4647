import json
import math
import re

import numpy as np
import pytest

from rnn_compare.config import KEYS
from rnn_compare.report import claims
from rnn_compare.statistics.interval import FEWEST
from rnn_compare.statistics.paired import Paired


def test_verdicts_have_the_numbers_that_one_gets_by_hand(study):
    lower, volatile, faster = study.judge()
    # The last ten epochs are five at the end and five above it: the median is the mean of both.
    effect = 0.8 * (1 + math.exp(0.05)) / (1 + math.exp(0.2))
    assert lower.result.effect == pytest.approx(effect, rel=1e-5)
    assert (lower.word, lower.result.n, lower.better, lower.left_out) == ("holds", 10, 1, 0)
    assert volatile.result.effect == pytest.approx(4, rel=1e-4)
    assert (volatile.word, volatile.better) == ("holds", 1)
    assert lower.result.p_value == pytest.approx(2 / 2**10)  # all ten on one side
    assert (faster.word, faster.decide) == ("undecided", "speed was not measured")
    html, markdown = study.write()
    for text in (html, markdown):
        assert "The GRU ends at the lower loss" in text
        assert f"{effect:.4g}" in text
        assert "it is decided, by 10 pairs of runs" in text
        assert re.search(r"Wilcoxon p(: |</dt><dd>)0.001953", text)
        assert "in 100% of the pairs" in text
        assert text.index("? undecided" if text == markdown else "?</span> undecided") < text.index(
            "Final loss: the median"
        )
    assert "✓</span> holds" in html
    assert "? undecided" in markdown


def test_runs_are_paired_by_their_seed_and_not_by_their_place(make_study, curve):
    """Seeds differ by orders of magnitude, cells by a fifth, and one cell lacks a seed: only right pairs tell."""
    study = make_study(12)
    for seed in range(12):
        study.add("lstm", seed, curve(1.5**seed, 0.2))
    for seed in reversed(range(1, 12)):
        study.add("gru", seed, curve(0.8 * 1.5**seed, 0.2))
    lower, *_ = study.judge()
    assert (lower.word, lower.result.n) == ("holds", 11)
    assert [lower.result.low, lower.result.high] == pytest.approx([0.8, 0.8], rel=1e-5)


def test_a_claim_that_does_not_hold_and_one_that_is_undecided(make_study, curve):
    study = make_study(10)
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


def test_with_too_few_seeds_nothing_is_judged(make_study, curve):
    study = make_study(7)
    for seed in range(7):
        study.add("lstm", seed, curve(1.0, 0.2))
        study.add("gru", seed, curve(0.5 + 0.01 * seed, 0.1))
    lower, _, _ = study.judge()
    assert lower.result.high < 1
    assert (lower.word, lower.decide) == ("undecided", "too few pairs of runs (7): at least 10 pairs of runs")


def test_no_verdict_is_given_of_pairs_too_few_for_an_interval_whatever_the_config_says(make_study, curve):
    study = make_study(5)
    study.config["claims.seeds"] = 2
    (study.folder / "config.json").write_text(json.dumps(study.config))
    for seed in range(5):
        study.add("lstm", seed, curve(1.0, 0.2))
        study.add("gru", seed, curve(0.5 + 0.01 * seed, 0.1))
    lower, volatile, _ = study.judge()
    assert (lower.word, lower.decide) == ("undecided", "too few pairs of runs (5): at least 6 pairs of runs")
    assert volatile.word == "undecided"
    assert claims.direction(lower) == "the GRU's loss is lower, by 50.7%, which may be chance"
    html, markdown = study.write()
    for text in (html, markdown):
        assert "with fewer than 6 pairs of runs" in text
        assert "Of fewer than 6 pairs of runs, or where nearly all are alike, there is no interval" in text
    assert "- 95% interval: no interval" in markdown
    assert KEYS["claims.seeds"].meaning.endswith(f"; {FEWEST} at the least")


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(1.03, 1.045, "holds"), (1.0, 1.02, "does not hold"), (1.05, 1.07, "does not hold"), (1.02, 1.04, "undecided")],
)
def test_speed_is_judged_by_the_measured_interval(study, low, high, word):
    study.speed(auto=(low, high), scan=(2.0, 2.1))
    faster = study.judge()[2]
    assert (faster.word, faster.result.n) == (word, 40)
    assert [faster.result.low, faster.result.high] == pytest.approx([low, high])
    assert faster.claim.title == "The GRU trains 3.84% faster"
    assert faster.claim.bounds == pytest.approx((1.0284, 1.0484))
    html, _ = study.write()
    assert "for this machine and backend; on others it is another" in html
    assert "<dt>measured on</dt><dd>backend cpu, device a box</dd>" in html


def test_the_speed_is_said_with_the_processor_that_it_was_measured_on(study):
    study.speed(auto=(1.03, 1.04))
    path = study.folder / "speed.json"
    (about,) = json.loads(path.read_text())
    path.write_text(json.dumps([about | {"cpu": "AMD EPYC, znver5"}]))
    html, _ = study.write()
    assert "<dt>measured on</dt><dd>backend cpu, device a box, processor AMD EPYC, znver5</dd>" in html
    assert "auto; backend cpu, device a box, processor AMD EPYC, znver5." in html


def test_pairs_with_a_run_that_diverged_are_left_out_and_counted(study):
    study.lose("gru-s4")
    lower = study.judge()[0]
    assert (lower.result.n, lower.left_out, lower.word) == (9, 1, "undecided")
    html, _ = study.write()
    assert "<dd>9; 1 left out (LSTM diverged in 0, GRU in 1)</dd>" in html
    assert "diverged at epoch 7" in html
    assert "1 of them diverged and 0 failed" in html


def test_a_loss_that_never_moves_has_no_volatility_to_compare(study, make_study):
    study.add("lstm", 0, np.ones(make_study.epochs), name="flat")  # in the place of lstm-s0: the last one counts
    (study.folder / "lstm-s0" / "run.json").unlink()
    lower, volatile, _ = study.judge()
    assert (lower.result.n, lower.why) == (10, "")
    assert (volatile.result.n, volatile.why) == (9, "LSTM has no such measure in 1, GRU in 0")


def test_a_left_out_pair_says_how_its_runs_ended():
    assert claims.why({"lstm": ["diverged", "diverged", "failed"], "gru": ["diverged"]}) == (
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
    claim = claims.Claim("", "", (0, 1), "", "final_loss", "gru", "lstm", "gru", ("lower", "higher"))
    assert claims.what_decides(claim, paired, "undecided", "seeds", least).startswith(words)


def test_rounding_up():
    assert [claims.round_up(n) for n in (7, 23, 99, 101, 137, 1234)] == [7, 23, 99, 110, 140, 1300]


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.17, 1.19, "the GRU is faster, by 18%, but not by the claim's 3.84%"),
        (1.005, 1.015, "the GRU is faster, by 0.999%, but by less than the claim's 3.84%"),
        (0.94, 0.96, "the GRU is slower, by 5.01%, where the claim's is faster, by 3.84%"),
        (
            0.99,
            1.02,
            "the GRU is faster, by 0.489%, which may be chance, but by less than the claim's 3.84%",
        ),
        (1.035, 1.045, "the GRU is faster, by 4%"),
        (1.02, 1.06, "the GRU is faster, by 3.98%"),
        (1.0, 1.0, "no difference was found"),
    ],
)
def test_the_direction_of_a_speed_is_said_whatever_the_verdict(study, low, high, words):
    study.speed(auto=(low, high))
    faster = study.judge()[2]
    assert claims.direction(faster) == words
    html, markdown = study.write()
    for text in (html.replace("&#x27;", "'"), markdown, study.summary()):
        assert words in text


def test_the_direction_of_a_measure_is_said(study):
    lower, volatile, faster = study.judge()
    assert claims.direction(lower).startswith("the GRU's loss is lower, by 2")
    assert claims.direction(volatile) == "the LSTM's loss is more volatile, by 300%"
    assert claims.direction(faster) == "nothing was compared"


def test_a_run_that_has_not_ended_takes_no_part(study, curve):
    before = study.judge()
    study.config["seeds"] = 12
    (study.folder / "config.json").write_text(json.dumps(study.config))
    study.begin("lstm", 10, curve(0.01, 0.2))
    study.add("gru", 10, curve(1.0, 0.2))
    study.begin("lstm", 11, curve(0.01, 0.2))
    after = study.judge()
    assert [(v.word, v.result, v.left_out) for v in after[:2]] == [(v.word, v.result, v.left_out) for v in before[:2]]
