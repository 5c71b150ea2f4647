import itertools
import json
import math
import os
import platform

import numpy as np
import pytest

from rnn_compare.config import UserError, validate
from rnn_compare.console import interrupt
from rnn_compare.report.reading import load
from rnn_compare.statistics.timing import ratio_of
from rnn_compare.study import execute, timing
from rnn_compare.study.expansion import expand
from rnn_compare.study.launch import Local
from rnn_compare.study.timing import write_speed
from rnn_compare.training import speed
from rnn_compare.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("no_figures")

GRU = 0.05  # seconds of an undisturbed epoch


class Machine:
    """A clock that only epochs move, and cohorts whose epochs take what `noise(now)` makes of it."""

    def __init__(self, monkeypatch, ratio=1.0, noise=lambda now: 1.0, base=GRU):
        self.now, self.epochs = 1000.0, []
        machine = self

        class Trainer:
            def __init__(self, runs):
                ((config, _),) = runs
                self.cell = config.model.cell
                self.seconds = base * (ratio if self.cell == "lstm" else 1)

            def compile(self):
                machine.now += 500

            def advance(self, epochs):
                machine.epochs.append((self.cell, epochs))
                machine.now += epochs * self.seconds * noise(machine.now)
                return {}

        monkeypatch.setattr(speed, "Trainer", Trainer)
        monkeypatch.setattr(speed, "perf_counter", lambda: self.now)


def with_cell(config, cell):
    other = config.copy_and_resolve_references().unlock()
    other.model.cell = cell
    return other.lock()


def measure(contestants, **how):
    """What is measured, and the LSTM's time over the GRU's."""
    result = speed.measure(contestants, **how)
    seconds = {f"{cell}_seconds": of for cell, of in result["seconds_of"].items()}
    ratio, low, high = ratio_of(np.array(seconds["lstm_seconds"]), np.array(seconds["gru_seconds"]))
    return result | seconds | {"ratio": ratio, "low": low, "high": high}


@pytest.fixture
def pair(tiny):
    tiny.train.chunk = 1
    return {cell: with_cell(tiny, cell) for cell in ("lstm", "gru")}


def shared_machine(seed):
    """Noise of 3%, and one sample in seven that takes up to three times as long."""
    rng = np.random.default_rng(seed)
    return lambda now: math.exp(rng.normal(0, 0.03)) * (rng.uniform(1, 3) if rng.random() < 1 / 7 else 1)


def test_a_known_ratio_is_found_on_a_steady_machine(pair, monkeypatch):
    machine = Machine(monkeypatch, 1.25)
    result = measure(pair, precision=0.01, limit=60)
    assert [result[key] for key in ("ratio", "low", "high")] == pytest.approx([1.25] * 3)
    assert result["pairs"] == len(result["lstm_seconds"]) == len(result["gru_seconds"]) == speed.FEWEST
    np.testing.assert_allclose(result["lstm_seconds"], 1.25 * GRU)
    assert result["seconds"] == pytest.approx(len(machine.epochs) / 2 * 2.25 * GRU)  # the compile not counted
    assert result["backend"] == "cpu"


def test_a_drift_cancels(pair, monkeypatch):
    """A machine that slows down by a third every second moves each pair by 2% or more, to either side at random."""
    Machine(monkeypatch, 1.02, lambda now: 1.35 ** (now - 2000))
    result = measure(pair, precision=1e-6, limit=10)
    logs = np.log(np.divide(result["lstm_seconds"], result["gru_seconds"]))
    assert np.ptp(logs) > 0.02
    assert result["ratio"] == pytest.approx(1.02, rel=0.02)  # of some sixty pairs, each 7% off to either side
    assert result["low"] < 1.02 < result["high"]


def test_outliers_do_not_move_the_ratio(pair, monkeypatch):
    Machine(monkeypatch, 1.04, shared_machine(0))
    result = measure(pair, precision=0.01, limit=600)
    assert result["low"] < 1.04 < result["high"]
    assert result["ratio"] == pytest.approx(1.04, rel=0.01)
    lstm = np.full(40, 0.05)
    lstm[::5] = 9.0
    assert ratio_of(lstm, np.full(40, 0.04))[0] == pytest.approx(1.25)


