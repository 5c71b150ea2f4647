import sys

import pytest

from rnn_compare import study
from rnn_compare.config import UserError, validate
from rnn_compare.study.launch import Local

pytestmark = pytest.mark.usefixtures("no_figures")


def test_local_goes_on_after_a_failure(tmp_path, capsys, board, cohort):
    trained = []

    def train(runs, workdir, store, show):
        if runs[0].name == "bad":
            raise MemoryError("too large")
        trained.append((runs[0].name, workdir))

    Local().train([cohort("a"), cohort("bad"), cohort("b")], tmp_path, train, board)
    assert trained == [("a", tmp_path), ("b", tmp_path)]
    said = capsys.readouterr().out
    assert "bad failed" in said
    assert "MemoryError: too large" in said


def test_local_is_interrupted_at_once(tmp_path, board, cohort):
    def train(runs, *places):
        assert runs[0].name == "a"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Local().train([cohort("a"), cohort("b")], tmp_path, train, board)


def test_no_ray_is_one_sentence(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--launcher=ray needs Ray, which is not installed: pip install -e '.\[clus"):
        study.execute(validate(tiny), tmp_path / "new", dry_run=False, launcher="ray")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_cohort_that_was_lost_is_tried_again_by_the_same_command(tiny, tmp_path, capsys, monkeypatch):
    tiny.sweep = {"model.cell": ("lstm", "gru")}
    attempt = study.attempt

    def losing(runs, *places):
        if runs[0].config.model.cell == "lstm":
            raise MemoryError
        return attempt(runs, *places)

    monkeypatch.setattr(study, "attempt", losing)
    assert not study.execute(validate(tiny), tmp_path, dry_run=False)
    assert "1 of 2 runs have not ended" in capsys.readouterr().out
    assert "gru-s0" in (tmp_path / "summary.md").read_text()
    monkeypatch.setattr(study, "attempt", attempt)
    assert study.execute(validate(tiny), tmp_path, dry_run=False)
    assert "lstm-s0" in (tmp_path / "summary.md").read_text()


class Elsewhere(Local):
    """Trains here, but what is called is only noted: as if there were another machine."""

    def __init__(self):
        self.called = []

    def call(self, function, *args):
        self.called.append(function.__name__)
        return function(*args)


def test_what_depends_on_the_machine_is_asked_for_where_cohorts_are_trained(pair, tmp_path, monkeypatch):
    """Backends, cuts, the estimate and the speed: none of them is the driver's."""
    place = Elsewhere()
    monkeypatch.setitem(study.launch.LAUNCHERS, "elsewhere", lambda source: study.launch.nullcontext(place))
    pair.speed.limit = 0.01
    assert study.execute(validate(pair), tmp_path, dry_run=True, launcher="elsewhere")
    assert place.called == ["check_models", "refuse_edited", "cut", "say_estimate"]
    place.called.clear()
    assert study.execute(validate(pair), tmp_path, dry_run=False, launcher="elsewhere")
    assert place.called == ["check_models", "refuse_edited", "cut", "measure"]
