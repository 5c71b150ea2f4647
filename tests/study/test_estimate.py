import pytest

from rnn_compare.config import validate
from rnn_compare.study import estimate, execute


def test_what_can_be_afforded_is_timed_whole_and_the_rest_is_reckoned(tiny, monkeypatch):
    timed = []

    def note(config, runs):
        timed.append((config.data.length, runs))
        return 1e-3 * config.data.length * runs

    monkeypatch.setattr(estimate, "timed", note)
    config = validate(tiny)
    assert estimate.seconds_per_epoch(config, 3) == pytest.approx(0.06)
    monkeypatch.setattr(estimate, "AFFORDABLE", estimate.guessed(config, 1) * 1.5)
    assert estimate.seconds_per_epoch(config, 3) == pytest.approx(0.06)
    monkeypatch.setattr(estimate, "AFFORDABLE", estimate.guessed(config, 1) / 2)
    assert estimate.seconds_per_epoch(config, 3) == pytest.approx(0.06)
    assert timed == [(20, 3), (20, 1), (10, 1)]


def test_the_scan_is_guessed_to_be_slower(tiny):
    fused = estimate.guessed(validate(tiny), 1)
    tiny.train.backend = "scan"
    assert estimate.guessed(validate(tiny), 1) > 2 * fused


def test_a_dry_run_says_more_than_zero(pair, tmp_path, capsys):
    pair.speed.limit = 9.0
    assert execute(validate(pair), tmp_path, dry_run=True)
    *_, lstm, gru, last = capsys.readouterr().out.splitlines()
    for line, name in ((lstm, "lstm-s0"), (gru, "gru-s0")):
        assert line.startswith(f"{name}: about ")
        assert float(line.split("about ")[1].split()[0]) > 0
    assert last.startswith("in all about ")
    assert "to measure the speed" in last


def test_a_timed_dispatch_is_as_in_training_if_that_is_short(tiny, monkeypatch):
    """Of a program whose epochs take 0.4 s: one to warm up, then as many as take a second, at most a chunk."""
    now, dispatched = [0.0], []

    def train(state, batch, epochs, runs):
        now[0] += 0.4 * epochs + (5.0 if not dispatched else 0.0)
        dispatched.append(epochs)
        return state, {}

    monkeypatch.setattr(estimate, "perf_counter", lambda: now[0])
    monkeypatch.setattr(estimate, "program", lambda config, runs: train)
    assert estimate.timed(validate(tiny), 1) == pytest.approx(0.4)
    assert dispatched == [1, 1, 2]
    dispatched.clear()
    monkeypatch.setattr(estimate, "DISPATCH", 100.0)
    assert estimate.timed(validate(tiny), 1) == pytest.approx(0.4)
    assert dispatched[-1] == tiny.train.chunk