def test_ends_when_the_interval_is_narrow_at_the_first_look_at_which_it_is(pair, monkeypatch):
    for precision in (0.005, 0.01, 0.03):
        Machine(monkeypatch, 1.04, shared_machine(1))
        result = measure(pair, precision=precision, limit=600)
        looks = [speed.FEWEST]
        while looks[-1] < result["pairs"]:
            looks.append(math.ceil(speed.GROWTH * looks[-1]))
        widths = []
        for pairs in looks:
            ratio, low, high = ratio_of(*(np.array(result[key][:pairs]) for key in ("lstm_seconds", "gru_seconds")))
            widths.append((high - low) / 2 / ratio)
        assert [width <= precision for width in widths] == [False] * (len(looks) - 1) + [True]
        assert (ratio, low, high) == (result["ratio"], result["low"], result["high"])


@pytest.mark.parametrize(("limit", "pairs"), [(0.001, 2), (1.0, 8)])
def test_ends_when_the_time_is_over(pair, monkeypatch, limit, pairs):
    Machine(monkeypatch, noise=shared_machine(2))
    result = measure(pair, precision=1e-9, limit=limit)
    assert 2 <= result["pairs"] <= pairs
    assert all(math.isfinite(result[key]) for key in ("ratio", "low", "high"))
    assert pairs == 2 or limit <= result["seconds"] < limit + 2 * 3.5 * GRU


def test_the_order_within_pairs_is_random(pair, monkeypatch):
    machine = Machine(monkeypatch, noise=shared_machine(3))
    result = measure(pair, precision=0.01, limit=60)
    samples = [cell for cell, _ in machine.epochs[-2 * result["pairs"] :]]
    assert all(a != b for a, b in zip(samples[::2], samples[1::2], strict=True))
    first = "".join(cell[0] for cell in samples[::2])
    assert 0.25 < first.count("l") / len(first) < 0.75
    assert {"ll", "lg", "gl", "gg"} <= {a + b for a, b in itertools.pairwise(first)}


@pytest.mark.slow
def test_a_load_that_comes_and_goes_keeps_step_with_no_cell(pair, monkeypatch):
    """Every fourth sample is slow. By turns that was the LSTM's each time, and no interval held the ratio."""
    held = 0
    for seed in range(60):
        samples, rng = itertools.count(seed), np.random.default_rng(seed)
        noise = lambda now, n=samples, r=rng: math.exp(r.normal(0, 0.02)) * (1.3 if next(n) % 4 == 0 else 1)  # noqa: E731
        Machine(monkeypatch, 1.04, noise)
        result = measure(pair, precision=1e-9, limit=6)
        held += result["low"] < 1.04 < result["high"]
    assert held / 60 > 0.85


def test_a_sample_is_a_dispatch_as_in_training(tiny, monkeypatch):
    machine = Machine(monkeypatch, 1.25)
    result = measure({cell: with_cell(tiny, cell) for cell in ("lstm", "gru")}, precision=0.01, limit=60)
    assert {epochs for _, epochs in machine.epochs} == {3}
    np.testing.assert_allclose(result["gru_seconds"], GRU)  # per epoch


def test_of_short_epochs_a_sample_is_several_dispatches(tiny, monkeypatch):
    machine = Machine(monkeypatch, 1.25, base=0.003)
    result = measure({cell: with_cell(tiny, cell) for cell in ("lstm", "gru")}, precision=0.01, limit=60)
    assert sorted(machine.epochs[-8:]) == [("gru", 3)] * 4 + [("lstm", 3)] * 4
    assert 12 * 0.003 >= speed.SAMPLE > 6 * 0.003
    np.testing.assert_allclose(result["gru_seconds"], 0.003)


@pytest.mark.slow
def test_intervals_hold_the_ratio_as_often_as_they_say(pair, monkeypatch):
    """Of 300 intervals at which a measurement ended, on a machine with outliers."""
    held = 0
    for seed in range(300):
        Machine(monkeypatch, 1.04, shared_machine(seed))
        result = measure(pair, precision=0.015, limit=600)
        held += result["low"] < 1.04 < result["high"]
    assert 0.91 <= held / 300 <= 0.985


