"""A worker, called in this process as Ray calls it in another."""

from pathlib import Path

import pytest

from rnn_compare.config import UserError
from rnn_compare.console import interrupt
from rnn_compare.console.terminal import say
from rnn_compare.study import fit, worker
from rnn_compare.study.source import Source
from rnn_compare.study.worker import Worker, gather
from rnn_compare.workdir.checkpoint import Checkpoint


@pytest.fixture
def here(monkeypatch):
    """A worker."""
    monkeypatch.setenv("NPROC", "1")  # which it sets; afterwards it is as it was
    monkeypatch.setattr(worker, "PAUSE", 0.0)
    yield Worker(Source(), 1)
    interrupt._asked.clear()


def test_what_is_called_returns_and_says(here):
    assert here.call(lambda x: say("one", "two") or x + 1, 3) == (4, ["one", "two"])


def test_all_that_a_cohort_does_is_news(here, cohort):
    def train(runs, folder, store, show):
        assert store.restore().epoch == 3
        show(3)
        say("goes on")
        store.save(Checkpoint(5, {}, {}))
        for path in ("a/run.json", "a/events", "b/run.json", "checkpoints/x/runs.json", "c/run.json"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(path)
        return True

    here.train(train, cohort("a", "b"), Checkpoint(3, {}, {}))
    sent = {path: path.encode() for path in ("a/run.json", "a/events", "b/run.json")}
    assert here.news() == [
        ("shown", 3), ("said", "goes on"), ("saved", Checkpoint(5, {}, {})), ("trained", sent), ("ended", "done"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "news"),
    [
        (UserError("another cell"), ("refused", "another cell")),
        (interrupt.Interrupted(15), ("ended", "stopped")),
        (OSError("its disk is full"), ("ended", "failed")),
        (SystemExit(), ("ended", "failed")),
    ],
)
def test_however_a_cohort_ends_is_news(here, cohort, error, news):
    def train(*_):
        raise error

    here.train(train, cohort("a"), None)
    *said, last = here.news()
    assert last == news
    assert [kind for kind, *_ in said] == (["said"] if news == ("ended", "failed") else [])


@pytest.mark.slow
def test_asked_to_stop_it_sends_what_it_has_and_another_ends_with_the_same_bits(
    here, cohort, tmp_path, assert_same_results
):
    here.stop()
    here.train(fit.attempt, cohort("a", "b"), None)
    news = here.news()
    interrupt._asked.clear()
    (saved,) = (what for kind, what, *_ in news if kind == "saved")
    assert saved.epoch == 3
    assert news[-1] == ("ended", "stopped")
    for name, checkpoint in (("again", saved), ("whole", None)):
        here.train(fit.attempt, cohort("a", "b"), checkpoint)
        *news, (_, files), _ = here.news()
        gather(cohort("a", "b"), files, tmp_path / name)
        assert ("said", "a … b goes on from epoch 3") in news or not checkpoint
    assert_same_results(tmp_path / "again", tmp_path / "whole", ["a", "b"])


def test_gathering_replaces_an_unfinished_attempt(tmp_path, cohort):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "events.out.tfevents.old").write_text("half")
    files = {"a/run.json": b"{}", "a/events.out.tfevents.new": b"e", "a/curves.npz": b"c", "b/run.json": b"{}"}
    gather(cohort("a", "b"), files, tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_driver_that_dies_while_gathering_leaves_an_unfinished_run(tmp_path, monkeypatch, cohort):
    replace, files = Path.replace, {f"a/{name}": b"{}" for name in ("run.json", "curves.npz", "params.npz")}
    for survived in range(3):
        replaced = []

        def dying(path, target, replaced=replaced, survived=survived):
            if len(replaced) == survived:
                raise SystemExit
            replaced.append(target.name)
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", dying)
        with pytest.raises(SystemExit):
            gather(cohort("a"), files, tmp_path)
        assert not (tmp_path / "a" / "run.json").exists()
    monkeypatch.undo()
    gather(cohort("a"), files, tmp_path)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"run.json", "curves.npz", "params.npz"}


@pytest.mark.parametrize("name", ["/a/x", "../x", "a/../../x", "a/../b/x", "b/x", "a", "", ".", "a/..\\..\\x"])
def test_files_outside_the_run_folders_are_refused(tmp_path, name, cohort):
    with pytest.raises(ValueError, match=r"values|belongs to none"):
        gather(cohort("a"), {"a/curves.npz": b"", name: b""}, tmp_path)
    assert list(tmp_path.iterdir()) == []
