import jax
import pytest

from rnn_compare.config import validate
from rnn_compare.recurrence.gpu.race import Race
from rnn_compare.study import place
from rnn_compare.study.expansion import expand


@pytest.fixture
def restarts(monkeypatch):
    """Programs that were started again; the machine has a GPU."""
    started = []
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(place.os, "execve", lambda *args: started.append(args))
    monkeypatch.setattr(place.race, "beside", [])
    return started


@pytest.mark.parametrize(
    ("lstm", "gru", "restarted"),
    [
        ({"gpu": 1.0, "scan": 9.0, "cpu": 3.0}, {"gpu": 3.0, "scan": 9.0, "cpu": 2.0}, False),
        ({"scan": 9.0, "cpu": 3.0}, {"gpu": 3.0, "scan": 9.0, "cpu": 2.0}, True),
        ({"scan": 9.0, "cpu": 3.0}, {"gpu": 3.0, "scan": 9.0}, False),  # the processor has no kernel for one of them
    ],
)
def test_the_whole_study_goes_where_it_takes_less_time(
    pair, tmp_path, monkeypatch, restarts, capsys, lstm, gru, restarted
):
    pair.seeds = 2
    config = validate(pair)
    asked = []

    def race(step, _, x, carry, runs):
        asked.append(runs)
        return Race(lstm if "LSTM" in str(step) else gru, {}, 1)

    monkeypatch.setattr(place.race, "race", race)
    place.on_the_faster(expand(config), tmp_path)
    assert asked == [2, 2]
    assert bool(restarts) == restarted
    assert place.race.beside == [tmp_path / "races"]
    said = capsys.readouterr().out
    assert "gru-s0" in said
    assert "cpu 2e+06 µs a step" in said or "gpu 3e+06 µs a step" in said
    if restarted:
        ((_, command, environment),) = restarts
        assert command[1:] == place.sys.orig_argv[1:]
        assert environment["JAX_PLATFORMS"] == "cpu"
        assert "2.4 times as fast at this as" in said


def test_each_layer_is_raced_and_said_once(tiny, tmp_path, monkeypatch, restarts, capsys):
    """The first layer takes one input, those above it four each."""
    tiny.model.layers = 3
    seconds = {1: {"gpu": 1.0, "cpu": 2.0}, 4: {"gpu": 2.0, "cpu": 1.0}}
    monkeypatch.setattr(place.race, "race", lambda _, __, x, *___: Race(seconds[x.shape[-1]], {}, 1))
    place.on_the_faster(expand(validate(tiny)), tmp_path)
    first, second, faster = capsys.readouterr().out.splitlines()
    assert "gpu 1e+06 µs a step" in first
    assert "gpu 2e+06 µs a step" in second
    assert "1.2 times as fast" in faster  # 1 + 2 + 2 against 2 + 1 + 1
    assert len(restarts) == 1


def test_who_names_a_backend_has_chosen(tiny, tmp_path, monkeypatch, restarts):
    tiny.train.backend = "scan"
    monkeypatch.setattr(place.race, "race", None)
    place.on_the_faster(expand(validate(tiny)), tmp_path)


def test_without_a_gpu_nothing_is_asked(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(place.race, "race", None)
    place.on_the_faster(expand(validate(tiny)), tmp_path)