@pytest.mark.parametrize("pairs", [2, 3, 4, 8])
def test_intervals_of_few_pairs_hold_the_ratio_too(pairs):
    """Four are the worst (0.92 of normal noise): both of their outer ones are cut off."""
    rng = np.random.default_rng(pairs)
    ends = [ratio_of(*np.exp(rng.normal(0, 0.03, (2, pairs))))[1:] for _ in range(1000)]
    assert np.mean([low < 1 < high for low, high in ends]) > 0.92 - 3 * math.sqrt(0.92 * 0.08 / 1000)


def test_a_signal_ends_it_between_samples(pair, monkeypatch):
    machine = Machine(monkeypatch)
    monkeypatch.setattr(interrupt, "_asked", [2])
    with pytest.raises(interrupt.Interrupted):
        measure(pair, precision=0.01, limit=60)
    assert machine.epochs == []


KEYS = ["backend", "device", "pairs", "seconds_of", "seconds"]
WHERE = ["host", "cpu", "cores"]


@pytest.mark.slow
def test_a_study_measures_once(tiny, tmp_path, capsys, monkeypatch):
    tiny.sweep = {"model.cell": ("lstm", "gru"), "data.discount": (0.9, 0.95)}
    measured = []

    def note(contestants, precision, limit):
        cells = [(name, config.model.cell, config.data.discount) for name, config in contestants.items()]
        measured.append((cells, precision, limit))
        return own(contestants, precision, limit)

    own = speed.measure
    monkeypatch.setattr(speed, "measure", note)
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert not (tmp_path / "speed.json").exists()  # the limit is 0
    tiny.speed.limit = 0.5
    assert execute(validate(tiny), tmp_path, dry_run=False)
    (result,) = json.loads((tmp_path / "speed.json").read_text())
    assert list(result) == ["train.backend", "setting", "limit", "precision", *KEYS, *WHERE]
    assert list(result.values())[:4] == ["auto", {}, 0.5, 0.005]
    lstm, gru = result["seconds_of"].values()
    assert result["pairs"] == len(lstm) == len(gru) >= 2
    assert all(0 < seconds < 1 for seconds in lstm + gru)
    said = capsys.readouterr().out
    assert "measuring the speed of 2 contestants, backend auto, at most 0." in said
    assert f" s; {result['pairs']} rounds, on {platform.node()} (" in said
    where = f"device cpu, processor {result['cpu']}, {os.cpu_count()} cores of it, on {platform.node()}"
    assert (tmp_path / "report.md").read_text().count(where) == 1
    before = (tmp_path / "speed.json").stat().st_mtime_ns
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert (tmp_path / "speed.json").stat().st_mtime_ns == before
    ((*what, limit),) = measured
    assert what == [[("lstm", "lstm", 0.9), ("gru", "gru", 0.9)], 0.005]
    trained = sum(np.load(path)["seconds_per_epoch"].sum() for path in tmp_path.glob("*/curves.npz"))
    assert limit == pytest.approx(min(0.5, trained))  # no longer than training took


@pytest.fixture
def measured(monkeypatch):
    """What was measured in a study whose runs have all ended, instead of training and measuring."""
    calls = []

    def measure(contestants, precision, limit):
        lstm, gru = contestants.values()
        calls.append((lstm.train.backend, gru.train.backend, lstm.data.discount, limit, precision))
        seconds = {"lstm": [0.2, 0.2], "gru": [0.1, 0.1]}
        return {"backend": lstm.train.backend, "device": "a box", "pairs": 2, "seconds_of": seconds, "seconds": 1.0}

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(timing, "ended", lambda *_, **__: True)
    monkeypatch.setattr(timing, "training_seconds", lambda *_: 100.0)
    return calls


def test_each_backend_is_measured_and_again_when_more_is_asked_for(tiny, tmp_path, measured, monkeypatch):
    tiny.sweep = {"model.cell": ("lstm", "gru"), "data.discount": (0.9, 0.95), "train.backend": ("cpu", "scan")}
    tiny.speed.limit = 0.5

    def backends():
        write_speed(validate(tiny), expand(validate(tiny)), tmp_path, Local().call)
        found = json.loads((tmp_path / "speed.json").read_text())
        said = [(entry["train.backend"], entry["limit"], entry["precision"]) for entry in found]
        calls, measured[:] = list(measured), []
        return said, calls

    monkeypatch.setattr(timing, "cpu", lambda: "AMD EPYC, znver5")
    both = [("cpu", 0.5, 0.005), ("scan", 0.5, 0.005)]
    assert backends() == (both, [(name, name, 0.9, 0.5, 0.005) for name in ("cpu", "scan")])
    assert backends() == (both, [])
    tiny.speed.precision = 0.001
    finer = [("cpu", 0.5, 0.001), ("scan", 0.5, 0.001)]
    assert backends() == (finer, [(name, name, 0.9, 0.5, 0.001) for name in ("cpu", "scan")])
    content = json.loads((tmp_path / "speed.json").read_text())
    assert [entry["cpu"] for entry in content] == 2 * ["AMD EPYC, znver5"]
    (tmp_path / "speed.json").write_text(json.dumps(content[1:]))  # as if it had been killed between the two
    assert backends() == (finer[::-1], [("cpu", "cpu", 0.9, 0.5, 0.001)])


def test_more_contestants_than_a_process_holds_are_not_measured(tiny, tmp_path, measured, monkeypatch, capsys):
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    tiny.speed.limit = 0.5
    monkeypatch.setattr(timing, "MOST_AT_ONCE", 1)
    write_speed(validate(tiny), expand(validate(tiny)), tmp_path, Local().call)
    assert "the speed of 2 contestants is not measured: 1 at once are the most" in capsys.readouterr().out
    assert measured == []


@pytest.mark.parametrize("text", ["{", "{}", "[3]", "[{}]", '{"backend": "cpu", "pairs": 3}'])
def test_a_damaged_measurement_is_named(tiny, tmp_path, measured, text):
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    tiny.speed.limit = 0.5
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(UserError, match=r"speed\.json cannot be read") as error:
        write_speed(validate(tiny), expand(validate(tiny)), tmp_path, Local().call)
    assert "\n" not in str(error.value)
    assert measured == []


@pytest.mark.slow
def test_backends_that_are_compared_are_timed_in_turn(tiny, tmp_path):
    tiny.speed.limit, tiny.speed.precision = 0.2, 0.5
    tiny.sweep = {"train.backend": ("cpu", "scan")}
    tiny.compare.axis = "train.backend"
    execute(validate(tiny), tmp_path, dry_run=False)
    (measured,) = json.loads((tmp_path / "speed.json").read_text())
    assert measured["backend"] == "cpu and scan"
    assert {name: len(of) for name, of in measured["seconds_of"].items()} == dict.fromkeys(
        ("cpu", "scan"), measured["pairs"]
    )
    results = load(tmp_path)
    assert all(results.epoch_seconds(run) > 0 for run in results.runs)


@pytest.mark.slow
def test_a_study_of_one_cell_measures_nothing(tiny, tmp_path):
    tiny.speed.limit = 60.0
    assert execute(validate(tiny), tmp_path, dry_run=False)
    assert not (tmp_path / "speed.json").exists()


def test_a_sample_trains_as_many_epochs_as_it_says(tiny):
    cohort = Trainer([(tiny, 0)])
    cohort.compile()
    assert speed.seconds_per_epoch(cohort, 5, 3) > 0
    assert {int(leaf[0]) for name, leaf in cohort.snapshot().items() if name.endswith("count")} == {5}


def test_all_are_measured_again_when_one_more_is_compared(tiny, tmp_path, monkeypatch):
    calls = []

    def measure(contestants, precision, limit):
        calls.append(list(contestants))
        return {
            "backend": "cpu",
            "device": "a box",
            "pairs": 2,
            "seconds_of": {name: [0.1, 0.1] for name in contestants},
        }

    monkeypatch.setattr(speed, "measure", measure)
    monkeypatch.setattr(timing, "ended", lambda *_, **__: True)
    monkeypatch.setattr(timing, "training_seconds", lambda *_: 100.0)
    tiny.speed.limit = 0.5
    for units in ((4, 8), (4, 8), (4, 8, 16)):
        tiny.compare.axis, tiny.sweep = "model.units", {"model.units": units, "data.window": (1, 2)}
        write_speed(validate(tiny), expand(validate(tiny)), tmp_path, Local().call)
    assert calls == 2 * [["4", "8"]] + 2 * [["4", "8", "16"]]  # at both windows, which change the program
    found = json.loads((tmp_path / "speed.json").read_text())
    assert [entry["setting"] for entry in found] == [{"data.window": 1}, {"data.window": 2}]
